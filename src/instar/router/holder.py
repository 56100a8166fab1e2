"""Keeps one HAProxy running: a program of its own, run as a file, that needs nothing but Python's standard library.

It owns the listening sockets (they come to it open, as inherited descriptors), starts HAProxy with them, and starts it
again when it dies, so that no connection is ever refused. Once it runs it imports nothing more and reads no file of
Instar's: Instar may be changed or removed under it. A holder never changes what it holds: another plan is another
holder, which takes the sockets over and has its HAProxy retire the one before (``-sf``). Killing a holder costs
nothing, as HAProxy goes on; SIGTERM ends both.

``holder.json`` in its directory is the lock and the record of it: whoever has the flock is the holder, and the text
says who that is and which HAProxy is its own.

Usage: holder.py LABEL DIRECTORY ORDER: DIRECTORY has haproxy.cfg and holder.json, and ORDER is JSON::

    {"sockets": the directory of HAProxy's socket,
     "groups": the directories of the cgroups that holder and HAProxy go to, made when they are not there,
     "haproxy": the program, "environment": HAProxy's, with the numbers of the inherited descriptors,
     "socket": its path, "listening": the inherited descriptors that it is to have,
     "access": the program that writes what HAProxy logs, and the variable that names HAProxy the pipe to it; or null,
     "answered": the name of the file that says what the HAProxy before has answered, last; or null,
     "follows": [pid, start time] of the holder to end, or null}

Whatever else it inherits are locks of those who change the place. It keeps them until its HAProxy can be spoken to, so
that nobody speaks to the one before, also when who started it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOG_BYTES = 512 * 1024
_PIPE_BYTES = 1 << 20
_TICK_S = 60.0
_SOCKET_S = 10.0
_LOCK_S = 5.0
_LOCK_AT_ONCE_S = 1.0  # nobody was seen to have it; somebody may look at it just now
_STEADY_S = 10.0  # an HAProxy that lived so long is started again at once
_SLOWEST_S = 5.0
_AWAITED = {signal.SIGCHLD, signal.SIGTERM}
_TOTALS = "show stat -1 3 -1"  # no servers: what these have said can have HAProxy's prompt in it
_ANSWER_S = 2.0  # of the HAProxy before, which is not waited for where it hangs
_LOOKS_S = ((2.0, 0.05), (10.0, 0.5), (float("inf"), 5.0))  # up to which age how often; HAProxy itself waits for ten


def main(label: str, directory: Path, order: dict[str, Any]) -> int:
    """Leave the holder behind and return 0 once it has started HAProxy; else say why on stderr and return 1."""
    result, report = os.pipe()
    if os.fork() == 0:
        os.close(result)
        _become_holder(label, directory, order, report)
    os.close(report)
    with os.fdopen(result, "rb") as pipe:
        said = pipe.read().decode()
    if said != "ready":
        print(said or "the holder ended before it began", file=sys.stderr)
        return 1
    return 0


def _become_holder(label: str, directory: Path, order: dict[str, Any], report: int) -> None:
    try:
        os.setsid()
        _join(order["groups"])
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        _redirect(directory)
        locks = _inherited_locks({report, *order["listening"]})
        mine = _locked(directory, order["follows"])
        _take_file(directory)
        os.chdir(order["sockets"])
        access = _Access(label, directory, order)
        before = _Before(directory, order)
        retired, there = _running(directory), _identity(order["socket"])
        pid = _start(label, directory, order, retired)
        _record(mine, pid, retired)
        _await_socket(order["socket"], there, pid)
        before.followed(pid)
    except BaseException as error:  # whatever it is, who waits must hear it
        os.write(report, f"{error}".encode())
        os._exit(1)
    os.write(report, b"ready")
    for descriptor in (report, *locks):
        os.close(descriptor)
    try:
        _hold(lambda: _start(label, directory, order, {}), directory, access, before, mine, pid, retired)
    except BaseException as error:
        _say(f"the holder ends: {error!r}")
        os._exit(1)
    os._exit(0)


class _Access:
    """The pipe into which HAProxy logs, and the program that reads it. The holder has both ends open, so that what is
    in it outlives either of them."""

    def __init__(self, label: str, directory: Path, order: dict[str, Any]) -> None:
        self._pid: int | None = None
        self._began = 0.0
        self._argv: list[str] = []
        if order["access"] is None:
            return
        program, variable = order["access"]
        self._pipe, writing = os.pipe()
        with contextlib.suppress(OSError):  # a kernel, or a user, that may have less
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_inheritable(writing, True)
        order["environment"][variable] = str(writing)
        self._others = [writing, *order["listening"]]
        self._argv = [sys.executable, "-I", "-S", "-B", program, label, str(directory)]
        self._begin()

    def runs(self) -> bool:
        """Start the reader again where it has ended, unless it has only just begun; return whether it runs."""
        if self._argv and self._pid is not None and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = None
        if self._argv and self._pid is None and time.monotonic() - self._began > 1:
            self._begin("again")
        return not self._argv or self._pid is not None

    def _begin(self, *words: str) -> None:
        self._began = time.monotonic()
        closed = [(os.POSIX_SPAWN_CLOSE, number) for number in self._others]
        try:
            self._pid = os.posix_spawn(
                self._argv[0],
                [*self._argv, *words],
                {},
                file_actions=[*closed, (os.POSIX_SPAWN_DUP2, self._pipe, 0)],
                setsid=True,
                setsigmask=[],
            )
        except OSError as error:
            _say(f"cannot start what writes the access log: {error}")


class _Before:
    """The HAProxy that this one follows, asked what it has answered as long as it has requests yet: nobody else can,
    once the next one has the socket. It does not end while this asks, so what it says last is all."""

    def __init__(self, directory: Path, order: dict[str, Any]) -> None:
        self._file = directory / str(order["answered"])
        self._connection = socket.socket(socket.AF_UNIX) if order["answered"] else None
        if self._connection is not None:
            try:
                self._connection.settimeout(_ANSWER_S)
                self._connection.connect(Path(order["socket"]).name)  # in this directory: a path may be too long
                self._ask("prompt")
            except (FileNotFoundError, ConnectionRefusedError):  # there is none
                self._connection = None
            except OSError as error:
                _say(f"the haproxy before cannot be asked what it has answered: {error!r}")
                self._connection = None

    def followed(self, pid: int) -> None:
        """Begin to write down what it has answered; ``pid`` is the one that follows it."""
        self._successor, self._began, self._next = _process(pid), time.monotonic(), 0.0
        self.look()

    def look(self) -> float:
        """Ask, if it is time to; return in how many seconds it is again."""
        now = time.monotonic()
        if self._connection is not None and now >= self._next:
            self._next = now + next(every for age, every in _LOOKS_S if now - self._began < age)
            more = False
            try:
                more = self._write()
            except (OSError, ValueError, StopIteration) as error:  # a figure holds up no router
                _say(f"what the haproxy before has answered is not known any more: {error!r}")
            self._connection = self._connection if more else None
        return _TICK_S if self._connection is None else self._next - now

    def _write(self) -> bool:
        """Write down what it has answered; return whether it will answer more. Raises OSError."""
        info, answered = self._ask("show info"), self._ask(_TOTALS)
        pid = next(int(line[5:]) for line in info.split("\n") if line.startswith("Pid: "))
        said = {"process": _process(pid), "successor": self._successor, "info": info, "statistics": answered}
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_text(json.dumps(said))
        new.rename(self._file)
        return not {"Stopping: 1", "Jobs: 1"} <= set(info.split("\n"))  # this connection is the one

    def _ask(self, command: str) -> str:
        assert self._connection is not None
        self._connection.sendall(f"{command}\n".encode())
        answer = b""
        while not answer.endswith(b"\n> "):
            part = self._connection.recv(65_536)
            if not part:
                raise OSError("it has ended")
            answer += part
        return answer.decode("utf-8", "replace")


def _join(groups: list[str]) -> None:
    """Leave the group of whoever starts this: ending that one (systemd does it by group) must not end a router."""
    for group in groups:
        while True:
            with contextlib.suppress(FileNotFoundError):  # the group above was empty, and removed meanwhile
                Path(group).mkdir(parents=True, exist_ok=True)
                Path(group, "cgroup.procs").write_text(str(os.getpid()))
                break


def _hold(
    start: Callable[[], int],
    directory: Path,
    access: _Access,
    before: _Before,
    lock: int,
    pid: int,
    retired: dict[int, int],
) -> None:
    """Start HAProxy again whenever it ends, until told to end both."""
    hurried = 0
    began = time.monotonic()
    running: int | None = pid
    while running is None or not _wait(running, directory, access, before):
        hurried = 0 if time.monotonic() - began > _STEADY_S else hurried + 1
        if signal.sigtimedwait({signal.SIGTERM}, _pause_s(hurried)):
            return
        began = time.monotonic()
        running = _start_again(start, lock, retired)


def _start_again(start: Callable[[], int], lock: int, retired: dict[int, int]) -> int | None:
    """Return the new HAProxy; None when there is none now (its package is being replaced, memory is short)."""
    pid = None
    try:
        pid = start()
        _record(lock, pid, retired)
    except OSError as error:
        _say(f"cannot start haproxy, or write down that it was started: {error}")
    return pid


def _pause_s(hurried: int) -> float:
    """Return how long to wait after an HAProxy that was the ``hurried``-th in a row to end early."""
    return 0.0 if hurried <= 1 else min(_SLOWEST_S, 0.1 * 2.0 ** (hurried - 2))


def _running(directory: Path) -> dict[int, int]:
    """Return the HAProxies of this directory's file, pid → start time. Nobody else can start one: we have the lock."""
    wanted = {b"-db", b"-f", bytes(directory / "haproxy.cfg")}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            start_time = _start_time(int(entry.name))
            if start_time is not None and wanted.issubset(words) and _is_trusted(entry):
                found[int(entry.name)] = start_time
    return found


def _is_trusted(process: Path) -> bool:
    """Tell whether root (or HAProxy's own user) runs it, and not inside an instance: anybody can choose its words."""
    trusted = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        trusted.add(pwd.getpwnam("haproxy").pw_uid)
    try:
        lines = (process / "status").read_text(errors="replace").split("\n")
        outside = (process / "ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False
    users = next((line.split()[1:] for line in lines if line.startswith("Uid:")), ["-1"])
    return outside and set(map(int, users)) <= trusted


def _start(label: str, directory: Path, order: dict[str, Any], retires: dict[int, int]) -> int:
    argv = [order["haproxy"], "-db", "-L", label, "-f", str(directory / "haproxy.cfg")]
    if retires:
        argv += ["-sf", *map(str, retires)]
    return os.posix_spawn(
        argv[0], argv, order["environment"], setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
    )


def _wait(pid: int, directory: Path, access: _Access, before: _Before) -> bool:
    """Return when HAProxy has ended; True when it was to end."""
    asked = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _say(f"haproxy {pid} ended: {_cause(status)}")
            return asked
        event = signal.sigtimedwait(_AWAITED, min(_TICK_S if access.runs() else _SLOWEST_S, before.look()))
        if event and event.si_signo == signal.SIGTERM:
            asked = True
            os.kill(pid, signal.SIGTERM)
        _trim(directory)


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _locked(directory: Path, follows: list[int] | None) -> int:
    """Become the one holder of the place: end the one that this follows and wait for its lock."""
    lock = os.open(directory / "holder.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if follows:
        _end(*follows)
    deadline = time.monotonic() + (_LOCK_S if follows else _LOCK_AT_ONCE_S)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)  # what it says is of the holder before
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError("another holder has the place") from None
            time.sleep(0.005)


def _end(pid: int, start_time: int) -> None:
    try:
        handle = os.pidfd_open(pid)
        if _start_time(pid) == start_time:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    except ProcessLookupError:
        return


def _take_file(directory: Path) -> None:
    """Put the file in force that this holder was started for. One without a next goes on with what there is."""
    try:
        (directory / "haproxy.cfg.next").rename(directory / "haproxy.cfg")
    except FileNotFoundError:
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(handle)
    os.close(handle)


def _inherited_locks(wanted: set[int]) -> list[int]:
    """Return the descriptors that are not ``wanted``, and keep them from HAProxy."""
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    found = []
    for number in numbers:
        if number > 2 and number not in wanted:
            with contextlib.suppress(OSError):  # the one that listed them
                os.set_inheritable(number, False)
                found.append(number)
    return found


def _identity(socket: str) -> tuple[int, int, int] | None:
    try:
        found = Path(socket).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _await_socket(socket: str, before: tuple[int, int, int] | None, pid: int) -> None:
    """Return when the new HAProxy has put its socket in place of the one before, or has ended."""
    deadline = time.monotonic() + _SOCKET_S
    while _identity(socket) in (None, before) and time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.002)


def _record(lock: int, pid: int, retired: dict[int, int]) -> None:
    record = {
        "process": _process(os.getpid()),
        "haproxy": _process(pid),
        "retired": [_process(one) | {"start_time": start_time} for one, start_time in retired.items()],
    }
    text = json.dumps(record, indent=1).encode() + b"\n"
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))


def _process(pid: int) -> dict[str, Any]:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot_id": boot_id, "pid": pid, "start_time": _start_time(pid)}


def _start_time(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat, None for a process that is gone. Source: proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(text[text.rindex(b")") + 2 :].split()[19])


def _redirect(directory: Path) -> None:
    """Leave the terminal: nothing to read, and one log for the holder and HAProxy."""
    null = os.open("/dev/null", os.O_RDONLY)
    path = directory / "holder.log"
    if path.exists() and not path.is_file():  # nobody would read a pipe in its place
        path.unlink()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def _trim(directory: Path) -> None:
    """Keep the later half of a log that has grown too long. All append, so it can be cut under them."""
    path = directory / "holder.log"
    try:
        if path.stat().st_size <= _LOG_BYTES:
            return
        with path.open("r+b") as file:
            file.seek(-_LOG_BYTES // 2, os.SEEK_END)
            kept = file.read()
            file.truncate(0)
        with path.open("ab") as file:
            file.write(kept[kept.find(b"\n") + 1 :])
    except OSError as error:
        _say(f"cannot shorten the log: {error}")


def _say(text: str) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):  # a full disk ends no router
        os.write(2, f"{moment} {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
