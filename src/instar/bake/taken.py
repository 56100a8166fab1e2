"""What ``files`` takes out of a stage: found in the stage's root, and copied from there.

It keeps its permissions, its links, its hard links and its empty folders. Its owner is the definition's to say, its
times are those of files (root.py), and set-user-ID bits and extended attributes stay behind. Paths are resolved as the
stage itself would: no link in it leads to a file of the machine's. The root is read-only, and stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from instar.bake import sources
from instar.bake.excluded import Excluded, excluded
from instar.bake.root import Owner, Root
from instar.bake.sources import UnusableFile
from instar.bake.takes import Content, Take
from instar.frozen import dataclass

_VERSION = b"taken 1"  # of what is copied of what is found
_FOLDER_BITS, _FILE_BITS = 0o1777, 0o777
_READ = os.O_RDONLY | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20
_NAMED = 5
_FORMAT = 2  # of the patterns of ``exclude``: no stage is older


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """One thing to copy. ``path`` is below ``to``, and empty for what was asked for itself.

    ``content`` is a file's SHA-256 in hex, and the target of a link: of a hard one, the path that it has first.
    """

    path: str
    kind: Literal["file", "link", "hard link", "directory"]
    content: str = ""
    mode: int = 0
    size_bytes: int = 0


def content_of(root: Path, take: Take) -> Content:
    """Return what a stage, whose files are at ``root``, has for ``take``. Raises UnusableFile, OSError."""
    found = find(root, take)
    return Content(digest=_digest(found), size_bytes=sum(sources.in_memory_bytes(one.size_bytes) for one in found))


def find(root: Path, take: Take) -> tuple[Taken, ...]:
    """Return what ``take`` names, each directory before what is in it. Raises UnusableFile, OSError."""
    with Root(root, epoch=0) as stage:
        try:
            with stage.at(take.path) as top:
                status = top.stat()
                if not stat.S_ISDIR(status.st_mode):
                    return (_file(str(top), "", status),)
                exclude = excluded(take.exclude, _FORMAT)
                first = Taken(path="", kind="directory", mode=status.st_mode & _FOLDER_BITS)
                found = sorted(_walk(str(top), take, exclude), key=lambda entry: os.fsencode(entry[0]))
                return first, *_linked(found)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UnusableFile(f"stage '{take.stage}' has no '{take.path}'{_there(stage, take.path)}") from error


def take_into(root: Root, take: Take, stage: Path, owner: Owner) -> None:
    """Copy what ``take`` names out of the ``stage``. Raises UnusableFile, OSError."""
    found = find(stage, take)
    if take.content is None or _digest(found) != take.content.digest:
        raise _changed(take)
    with Root(stage, epoch=0) as source, source.at(take.path) as top:
        if found[0].kind == "file":
            root.make_directory(take.to.rpartition("/")[0])
        for one in found:
            _copy(root, take, one, f"{take.to.rstrip('/')}/{one.path}".rstrip("/") or "/", str(top), owner)


def _copy(root: Root, take: Take, one: Taken, path: str, top: str, owner: Owner) -> None:
    if one.kind == "directory":
        root.make_directory(path, owner, one.mode)
    elif one.kind == "link":
        root.put_link(path, one.content, owner=owner)
    elif one.kind == "hard link":
        root.put_same(path, f"{take.to.rstrip('/')}/{one.content}")
    else:
        mode = one.mode if take.mode is None else take.mode
        if root.put(path, _chunks(_joined(top, one.path)), owner=owner, mode=mode).sha256.hex() != one.content:
            raise _changed(take)


def _walk(top: str, take: Take, exclude: Excluded | None) -> Iterator[tuple[str, Taken, tuple[int, int] | None]]:
    """Yield what is in a folder: the path, what it is, and of a file with several names which file it is."""
    room, waiting = sources.LARGEST_BYTES, [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(_joined(top, above)) as entries:
            found = list(entries)
        for entry in found:
            path = _joined(above, entry.name)
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if exclude and exclude.leave_out(path, is_folder=is_folder):
                continue
            if is_folder:
                waiting.append(path)
                yield path, Taken(path=path, kind="directory", mode=status.st_mode & _FOLDER_BITS), None
            elif stat.S_ISLNK(status.st_mode):
                yield path, _link(entry.path, path, take), None
            else:
                room -= status.st_size
                if room < 0:
                    raise UnusableFile(f"'{take.path}' of stage '{take.stage}' has more than 64 GiB")
                several = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
                yield path, _file(entry.path, path, status), several


def _linked(found: Sequence[tuple[str, Taken, tuple[int, int] | None]]) -> Iterator[Taken]:
    """Yield what was found, every further name of a file as a link to its first."""
    first: dict[tuple[int, int], str] = {}
    for path, one, file in found:
        if file is not None and first.setdefault(file, path) != path:
            yield Taken(path=path, kind="hard link", content=first[file])
        else:
            yield one


def _link(path: str, inside: str, take: Take) -> Taken:
    target = os.readlink(path)  # noqa: PTH115 - text, nothing is followed
    if sources.leads_out(inside, target):
        shown = f"{take.path.rstrip('/')}/{inside}"
        raise UnusableFile(
            f"'{shown}' of stage '{take.stage}' is a link that leads out of what is taken, to '{target}'; take the"
            " folder that has both, or leave it out with 'exclude'"
        )
    return Taken(path=inside, kind="link", content=target)


def _file(path: str, inside: str, status: os.stat_result) -> Taken:
    descriptor = os.open(path, _READ)
    try:
        digest = sources.sha256_of(descriptor, status.st_size)
    finally:
        os.close(descriptor)
    mode = status.st_mode & _FILE_BITS
    return Taken(path=inside, kind="file", content=digest, mode=mode, size_bytes=status.st_size)


def _digest(found: Sequence[Taken]) -> str:
    fields = [os.fsencode(field) for one in found for field in (one.path, one.kind, one.content, format(one.mode, "o"))]
    return hashlib.sha256(b"\0".join((_VERSION, *fields))).hexdigest()


def _there(stage: Root, path: str) -> str:
    """Say what is where ``path`` was looked for."""
    above = path.rpartition("/")[0]
    while above and not stage.exists(above):
        above = above.rpartition("/")[0]
    names = stage.names(above or "/")
    shown = ", ".join(f"'{name}'" for name in names[:_NAMED]) or "nothing"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; in '{above or '/'}' there is {shown}{more}"


def _changed(take: Take) -> UnusableFile:
    return UnusableFile(f"'{take.path}' of stage '{take.stage}' is not what it was; bake again")


def _joined(above: str, name: str) -> str:
    return f"{above}/{name}" if above and name else above or name


def _chunks(path: str) -> Iterator[bytes]:
    descriptor = os.open(path, _READ)
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield chunk
    finally:
        os.close(descriptor)
