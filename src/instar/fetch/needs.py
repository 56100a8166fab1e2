"""Which fetched files are needed by whom: CACHE/needed/NAME, a digest a line.

NAME is an image's hexadecimal digest, or ``service-`` and a service's name for the lock that it was locked to or baked
from last, also when that bake failed. A bake writes it before it fetches the files. A record is put in place whole; one
that is missing, or is none, means that it is not known what is needed: then nothing may go.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from instar import durable
from instar.errors import HostError
from instar.model.digest import Digest

_ABANDONED_S = 3600  # of what is being written


class Needs:
    """The records in the cache at ``cache``. Several processes may use it at once."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "needed"

    def write(self, name: str, digests: Iterable[Digest]) -> None:
        """Write down what ``name`` needs: whole or not at all, and nothing when that is written already.

        Raises HostError.
        """
        wanted = frozenset(digests)
        if self.find(name) == wanted:
            return
        try:
            self._write(name, "".join(f"{digest.hex}\n" for digest in sorted(wanted)))
        except OSError as error:
            raise HostError(
                f"cannot write to '{self._folder}': {error.strerror or error}",
                hint="make room there (instar gc --all), or let another directory hold it: $INSTAR_HOME",
            ) from error

    def find(self, name: str) -> frozenset[Digest] | None:
        """Return what ``name`` needs, None when that is not known."""
        try:
            return frozenset(Digest.from_hex(line) for line in durable.read_text(self._folder / name).splitlines())
        except (OSError, ValueError):
            return None

    def names(self) -> frozenset[str]:
        """Return whose needs are written down."""
        if not self._folder.is_dir():
            return frozenset()
        return frozenset(entry.name for entry in self._folder.iterdir() if not entry.name.startswith("."))

    def forget(self, names: Iterable[str]) -> None:
        """Remove the records of ``names``, and what crashes left of others."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        for path in self._folder.glob(".*") if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # its writer has finished
                if time.time() - path.lstat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(self._folder / name, text.encode(), mode=0o644)
