"""What the scripts of packages made, in the tree of a step: files that no package lists.

dpkg's own lists say which files a package brought; what a script wrote beside them it wrote on this machine, now.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from instar.bake.normalise import is_taken_away
from instar.bake.root import Root
from instar.frozen import dataclass
from instar.store.overlay import DEEPEST

_INFO = "var/lib/dpkg/info"
_ADMIN = b"var/lib/dpkg/"  # dpkg's own, the same everywhere
_MERGED = (b"bin/", b"lib/", b"lib32/", b"lib64/", b"libx32/", b"sbin/")
_SCRIPTS = (".postinst", ".preinst", ".config")
_LEAST_NAME = 4  # a shorter name in a script says nothing
_TEXT_BYTES = 1 << 20
_NOTE_BYTES = 16 << 20  # of one that dpkg keeps: the longest have a fiftieth of that


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeFile:
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
    """What dpkg has noted, in ``tree``, of the packages that a step installed.

    Their scripts ran there since: what is read is in the tree, and a regular file.
    """

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._owners: dict[bytes, list[str]] = {}
        for file, content in self._notes((".list",)):
            for line in content.splitlines():
                self._owners.setdefault(_merged(line.strip(b"/")), []).append(_package(file))

    def lists(self, path: bytes) -> bool:
        return _merged(path) in self._owners

    def texts_like(self, path: bytes) -> Iterator[bytes]:
        """Yield what everybody can read in packages: files of the name that ``path`` has, and all scripts."""
        name = path.rpartition(b"/")[2]
        with Root(self._tree, epoch=0) as root:
            for listed in self._owners:
                if listed.rpartition(b"/")[2] == name and (text := root.find_own(listed, _TEXT_BYTES)) is not None:
                    yield text
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
        for file, content in self._notes(_SCRIPTS):
            found[_package(file)] = found.get(_package(file), b"") + content
        return found

    def _notes(self, suffixes: Collection[str]) -> Iterator[tuple[PurePosixPath, bytes]]:
        """Yield those files of dpkg's that end so, in order, and what is in them."""
        with Root(self._tree, epoch=0) as root:
            for name in root.names(_INFO):
                file = PurePosixPath(name)
                if file.suffix not in suffixes:
                    continue
                content = root.find_own(os.fsencode(f"{_INFO}/{name}"), _NOTE_BYTES)
                if content is not None:
                    yield file, content


def made_by_scripts(tree: Path, packages: Packages) -> Iterator[MadeFile]:
    """Yield every regular file in ``tree`` that no package lists and that would be part of the layer, in order."""
    waiting = [(os.fsencode(tree), b"", 0)]
    while waiting:
        folder, inside, depth = waiting.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST:
                    waiting.append((entry.path, path + b"/", depth + 1))
            elif entry.is_file(follow_symlinks=False) and not packages.lists(path) and not path.startswith(_ADMIN):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and not is_taken_away(path):
                    yield MadeFile(path=path, file=Path(os.fsdecode(entry.path)), status=status)


def _merged(path: bytes) -> bytes:
    """Return the one name of a file that /usr and its links give two names."""
    return b"usr/" + path if path.startswith(_MERGED) else path


def _package(file: PurePosixPath) -> str:
    return file.stem.partition(":")[0]
