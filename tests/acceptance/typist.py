"""Somebody at a terminal: types into a command, and looks at what it shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from project import INSTAR, Project


class Typist:
    """``shown`` is everything that the terminal showed until now."""

    def __init__(self, ours: int, theirs: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.shown = ""
        self._ours = ours
        self._theirs = theirs

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, text: str, *, timeout_s: float = 20) -> None:
        """Wait until ``text`` was shown after what was waited for before."""
        deadline, seen = time.monotonic() + timeout_s, len(self.shown)
        while text not in self.shown[self._looked :]:
            assert time.monotonic() < deadline, f"{text!r} was not shown, but:\n{self.shown[seen:] or self.shown}"
            self._look(0.05)
        self._looked = self.shown.index(text, self._looked) + len(text)

    _looked = 0

    def interrupt(self, prompt: str, *, timeout_s: float = 20) -> None:
        """Type ^C until the shell's prompt comes, as a person does: a shell that has just begun a program may take it
        for itself and wait on, and Linux throws away what is printed in that very moment."""
        deadline = time.monotonic() + timeout_s
        while prompt not in self.shown[self._looked :]:
            assert time.monotonic() < deadline, f"no prompt came:\n{self.shown}"
            self.type("\x03")
            while self._look(1.0) and prompt not in self.shown[self._looked :]:
                pass
        self._looked = len(self.shown)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        """Return how the terminal is set: raw or not, with an echo or without."""
        return termios.tcgetattr(self._theirs)

    def end(self, *, timeout_s: float = 30) -> int:
        """Wait for the command's end, and return its exit status."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end:\n{self.shown}"
            self._look(0.05)
        while self._look(0.05):
            pass
        return self.process.returncode

    def _look(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            self.shown += os.read(self._ours, 65_536).decode(errors="replace")
        return True


@contextlib.contextmanager
def at_terminal(project: Project, *words: str, columns: int = 90, rows: int = 30) -> Iterator[Typist]:
    """Run ``instar`` on a terminal of its own, as a login there would."""
    environ = {**project.environ, "TERM": "xterm-256color"}
    with command_at_terminal([INSTAR, *words], project.folder, environ, columns=columns, rows=rows) as typist:
        yield typist


@contextlib.contextmanager
def command_at_terminal(
    words: Sequence[str | Path], folder: Path, environ: Mapping[str, str], *, columns: int = 90, rows: int = 30
) -> Iterator[Typist]:
    """Run a command on a terminal of its own."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        ["setsid", "--ctty", *words],
        cwd=folder,
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        yield Typist(ours, theirs, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
