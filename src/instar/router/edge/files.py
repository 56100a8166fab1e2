"""Where everything of the machine's edge is.

::

    edge/                         below the state directory
    ├── haproxy.cfg, haproxy.cfg.next, holder.json, holder.log     as a router's (``router/files.py``)
    ├── names.map                 which environment's router requests go to, by name
    ├── answers.map               what the edge answers itself
    ├── tickets                   the keys of TLS sessions that clients take up again
    ├── certificates.list, certificates/NAME.pem, clients/HASH.pem
    run/edge/edge.sock            HAProxy's admin socket
    run/edge/root/                all that HAProxy sees of this machine once it runs
    ├── eN                        the slot of an environment: a link to its router's socket
    └── HASH/door.sock            where an environment's router is asked, and all that it sees itself

Crash report: files are replaced whole, and always before HAProxy is told; asking again does what is left. A key is
readable for root alone, and HAProxy reads it before it gives root up.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from instar.errors import RouterError
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.router.edge import answers, certificates, config, names
from instar.router.files import HaproxyFiles
from instar.router.listener import DOOR


def root(state: StateDirectory) -> Path:
    return state.run / "edge" / "root"


def door(state: StateDirectory, environment: EnvironmentId) -> Path:
    """Return the directory of the socket where an environment's router is asked by the edge."""
    return root(state) / door_of(str(environment))


def door_of(environment: str) -> str:
    """Return the name of that directory, for SERVICE/ENV."""
    return hashlib.sha256(environment.encode()).hexdigest()[:16]


def remove_door(state: StateDirectory, environment: EnvironmentId) -> None:
    """Remove that directory, and what is above it where nothing else is there."""
    shutil.rmtree(door(state, environment), ignore_errors=True)
    _remove_empty(state)


def _remove_empty(state: StateDirectory) -> None:
    with contextlib.suppress(OSError):  # the edge, or another environment, is there
        root(state).rmdir()
        root(state).parent.rmdir()


class EdgeFiles(HaproxyFiles):
    def __init__(self, state: StateDirectory) -> None:
        self.root = root(state)
        self._state = state
        super().__init__("the edge", state.edge, state.run / "edge", "edge.sock")

    @property
    def names(self) -> Path:
        return self.directory / names.MAP

    @property
    def answers(self) -> Path:
        return self.directory / answers.ANSWERS

    @property
    def tickets(self) -> Path:
        return self.directory / config.TICKETS

    @property
    def list(self) -> Path:
        return self.directory / certificates.LIST

    def make(self) -> None:
        super().make()
        for path in (self.directory / certificates.FOLDER, self.directory / certificates.CLIENTS):
            path.mkdir(exist_ok=True, mode=0o700)
        self.root.mkdir(exist_ok=True, mode=0o710)
        self.root.chmod(0o710)  # whatever the umask

    def certificate(self, name: str) -> Path:
        return self.directory / certificates.file_of(name)

    def certified(self) -> tuple[str, ...]:
        """Return the names that have a certificate."""
        found = (self.directory / certificates.FOLDER).glob("*.pem")
        return tuple(sorted(certificates.name_of(path.name) for path in found))

    def link(self, slot: int, environment: EnvironmentId) -> None:
        """Let a slot lead to an environment's router."""
        where, to = self.root / names.backend(slot), f"{door(self._state, environment).name}/{DOOR}"
        with contextlib.suppress(OSError):
            if str(where.readlink()) == to:
                return
        new = where.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(to)
        new.rename(where)

    def unlink(self, slots: set[int]) -> None:
        """Take away the slots that lead to nobody: all but ``slots``."""
        kept = {names.backend(slot) for slot in slots}
        for path in self.root.glob("e*"):
            if path.is_symlink() and path.name not in kept:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of it but the routers' own sockets. Nothing of it may run."""
        self.unlink(set())
        (self.sockets / self.socket).unlink(missing_ok=True)
        _remove_empty(self._state)
        try:
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RouterError(f"cannot remove '{self.directory}': {error.strerror}") from error
