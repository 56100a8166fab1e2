"""Where logs are shipped to: a command, a file, a socket, journald. Each takes a batch in time, or says why not."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from instar import process
from instar.errors import InstarError
from instar.model.machine import ShipSettings
from instar.model.printable import printable
from instar.permissions import find_other_on_the_way, other_adder
from instar.shipping.records import written

TIMEOUT_S: Final = 10.0
COMMAND_S: Final = 30.0
JOURNAL: Final = Path("/run/systemd/journal/socket")
LOOK_EACH_S: Final = 1.0
_TAIL_BYTES: Final = 4_096
_WORDS: Final = 300  # of what a command says; its line may have a secret, and is shown to root
_WORDS_S: Final = 1.0
Records = Sequence[Mapping[str, Any]]
Meanwhile = Callable[[], None]


def nothing() -> None:
    """Nobody wants to know."""


class Undelivered(Exception):
    """Its text is the cause, for people."""


class Sink(Protocol):
    """Takes batches, one at a time."""

    def send(self, records: Records, *, meanwhile: Meanwhile = nothing) -> None:
        """Return when all of them are taken. Raises Undelivered; then all of them are sent again. Where that goes on
        for long, ``meanwhile`` is called about once a second."""

    def check(self) -> None:
        """Raises Undelivered where nothing could be sent now. Sends nothing."""

    def close(self) -> None:
        """Let go of what is open."""


class Command:
    """Runs a program in ``/`` for each batch, with its lines on standard input: taken when it exits with 0."""

    def __init__(self, argv: Sequence[str], *, timeout_s: float = COMMAND_S) -> None:
        self._argv, self._timeout_s = tuple(argv), timeout_s

    def send(self, records: Records, *, meanwhile: Meanwhile = nothing) -> None:
        said = _LastWords()
        try:
            process.run(
                self._argv,
                input=b"".join(map(written, records)),
                timeout_s=self._timeout_s,
                alone=True,
                cwd=process.ANYWHERE,
                umask=process.MASK,
                stdout=subprocess.DEVNULL,
                stderr=said.pipe,
            )
        except (InstarError, OSError) as error:
            raise Undelivered(f"{error}{said.text()}") from error
        finally:
            said.close()

    def check(self) -> None:
        if process.find_program(self._argv[0]) is None:
            raise Undelivered(f"there is no program '{self._argv[0]}' that can be run")

    def close(self) -> None: ...


class _LastWords:
    """What a program wrote to its standard error last, however much that was. A child of its own that holds the pipe
    for longer is not listened to: when this is closed the thread and both ends are gone."""

    def __init__(self) -> None:
        self._reading, self.pipe = os.pipe()
        self._stop, self._tail, self._is_open = os.eventfd(0), b"", True
        self._thread = threading.Thread(target=self._read, name="last words", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return ": LINE", the last that is not empty; nothing where there is none."""
        self._let_go()
        self._thread.join(timeout=_WORDS_S)  # a child of its own may hold the pipe for longer
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return f": {printable(lines[-1].strip())[:_WORDS]}" if lines else ""

    def close(self) -> None:
        self._let_go()
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def _let_go(self) -> None:
        if self._is_open:
            os.close(self.pipe)
            self._is_open = False

    def _read(self) -> None:
        looked = select.poll()
        for one in (self._stop, self._reading):
            looked.register(one, select.POLLIN)
        with os.fdopen(self._reading, "rb", buffering=0) as pipe:
            while self._stop not in dict(looked.poll()):
                data = pipe.read(65_536)
                if not data:
                    return
                self._tail = (self._tail + data)[-_TAIL_BYTES:]


class File:
    """Appends to a file, which may be moved away at any time: each batch opens it anew. Root does so only where nobody
    else could have it write to another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_cut = False

    def send(self, records: Records, *, meanwhile: Meanwhile = nothing) -> None:
        with self._opened() as file:
            rest = memoryview((b"\n" if self._is_cut else b"") + b"".join(map(written, records)))
            try:
                while rest:
                    rest = rest[os.write(file, rest) :]
                    self._is_cut = bool(rest)
            except OSError as error:
                raise self._refused(error) from error

    def check(self) -> None:
        with self._opened():
            pass

    def close(self) -> None: ...

    @contextlib.contextmanager
    def _opened(self) -> Any:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._require_roots()
            file = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise self._refused(error) from error
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Undelivered(f"'{self._path}' is no file")
            yield file
        finally:
            os.close(file)

    def _require_roots(self) -> None:
        """Raise Undelivered to root where somebody else could put a link, or another file, in the place of what is
        named. Raises OSError."""
        if os.geteuid() != 0:
            return
        folder = self._path.parent
        found = find_other_on_the_way(folder)
        if found is None and (who := other_adder(folder.stat())) is not None:
            found = who, folder
        if found is not None:
            raise Undelivered(
                f"cannot write to '{self._path}': {found[0]} may write to '{found[1]}', and could have root write "
                "to any file; name one in a folder that is root's alone, as are those above it"
            )

    def _refused(self, error: OSError) -> Undelivered:
        return Undelivered(f"cannot write to '{self._path}': {error.strerror}")


class Socket:
    """Writes to a stream: ``unix:PATH`` or ``tcp:HOST:PORT``. Taken is what the other end's kernel has. One that reads
    slowly is waited for, and given up when it has read nothing for ``timeout_s``."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._open: socket.socket | None = None

    def send(self, records: Records, *, meanwhile: Meanwhile = nothing) -> None:
        rest = memoryview(b"".join(map(written, records)))
        try:
            if self._open is None or _has_ended(self._open):
                self.close()
                self._open = self._connected()
            self._open.settimeout(min(LOOK_EACH_S, self._timeout_s))
            self._sent(self._open, rest, meanwhile)
        except OSError as error:
            self.close()
            raise self._refused(error) from error

    def _sent(self, to: socket.socket, rest: memoryview, meanwhile: Meanwhile) -> None:
        """Raises OSError: TimeoutError where nothing was taken for too long."""
        taken_at = looked_at = time.monotonic()
        while rest:
            try:
                rest = rest[to.send(rest) :]
                taken_at = time.monotonic()
            except TimeoutError:
                if time.monotonic() - taken_at >= self._timeout_s:
                    raise
            if time.monotonic() - looked_at >= LOOK_EACH_S:
                looked_at = time.monotonic()
                meanwhile()

    def check(self) -> None:
        try:
            self._connected().close()
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connected(self) -> socket.socket:
        kind, _, where = self._address.partition(":")
        if kind == "tcp":
            host, _, port = where.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), self._timeout_s)
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(self._timeout_s)
        try:
            one.connect(where)
        except OSError:
            one.close()
            raise
        return one

    def _refused(self, error: OSError) -> Undelivered:
        cause = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return Undelivered(f"cannot send to '{self._address}': {cause}")


class Journald:
    """Sends each record to the journal, by its own protocol. Source: systemd, "Native Journal Protocol"."""

    def __init__(self, path: Path = JOURNAL, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s

    def send(self, records: Records, *, meanwhile: Meanwhile = nothing) -> None:
        with self._connected() as journal:
            try:
                for one in records:
                    journal.send(_entry(one))
            except OSError as error:
                raise self._refused(error) from error

    def check(self) -> None:
        self._connected().close()

    def close(self) -> None: ...

    def _connected(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.settimeout(self._timeout_s)
        try:
            one.connect(str(self._path))
        except OSError as error:
            one.close()
            raise self._refused(error) from error
        return one

    def _refused(self, error: OSError) -> Undelivered:
        cause = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        return Undelivered(f"cannot send to the journal at '{self._path}': {cause}")


def sink_of(settings: ShipSettings) -> Sink | None:
    """Return where logs go; None where they go nowhere."""
    if settings.command:
        return Command(settings.command)
    if settings.file is not None:
        return File(Path(settings.file))
    if settings.socket is not None:
        return Socket(settings.socket)
    return Journald() if settings.journald else None


def words(settings: ShipSettings) -> str:
    """Say where logs go: of a command no more than the program, since the rest may be secret."""
    if settings.command:
        return f"command {settings.command[0]}"
    if settings.file is not None:
        return f"file {settings.file}"
    return f"socket {settings.socket}" if settings.socket is not None else "journald"


def _has_ended(one: socket.socket) -> bool:
    """Tell whether the other end has closed: what is sent then would be lost without an error."""
    one.setblocking(False)
    try:
        while data := one.recv(4_096):
            del data  # nobody is asked for answers
    except BlockingIOError:
        return False
    return True


_FIELDS: Final = ("service", "environment", "release", "role", "instance", "stream")


def _entry(record: Mapping[str, Any]) -> bytes:
    """Return a record in the journal's form: a message may have any bytes, so each has its length before it."""
    said = {name: record[name] for name in _FIELDS} | (record.get("request") or {})
    fields = {f"INSTAR_{name.upper()}": str(value) for name, value in said.items() if value is not None}
    fields |= {"MESSAGE": record["message"], "SYSLOG_IDENTIFIER": record["instance"] or record["service"] or "instar"}
    fields |= {"INSTAR_TIME": record["time"], "PRIORITY": "4" if record["stream"] == "stderr" else "6"}
    parts = list[bytes]()
    for name, value in fields.items():
        data = value.encode()
        parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
    return b"".join(parts)
