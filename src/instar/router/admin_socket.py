"""HAProxy's admin socket: allowed commands only.

What HAProxy shows can have words of a server's answers in it, its own prompt too: so each ``show`` has a connection of
its own, whose end is the end of the answer. All that changes something goes through one, as little lies between two
commands that way; HAProxy answers those with words of its own alone.

The socket is reached through its directory's descriptor, so that the length of the path does not matter (a socket's
path has at most 107 bytes).
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from instar.errors import RouterError, RouterUnreachable
from instar.router import maintenance
from instar.router.edge import answers, certificates, names, tickets
from instar.router.previews import MAP
from instar.router.slots import BACKEND

_BACKEND = rf"{BACKEND}(?::[a-z0-9.-]{{1,127}})?"
_SLOT = rf"{_BACKEND}/[sd][1-9][0-9]{{0,4}}"
_MAP, _KEY = re.escape(MAP), r"(?:[1-9][0-9]{0,9}(?:@[a-z0-9.-]{1,127})?|newest)"
_NUMBER = r"[0-9]{1,10}"
_EDGE_MAPS = "|".join(map(re.escape, (names.MAP, answers.ANSWERS)))
_ALLOWED = re.compile(
    r"show info"
    rf"|show servers state {_BACKEND}"
    r"|show stat"
    r"|show trace"
    r"|show acl(?: #[0-9]{1,6})?"
    rf"|set server {_SLOT} weight [0-9]{{1,3}}"
    rf"|set server {_SLOT} state (?:ready|drain|maint)"
    rf"|set server {_SLOT} addr [0-9a-f.:]{{2,45}} port [0-9]{{1,5}}"
    rf"|show table {_BACKEND}"
    rf"|set table {_BACKEND} key [1-9][0-9]{{0,5}} data\.gpt0 {_NUMBER} data\.gpc0 {_NUMBER} data\.gpc1 {_NUMBER}"
    rf"|show map (?:{_MAP}|{re.escape(maintenance.MAP)})"
    rf"|add map {re.escape(maintenance.MAP)} on 1"
    rf"|del map {re.escape(maintenance.MAP)} on"
    rf"|(?:add|set) map {_MAP} {_KEY} [0-9a-f.:]{{2,45}}/[0-9]{{1,5}}"
    rf"|del map {_MAP} {_KEY}"
    rf"|shutdown sessions server {_SLOT}"
    rf"|show map (?:{_EDGE_MAPS})"
    rf"|(?:add|set) map {re.escape(names.MAP)} {names.ENTRY[0]} {names.ENTRY[1]}"
    rf"|del map {re.escape(names.MAP)} {names.ENTRY[0]}"
    rf"|(?:add|set) map {re.escape(answers.ANSWERS)} (?:thumbprint|nonce) {answers.VALUE}"
    rf"|del map {re.escape(answers.ANSWERS)} (?:thumbprint|nonce)"
    rf"|{certificates.SHOW}"
    rf"|show ssl cert(?: {certificates.FILE})?"
    rf"|(?:new|commit|abort|del) ssl cert {certificates.FILE}"
    rf"|set ssl cert {certificates.FILE} <<\n{certificates.PEM}"
    rf"|add ssl crt-list {certificates.LIST} <<\n{certificates.LINE}\n"
    rf"|del ssl crt-list {certificates.LIST} {certificates.FILE}"
    r"|show tls-keys #0"
    rf"|set ssl tls-key #0 {tickets.KEY}",
    re.ASCII,
)
# what HAProxy says when it did as it was told
_TALKS: tuple[str, ...] = (
    *("IP changed from", "no need to change", "port changed from", "TLS ticket key updated"),
    *("New empty certificate store", "Inserting cert", "Committing certificates/"),
    *("Transaction created for", "Transaction updated for", "Transaction aborted for"),
    *("Entry 'certificates/", "Certificate 'certificates/"),
)
Statistics = Mapping[tuple[str, str], Mapping[str, str]]
_PROMPT = "\n> "
_SHOW = "show "
_FAILED = "Failed!"


def ask(directory: Path, name: str, commands: Sequence[str], *, timeout_s: float = 5.0) -> tuple[str, ...]:
    """Send ``commands`` to the socket ``name`` in ``directory`` and return their answers, in order.

    Raises:
        RouterUnreachable: there is no answer.
        RouterError: HAProxy refused a command; those after it were carried out.
    """
    for command in commands:
        if not _ALLOWED.fullmatch(command):
            told = command.partition("\n")[0]
            raise RouterError(f"cannot tell the router {told!r}: not one of the commands it is told")
    found = _exchange(directory, name, commands, timeout_s)
    for command, answer in zip(commands, found, strict=True):
        said = answer.strip()
        if not command.startswith(_SHOW) and said and (not said.startswith(_TALKS) or _FAILED in said):
            told = command.partition("\n")[0]  # what follows may be a key
            raise RouterError(f"cannot carry out {told!r}: HAProxy says: {said}")
    return tuple(found)


def read_info(text: str) -> Mapping[str, str]:
    """Read what ``show info`` printed."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.strip().split("\n"))}


def read_statistics(text: str) -> Statistics:
    """Read what ``show stat`` printed: (proxy, server) → the columns by name."""
    rows = csv.DictReader(text.strip().removeprefix("# ").split("\n"))  # no other character ends a line
    try:
        return {(row["pxname"], row["svname"]): row for row in rows}
    except (csv.Error, KeyError) as error:
        raise RouterError(f"cannot read the router's counters: {error}") from error


def _exchange(directory: Path, name: str, commands: Sequence[str], timeout_s: float) -> list[str]:
    try:
        holder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _answers(f"/proc/self/fd/{holder}/{name}", commands, timeout_s)
        finally:
            os.close(holder)
    except OSError as error:
        raise RouterUnreachable(f"cannot speak to the router: {error}") from error


def _answers(path: str, commands: Sequence[str], timeout_s: float) -> list[str]:
    said: list[str] = []
    listeners: set[int] = set()
    for together in _conversations(commands):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            listeners.add(_listener(connection))
            if len(listeners) > 1:
                raise RouterUnreachable("cannot speak to the router: another HAProxy has taken its place meanwhile")
            if "\n" in together[0]:  # what follows a command ends with an empty line, and HAProxy then the connection
                connection.sendall(f"{together[0]}\n".encode("ascii"))
                said.append(_received(connection))
                continue
            connection.sendall("".join(f"{line}\n" for line in ("prompt", *together, "quit")).encode("ascii"))
            said += _split(_received(connection), len(together))
    return said


def _conversations(commands: Sequence[str]) -> Iterator[list[str]]:
    """Yield what is said in one connection each, in order."""
    for alone, run in itertools.groupby(commands, lambda one: one.startswith(_SHOW) or "\n" in one):
        together = list(run)
        yield from ([one] for one in together) if alone else [together]


def _split(text: str, count: int) -> list[str]:
    """Return the answers of a conversation: before, between and after them HAProxy prompts."""
    inner = text.removeprefix(_PROMPT).removesuffix(_PROMPT)
    answers = [inner] if count == 1 else inner.split(_PROMPT)
    if len(text) - len(inner) != 2 * len(_PROMPT) or len(answers) != count:
        raise RouterUnreachable("cannot speak to the router: it ended the connection")
    return answers


def _listener(connection: socket.socket) -> int:
    """Return the process that listens at the other end. Source: unix(7), SO_PEERCRED."""
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def _received(connection: socket.socket) -> str:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")
