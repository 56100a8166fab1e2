"""Which files were hashed, and what they were like then: size, inode and times.

One that is still like that was not written to by any ordinary way, so it is not read again: a check takes milliseconds.
A disk that decays changes nothing of it. A note holds for one boot, and is worth as much as the root of this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from instar import durable
from instar.syscalls import boot_id


class HashedFiles:
    """The notes in ``folder``, one a file, by the file's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, path: Path) -> bool:
        """Tell whether ``path`` is as it was when it was sealed."""
        with contextlib.suppress(OSError):
            return self.note(path) == _identity(path)
        return False

    @contextlib.contextmanager
    def sealing(self, path: Path) -> Iterator[None]:
        """Seal ``path``, which is read inside, as it was before it was read; forget it if the block raises. What cannot
        be noted is read again the next time."""
        before = _identity(path)
        try:
            yield
        except BaseException:
            self.forget(path)
            raise
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._note(path), before.encode(), lasting=False)

    def note(self, path: Path) -> str:
        """Return what was noted of ``path``; "" where nothing was."""
        with contextlib.suppress(OSError, ValueError):
            return durable.read_text(self._note(path))
        return ""

    def forget(self, path: Path) -> None:
        """Forget that ``path`` was hashed."""
        self._note(path).unlink(missing_ok=True)

    def _note(self, path: Path) -> Path:
        return self._folder / path.name


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{boot_id()} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
