"""Is an instance well? One look at a time, over its own address, with a cause for people when it isn't.

The request is written by hand: an HTTP client would take longer to import than an instance takes to answer.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from instar.host.isolation import runc
from instar.model.definition import Health
from instar.process import Process
from instar.providers.base import Probe
from instar.providers.local.names import InstanceNames
from instar.waiting import Deadline

WELL = range(200, 400)
_LISTENING = "0A"  # Source: linux/include/net/tcp_states.h
_STATUS = re.compile(rb"HTTP/\S+ ([0-9]{3})(?: |\Z)")  # Source: RFC 9112, 4
_BEGUN = re.compile(rb"HTTP/\S+ 1(?!01)[0-9]{2}(?=[ \r\n])")  # an interim answer. Source: RFC 9110, 15.2
_INTERIM = re.compile(_BEGUN.pattern + rb"[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")
_HEAD_LIMIT = 8_192
_INTERIM_LIMIT = 65_536  # of all interim answers together
_REST_LIMIT = 1 << 20
_GOODBYE_S = 0.05
_CAUSE_LIMIT = 400  # characters
_COMMAND_LIMIT = 120
WELL_PROBE = Probe(healthy=True)


def ask_http(address: str, port: int, health: Health) -> Probe:
    """GET the health path."""
    path = health.path or "/"
    deadline = Deadline.after(health.timeout_ms / 1000)
    try:
        with _connected(address, port, deadline.require_s()) as connection:
            connection.sendall(_request(path, health.host))
            line = _status_line(connection, deadline)
    except TimeoutError:
        return ill(f"GET {path} did not answer within {health.timeout_ms / 1000:g} s")
    except OSError as error:
        return unreached(error, port)
    found = _STATUS.match(line)
    if found is None:
        return ill(f"GET {path} was answered with something that is not HTTP")
    return WELL_PROBE if int(found[1]) in WELL else ill(f"GET {path} answered {int(found[1])}")


def ask_tcp(address: str, port: int, health: Health) -> Probe:
    """Connect."""
    try:
        with _connected(address, port, health.timeout_ms / 1000):
            return WELL_PROBE
    except TimeoutError:
        return ill(f"port {port} did not accept within {health.timeout_ms / 1000:g} s")
    except OSError as error:
        return unreached(error, port)


def _connected(address: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to an address that is known: nothing is looked up."""
    connection = socket.socket()
    try:
        connection.settimeout(timeout_s)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def ask_command(names: InstanceNames, command: Sequence[str], timeout_ms: int) -> Probe:
    """Run a command inside. Raises HostError when it cannot be run at all."""
    from instar.providers.local.inspection import facts

    timeout_s = timeout_ms / 1000
    made = facts.read(names)
    ended = runc.execute(
        names.of.state.runc,
        names.name,
        command,
        scratch=names.folder,
        timeout_s=timeout_s,
        mark=made.token if made else "",
        limits=made.rlimits if made else {},
    )
    shown = _line(" ".join(command), _COMMAND_LIMIT)
    if ended is None:
        return ill(f"'{shown}' did not end within {timeout_s:g} s")
    if ended.returncode == 0:
        return WELL_PROBE
    said = ended.output.strip()
    detail = f": {runc.plain(said)}" if said else ""
    return ill(f"'{shown}' ended with exit status {ended.returncode}{detail}")


def explain(probe: Probe, process: Process, port: int) -> Probe:
    """Add where the service listens instead, if it listens somewhere that nobody can reach."""
    listeners = listening(process.pid)
    if listeners is None or any(_reaches(address, number, port) for address, number in listeners):
        return probe
    if not listeners:
        return ill(f"{probe.cause}: nothing listens inside yet")
    here = [f"{address}:{number}" for address, number in listeners]
    advice = ", which cannot be reached from outside: make it 0.0.0.0" if _only_inside(listeners, port) else ""
    return ill(f"nothing listens on port {port}; the service listens on {', '.join(here)}{advice}")


def listening(pid: int) -> tuple[tuple[str, int], ...] | None:
    """Return (address, port) of every TCP socket that listens in the process's network; None if it is gone."""
    found = []
    for file in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{file}").read_text().splitlines()[1:]
        except OSError:
            return None
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTENING:
                address, port = local.split(":")
                found.append((_address(address), int(port, 16)))
    return tuple(dict.fromkeys(found))


def unreached(error: OSError, port: int) -> Probe:
    """Return that it isn't well, since there was no connection."""
    return Probe(healthy=False, cause=refusal(error, port), refused=error.errno == errno.ECONNREFUSED)


def refusal(error: OSError, port: int) -> str:
    """Say why there was no connection, or why it ended."""
    if error.errno == errno.ECONNREFUSED:
        return f"connection refused on port {port}"
    if error.errno in (errno.ECONNRESET, errno.EPIPE) or isinstance(error, ConnectionResetError):
        return f"the connection to port {port} was closed without an answer"
    return f"port {port} cannot be reached: {error.strerror or error}"


def ill(cause: str) -> Probe:
    """Return that it isn't well. A service chooses what it answers: only what can be printed in a line is taken."""
    return Probe(healthy=False, cause=_line(cause, _CAUSE_LIMIT))


def _request(path: str, host: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: instar\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    return head.encode()


def _status_line(connection: socket.socket, deadline: Deadline) -> bytes:
    """Return the first line of the final answer, as far as it came: interim ones before it say nothing."""
    head, passed = b"", 0
    while len(head) < _HEAD_LIMIT and passed < _INTERIM_LIMIT:
        if interim := _INTERIM.match(head):
            head, passed = head[interim.end() :], passed + interim.end()
            continue
        if b"\n" in head and not _BEGUN.match(head):
            break
        connection.settimeout(deadline.require_s())
        chunk = connection.recv(_HEAD_LIMIT)
        if not chunk:
            break
        head += chunk
    _let_finish(connection)
    return head.partition(b"\n")[0].strip()


def _let_finish(connection: socket.socket) -> None:
    """Take the rest of the answer for a moment: a server that is cut off would log an error each time."""
    deadline, taken = Deadline.after(_GOODBYE_S), 0
    try:
        while taken < _REST_LIMIT:
            connection.settimeout(deadline.require_s())
            chunk = connection.recv(_HEAD_LIMIT * 8)
            if not chunk:
                return
            taken += len(chunk)
    except OSError:
        return


def _line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def _address(text: str) -> str:
    """Source: proc(5), net/tcp: 32-bit words in this machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return str(IPv4Address(packed))
    mapped = packed[:12] in (bytes(12), bytes(10) + b"\xff\xff")
    if packed == bytes(16) or (mapped and packed[12:] == bytes(4)):
        return "[::]"
    if packed == bytes(15) + b"\1":
        return "[::1]"
    return str(IPv4Address(packed[12:])) if mapped else f"[{socket.inet_ntop(socket.AF_INET6, packed)}]"


def _reaches(address: str, number: int, port: int) -> bool:
    return number == port and not _is_loopback(address)


def _only_inside(listeners: tuple[tuple[str, int], ...], port: int) -> bool:
    return any(number == port and _is_loopback(address) for address, number in listeners)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "[::1]"
