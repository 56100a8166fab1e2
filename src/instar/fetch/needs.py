"""Which fetched files are needed by whom: CACHE/needed/NAME, a digest a line.

NAME is an image's hexadecimal digest, or ``service-`` and a service's name for the lock that it was baked from last,
also when that bake failed. Written whole before the files are fetched; who is not there is not known to need anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from instar.model.digest import Digest


class Needs:
    def __init__(self, cache: Path) -> None:
        self._folder = cache / "needed"

    def write(self, name: str, digests: Iterable[Digest]) -> None:
        """Write down what ``name`` needs. Nothing when that is written already."""
        text = "".join(f"{digest.hex}\n" for digest in sorted(set(digests)))
        path = self._folder / name
        if path.exists() and path.read_text() == text:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{name}.{os.getpid()}")
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def find(self, name: str) -> frozenset[Digest] | None:
        """Return what ``name`` needs, None when nobody wrote that down."""
        try:
            return frozenset(Digest.from_hex(line) for line in (self._folder / name).read_text().split())
        except FileNotFoundError:
            return None

    def names(self) -> frozenset[str]:
        if not self._folder.is_dir():
            return frozenset()
        return frozenset(entry.name for entry in self._folder.iterdir() if not entry.name.startswith("."))

    def forget(self, keep: Iterable[str]) -> None:
        """Remove the records of all but ``keep``, and what crashes left."""
        wanted = set(keep)
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name not in wanted:
                path.unlink(missing_ok=True)
