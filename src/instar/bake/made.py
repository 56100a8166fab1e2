"""What the scripts of packages made, in the tree of a step: files that no package lists.

dpkg's own lists say which files a package brought; what a script wrote beside them it wrote on this machine, now.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from instar.bake.normalise import is_taken_away

_INFO = b"var/lib/dpkg/info"
_ADMIN = b"var/lib/dpkg/"  # dpkg's own, the same everywhere
_MERGED = (b"bin/", b"lib/", b"lib32/", b"lib64/", b"libx32/", b"sbin/")
_SCRIPTS = (".postinst", ".preinst", ".config")
_LEAST_NAME = 4  # a shorter name in a script says nothing
_DEEPEST = 256
_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A file that a script made. ``path`` is inside the tree, without a slash at its beginning."""

    path: bytes
    file: Path
    status: os.stat_result

    @property
    def shown(self) -> str:
        return "/" + self.path.decode("utf-8", "backslashreplace")

    def read(self, limit_bytes: int) -> bytes:
        """Return what is in it, at most ``limit_bytes``. Raises OSError."""
        descriptor = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            return file.read(limit_bytes)


class Packages:
    """What dpkg has noted, in ``tree``, of the packages that a step installed."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._info = tree / os.fsdecode(_INFO)
        self._owners: dict[bytes, list[str]] = {}
        for file in sorted(self._info.glob("*.list")) if self._info.is_dir() else ():
            for line in file.read_bytes().splitlines():
                self._owners.setdefault(_merged(line.strip(b"/")), []).append(_package(file))

    def lists(self, path: bytes) -> bool:
        return _merged(path) in self._owners

    def texts_like(self, path: bytes) -> Iterator[bytes]:
        """Yield what everybody can read in packages: files of the name that ``path`` has, and all scripts."""
        name = path.rpartition(b"/")[2]
        for listed in self._owners:
            file = self._tree / os.fsdecode(listed)
            if listed.rpartition(b"/")[2] == name and file.is_file() and not file.is_symlink():
                yield file.read_bytes()[:_TEXT_BYTES]
        yield from self._scripts().values()

    def maker(self, path: bytes) -> str | None:
        """Return the package whose script made ``path``, as far as anybody can tell.

        It is one whose script names the path, or the only one that has the nearest folder, or one that names the file.
        """
        scripts = self._scripts()
        by_path = [name for name, text in scripts.items() if b"/" + path in text]
        if by_path:
            return by_path[0]
        above = path
        while above := above.rpartition(b"/")[0]:
            if owners := self._owners.get(_merged(above)):
                if len(set(owners)) == 1:
                    return owners[0]
                break
        name = path.rpartition(b"/")[2]
        return next((one for one, text in scripts.items() if len(name) >= _LEAST_NAME and name in text), None)

    def _scripts(self) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for file in sorted(self._info.iterdir()) if self._info.is_dir() else ():
            if file.suffix in _SCRIPTS:
                found[_package(file)] = found.get(_package(file), b"") + file.read_bytes()
        return found


def made_by_scripts(tree: Path, packages: Packages) -> Iterator[Made]:
    """Yield every regular file in ``tree`` that no package lists and that would be part of the layer, in order."""
    waiting = [(os.fsencode(tree), b"", 0)]
    while waiting:
        folder, inside, depth = waiting.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEPEST:
                    waiting.append((entry.path, path + b"/", depth + 1))
            elif entry.is_file(follow_symlinks=False) and not packages.lists(path) and not path.startswith(_ADMIN):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and not is_taken_away(path):
                    yield Made(path=path, file=Path(os.fsdecode(entry.path)), status=status)


def _merged(path: bytes) -> bytes:
    """Return the one name of a file that /usr and its links give two names."""
    return b"usr/" + path if path.startswith(_MERGED) else path


def _package(file: Path) -> str:
    return file.stem.partition(":")[0]
