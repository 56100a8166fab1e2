"""Where everything of one place's router is, and how its file is written: whole or not at all.

::

    routers/SERVICE/ENV/          below the state directory
    ├── haproxy.cfg               the truth after a restart: plan, servers, weights
    ├── haproxy.cfg.next          the file of the next holder, which puts it in force; of no meaning to anybody else
    ├── *.new                     a file that is being written
    ├── maintenance.map           whether requests are answered with maintenance.html, beside it; the truth too
    ├── preview.map               which server a request for one release goes to, where there are previews
    ├── wait.lua                  how HAProxy holds requests, where they wait for an instance
    ├── body.lua                  how it counts their bodies, where there is a limit
    ├── access.log, .1, .2        which requests came, where that is asked for; access.lost: how many were not written
    ├── answered.json             what the HAProxy before this one has answered, last: the holder asks it
    ├── counted.json              how many requests those before that one had answered
    ├── holder.json               locked by the holder for as long as it lives; who it is and which HAProxy is its own
    └── holder.log                what the holder and HAProxy say
    run/routers/HASH.sock         HAProxy's admin socket

Crash report: a file is replaced by rename after its bytes are on the disk, so it is the old one or the new one. What
holds the traffic is changed after the file (before it, for servers that leave); asking again does what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from pathlib import Path

from instar import durable
from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import from_json, parse
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.process import Process
from instar.router import access_writer, maintenance
from instar.router.previews import MAP
from instar.waiting import Deadline, until

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_WRITTEN_WITHIN_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HolderRecord:
    """What a living holder says: itself, its HAProxy, and those that end when they have served what they have."""

    process: Process
    haproxy: Process
    retired: tuple[Process, ...] = ()


class HaproxyFiles:
    """Of any HAProxy under a holder. ``whose`` they are is for messages: "the router of 'shop/production'".

    ``sockets`` is the directory of HAProxy's ``socket``.
    """

    answered: Path | None = None  # where the holder says what the HAProxy before its own has answered

    def __init__(self, whose: str, directory: Path, sockets: Path, socket: str) -> None:
        self.whose = whose
        self.directory = directory
        self.sockets = sockets
        self.socket = socket

    @property
    def config(self) -> Path:
        return self.directory / "haproxy.cfg"

    @property
    def next(self) -> Path:
        return self.directory / "haproxy.cfg.next"

    @property
    def holder(self) -> Path:
        return self.directory / "holder.json"

    @property
    def log(self) -> Path:
        return self.directory / "holder.log"

    def make(self) -> None:
        """Make the directories, closed to everybody else."""
        for path in (self.directory, self.sockets):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, path: Path | None = None) -> str | None:
        """Return the file in force (or ``path``), None when there is none."""
        path = path or self.config
        try:
            return durable.read_text(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RouterError(f"cannot read '{path}': {error}") from error

    def write(self, text: str, path: Path | None = None) -> None:
        """Replace the file in force (or ``path``) atomically; return when that will survive a loss of power."""
        path = path or self.config
        try:
            durable.write(path, text.encode())
        except OSError as error:
            raise RouterError(f"cannot write '{path}': {error.strerror}") from error

    def tidy(self) -> None:
        """Remove what somebody who was killed has left half done."""
        for path in (self.next, *self.directory.glob("*.new"), *durable.leftovers(self.directory)):
            path.unlink(missing_ok=True)

    def record(self) -> HolderRecord | None:
        """Return what the living holder says, None when there is none: a holder has its file locked while it lives."""

        def said() -> tuple[HolderRecord | None] | None:
            text = self._locked_text()
            with contextlib.suppress(ValueError):
                return (None if text is None else from_json(HolderRecord, parse(text)),)
            return None

        found = until(said, Deadline.after(_WRITTEN_WITHIN_S))
        if found is None:
            raise RouterError(f"cannot read '{self.holder}': its holder does not say who it is")
        return found[0]

    def last_words(self, lines: int = 5) -> str:
        """Return the end of the log, for an error's message."""
        try:
            return "\n".join(durable.read_text(self.log, "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _locked_text(self) -> bytes | None:
        try:
            descriptor = os.open(self.holder, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 65_536, 0)
        finally:
            os.close(descriptor)
        return None


class RouterFiles(HaproxyFiles):
    """Of an environment's router."""

    def __init__(self, state: StateDirectory, environment: EnvironmentId) -> None:
        if not _NAME.fullmatch(environment.service) or not _NAME.fullmatch(environment.name):
            raise RouterError(f"cannot route for {str(environment)!r}: names are of small letters, digits and -")
        self.environment = environment
        directory = state.routers / environment.service / environment.name
        socket = hashlib.sha256(str(environment).encode()).hexdigest()[:16] + ".sock"
        super().__init__(f"the router of '{environment}'", directory, state.router_sockets, socket)
        self.answered = directory / "answered.json"
        self.counted = directory / "counted.json"

    @property
    def previews(self) -> Path:
        return self.directory / MAP

    @property
    def maintenance(self) -> Path:
        return self.directory / maintenance.MAP

    @property
    def access_log(self) -> Path:
        return self.directory / access_writer.LOG

    @property
    def page(self) -> Path:
        return self.directory / maintenance.PAGE

    def script(self, name: str) -> Path:
        return self.directory / name

    def remove(self) -> None:
        """Remove all of it, and what it alone needed. Nothing of it may run."""
        for path in self.sockets.glob(f"{self.socket}*"):
            path.unlink(missing_ok=True)
        try:
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RouterError(f"cannot remove '{self.directory}': {error.strerror}") from error
        with contextlib.suppress(OSError):  # another environment of the service is there
            self.directory.parent.rmdir()
