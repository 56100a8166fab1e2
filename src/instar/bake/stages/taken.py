"""What ``files`` takes out of a stage: found in the stage's root, and copied from there.

It keeps its permissions, its links, its hard links and its empty folders. Its owner is the definition's to say, its
times are those of files (root.py), and set-user-ID bits and extended attributes stay behind unless ``keep`` names them.
Paths are resolved as the stage itself would: no link in it leads to a file of the machine's. The root is read-only, and
stays as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from instar.bake.files import sources
from instar.bake.files.excluded import Excluded, excluded
from instar.bake.files.kept import NOTHING_KEPT, KeptFile, Unkeepable, kept_of_open, put_kept
from instar.bake.files.sources import UnusableFile
from instar.bake.root import Owner, Root
from instar.bake.stages.takes import Take, TakenContent
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
    kept: KeptFile = NOTHING_KEPT


def content_of(root: Path, take: Take) -> TakenContent:
    """Return what a stage, whose files are at ``root``, has for ``take``. Raises UnusableFile, OSError."""
    with _found(root, take) as (top, found):
        read = [_read(top, one) for one in found]
    return TakenContent(digest=_digest(read), size_bytes=sum(sources.in_memory_bytes(one.size_bytes) for one in read))


def take_into(root: Root, take: Take, stage: Path, owner: Owner) -> None:
    """Copy what ``take`` names out of the ``stage``. Raises UnusableFile, OSError."""
    with _found(stage, take) as (top, found):
        if found[0].kind == "file":
            root.make_directory(take.to.rpartition("/")[0])
        copied = [_copy(root, take, one, top, owner) for one in found]
    if take.content is None or _digest(copied) != take.content.digest:
        raise UnusableFile(f"'{take.path}' of stage '{take.stage}' is not what it was; bake again")


@contextlib.contextmanager
def _found(root: Path, take: Take) -> Iterator[tuple[str, Sequence[Taken]]]:
    """Give a path of this machine to what ``take`` names, and what that is, each directory before what is in it.

    What is in files is not read.
    """
    with Root(root, epoch=0) as stage:
        if not stage.exists(take.path):
            raise UnusableFile(f"stage '{take.stage}' has no '{take.path}'{_there(stage, take.path)}")
        with stage.at(take.path) as top:
            yield str(top), _listed(str(top), take)


def _listed(top: str, take: Take) -> Sequence[Taken]:
    status = os.stat(top)  # noqa: PTH116 - a link of /proc, which is to be followed
    if not stat.S_ISDIR(status.st_mode):
        return (_file(top, "", status, take),)
    exclude = excluded(take.exclude, _FORMAT)
    found = sorted(_walk(top, take, exclude), key=lambda entry: os.fsencode(entry[0]))
    return _folder(top, "", status, take), *_linked(found)


def _copy(root: Root, take: Take, one: Taken, top: str, owner: Owner) -> Taken:
    """Copy one thing; return it with what was in it."""
    path = f"{take.to.rstrip('/')}/{one.path}".rstrip("/") or "/"
    if one.kind == "directory":
        root.make_directory(path, owner, one.mode)
    elif one.kind == "link":
        root.put_link(path, one.content, owner=owner)
    elif one.kind == "hard link":
        root.put_same(path, f"{take.to.rstrip('/')}/{one.content}")
    else:
        mode = one.mode if take.mode is None else take.mode
        written = root.put(path, _chunks(_joined(top, one.path)), owner=owner, mode=mode)
        one = dataclasses.replace(one, content=written.sha256.hex())
    put_kept(root, path, one.kept)
    return one


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
                yield path, _folder(entry.path, path, status, take), None
            elif stat.S_ISLNK(status.st_mode):
                yield path, _link(entry.path, path, take), None
            else:
                room -= status.st_size
                if room < 0:
                    raise UnusableFile(f"'{take.path}' of stage '{take.stage}' has more than 64 GiB")
                several = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
                yield path, _file(entry.path, path, status, take), several


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
    if "links" not in take.keep and sources.leads_out(inside, target):
        shown = f"{take.path.rstrip('/')}/{inside}"
        raise UnusableFile(
            f"'{shown}' of stage '{take.stage}' is a link that leads out of what is taken, to '{target}'; take the"
            " folder that has both, or leave it out with 'exclude'; 'keep: [links]' copies it as it is"
        )
    return Taken(path=inside, kind="link", content=target)


def _file(path: str, inside: str, status: os.stat_result, take: Take) -> Taken:
    mode = status.st_mode & _FILE_BITS
    return Taken(path=inside, kind="file", mode=mode, size_bytes=status.st_size, kept=_kept(path, take))


def _folder(path: str, inside: str, status: os.stat_result, take: Take) -> Taken:
    return Taken(path=inside, kind="directory", mode=status.st_mode & _FOLDER_BITS, kept=_kept(path, take))


def _kept(path: str, take: Take) -> KeptFile:
    keep = [one for one in take.keep if one != "hardlinks"]  # they are kept anyhow
    if not keep:
        return NOTHING_KEPT
    descriptor = os.open(path, _READ)
    try:
        return kept_of_open(descriptor, keep)
    except Unkeepable as error:
        raise UnusableFile(f"'{take.path}' of stage '{take.stage}': {error}") from error
    finally:
        os.close(descriptor)


def _read(top: str, one: Taken) -> Taken:
    """Return one thing with what is in it."""
    if one.kind != "file":
        return one
    descriptor = os.open(_joined(top, one.path), _READ)
    try:
        return dataclasses.replace(one, content=sources.sha256_of(descriptor, one.size_bytes))
    finally:
        os.close(descriptor)


def _digest(found: Iterable[Taken]) -> str:
    fields = (
        os.fsencode(field)
        for one in found
        for field in (one.path, one.kind, one.content, format(one.mode, "o"), *_fields(one.kept))
    )
    return hashlib.sha256(b"\0".join((_VERSION, *fields))).hexdigest()


def _fields(kept: KeptFile) -> Iterator[str]:
    if kept.bits:
        yield format(kept.bits, "o")
    for name, value in kept.attributes:
        yield from (name, value.hex())


def _there(stage: Root, path: str) -> str:
    """Say what is where ``path`` was looked for."""
    above = path.rpartition("/")[0]
    while above and not stage.exists(above):
        above = above.rpartition("/")[0]
    names = stage.names(above or "/")
    shown = ", ".join(f"'{name}'" for name in names[:_NAMED]) or "nothing"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; in '{above or '/'}' there is {shown}{more}"


def _joined(above: str, name: str) -> str:
    return f"{above}/{name}" if above and name else above or name


def _chunks(path: str) -> Iterator[bytes]:
    descriptor = os.open(path, _READ)
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield chunk
    finally:
        os.close(descriptor)
