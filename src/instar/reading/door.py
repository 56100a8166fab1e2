"""What the agent does so that a group may look: a socket, and a process that answers at it (``server.py``)."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from instar import process
from instar.errors import HostError, InstarError
from instar.model.progress import Progress, Report

_WAITING: Final = 256  # connections that nobody has taken yet
_ENDS_WITHIN_S: Final = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_NOT_HANDED_ON: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INSTAR_AGENT_LISTENS")


class ReadersDoor:
    """Open as long as the agent works. Who connects while nobody answers waits."""

    def __init__(self, path: Path, group: str | None, environ: Mapping[str, str], report: Report) -> None:
        self._path, self._group, self._report = path, group, report
        self._environ = {name: value for name, value in environ.items() if name not in _NOT_HANDED_ON}
        self._listening: socket.socket | None = None
        self._number = -1
        self._answering: subprocess.Popen[bytes] | None = None
        self._pause_s, self._not_before = _FIRST_PAUSE_S, 0.0

    def open(self) -> None:
        """Listen, and begin to answer, where a group may look. Where that cannot be, it is said: the agent has other
        work."""
        if self._group is None:
            if os.geteuid() == 0:
                self._path.unlink(missing_ok=True)  # of an agent before, when one might
            return
        try:
            if os.geteuid() != 0:
                raise HostError("cannot let a group look: this agent is not root's")
            self._number = group_number(self._group)
            self._listening = listen_at(self._path, self._number)
        except InstarError as error:
            hint = f" → {error.hint}" if error.hint else ""
            self._report(Progress(stage="readers", text=f"{error.message}{hint}", kind="warning"))
            return
        self.look()
        self._report(Progress(stage="readers", text=f"the group '{self._group}' may look, at {self._path}"))

    def look(self) -> None:
        """Begin to answer again where that has ended."""
        if self._listening is None or (self._answering is not None and self._answering.poll() is None):
            return
        if time.monotonic() < self._not_before:
            return
        if self._answering is not None:
            text = f"who answers readers has ended ({self._answering.returncode}): another one begins"
            self._report(Progress(stage="readers", text=text, kind="warning"))
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        # -I: nothing is imported from where a caller's variables or folder lead
        argv = [sys.executable, "-I", "-m", "instar.reading", str(self._number)]
        try:
            self._answering = process.attach(
                argv,
                stdin=self._listening.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=2,
                env=self._environ,
                cwd=Path("/"),
            )
        except (InstarError, OSError) as error:
            self._report(Progress(stage="readers", text=f"nobody answers readers: {error}", kind="warning"))

    def close(self) -> None:
        """End answering. The socket's file stays: it says which group may ask once an agent runs again."""
        if self._listening is None:
            return
        self._listening.close()
        if self._answering is None:
            return
        self._answering.terminate()
        try:
            self._answering.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._answering.kill()
            self._answering.wait()


def group_number(name: str) -> int:
    """Return the number of a group. Raises HostError where there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise HostError(
            f"cannot let the group '{name}' look: there is none",
            hint=f"groupadd --system {name}, then: systemctl reload instar-agent",
        ) from None


def listen_at(path: Path, group: int) -> socket.socket:
    """Return a socket that listens at ``path``, for root and ``group`` alone, in place of what an agent before left.

    Raises HostError, also where anybody but root could put something else there.
    """
    try:
        _require_roots(path.parent)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(os.fspath(new))  # nobody else gets to it yet: it does not listen
            os.chown(new, 0, group, follow_symlinks=False)
            new.chmod(0o660)
            listening.listen(_WAITING)
            new.rename(path)
        except BaseException:
            listening.close()
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostError(f"cannot listen at '{path}': {error.strerror}") from error
    return listening


def _require_roots(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(
            f"cannot let a group look: '{folder}' is no folder of root's alone",
            hint="remove it; the agent makes it when it starts",
        )
