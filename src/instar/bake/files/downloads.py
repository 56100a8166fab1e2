"""The step ``fetch``: files from the cache, put or unpacked where the definition says.

An archive is known by its hash and trusted no further: its files land below ``to`` and nowhere else, belong to root,
and hold no device, no set-user-ID bit and no link that leads out.
"""

from __future__ import annotations

import functools
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake.debian.deb import decompressed
from instar.bake.foreign import look_for_foreign
from instar.bake.root import ROOT, Root
from instar.bake.scratch import Room
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image_spec import Fetch
from instar.store import zipped
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK
from instar.store.members import Malformed, Members, Stream, begins_tar
from instar.store.overlay import DEEPEST

if TYPE_CHECKING:
    import zipfile

_CHUNK_BYTES = 1 << 20
_UNPACKED_LIMIT_BYTES = 16 << 30
_FILE, _PROGRAM = 0o644, 0o755
_COMPRESSIONS = {b"\x1f\x8b": ".gz", b"\xfd7zXZ": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
_TARGET_LIMIT_BYTES = 4095  # Linux's PATH_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    """``link`` is a symbolic link's target, ``same_as`` the path of a file that a hard link names."""

    path: str
    kind: str  # file, directory, link, same
    content: Callable[[], Iterable[bytes]] = tuple
    executable: bool = False
    link: str = ""


def bake_fetch(downloads: Sequence[Fetch], places: Sequence[str], room: Room) -> None:
    """Put each of ``downloads``; ``places`` are theirs in the definition. Raises StepFailed, FetchError."""
    with Root(room.root(), epoch=room.epoch) as root:
        for download, place in zip(downloads, places, strict=True):
            path = room.cache.verify(Digest.from_hex(download.sha256))
            try:
                if download.is_unpacked:
                    unpack_into(path, download.to, root)
                else:
                    root.make_directory(download.to.rpartition("/")[0])
                    mode = download.mode if download.mode is not None else _FILE
                    root.put(download.to, _chunks(path), owner=ROOT, mode=mode)
            except Malformed as error:
                raise room.failed(f"cannot unpack '{download.url}': {error}", place=place) from error
            except OSError as error:
                raise room.failed(f"{error.strerror or error}: '{download.to}'", place=place) from error
            look_for_foreign(root.programs, place, room)
            root.programs.clear()


def unpack_into(path: Path, to: str, root: Root) -> None:
    """Unpack the archive at ``path`` below ``to``. Raises Malformed, OSError."""
    with path.open("rb") as file:
        start = file.read(512)
    root.make_directory(to)
    if start.startswith(b"PK\x03\x04"):
        with zipped.opened(path) as archive:
            _put_all(_zip(archive), to, root)
    else:
        _put_all(_tar(path, start), to, root)


def _put_all(members: Iterable[_Member], to: str, root: Root) -> None:
    links: list[_Member] = []
    for member in members:
        target = f"{to.rstrip('/')}/{member.path}"
        if member.kind == "directory":
            root.make_directory(target)
        elif member.kind == "file":
            root.make_directory(target.rpartition("/")[0])
            root.put(target, member.content(), owner=ROOT, mode=_PROGRAM if member.executable else _FILE)
        else:
            links.append(member)
    for member in links:  # last, so that nothing is written through one
        _link(member, to.rstrip("/"), root)


def _link(member: _Member, to: str, root: Root) -> None:
    target = f"{to}/{member.path}"
    root.make_directory(target.rpartition("/")[0])
    if member.kind == "same":
        if not root.exists(f"{to}/{member.link}"):
            raise Malformed(f"'{member.path}' is a link to '{member.link}', which is not in it")
        root.put_same(target, f"{to}/{member.link}")
        return
    landed = posixpath.normpath(posixpath.join("/top", posixpath.dirname(member.path), member.link))
    if member.link.startswith("/") or not f"{landed}/".startswith("/top/"):
        raise Malformed(f"'{member.path}' is a link that leads out of it, to '{member.link}'")
    root.put_link(target, member.link, owner=ROOT)


def _tar(path: Path, start: bytes) -> Iterator[_Member]:
    kind = next((kind for magic, kind in _COMPRESSIONS.items() if start.startswith(magic)), "")
    if not kind and not begins_tar(start):
        raise Malformed("it is neither a tar (.gz, .xz, .bz2, .zst) nor a zip archive")
    stream = Stream(decompressed(_chunks(path), f".tar{kind}"), limit_bytes=_UNPACKED_LIMIT_BYTES)
    members = Members(stream, marked_end=True, sparse_limit_bytes=_UNPACKED_LIMIT_BYTES)
    kinds = {DIRECTORY: "directory", REGULAR: "file", SYMLINK: "link", HARD_LINK: "same"}
    for entry in members:
        if entry.kind not in kinds:
            raise Malformed(f"'{_text(entry.name)}' is a device or a pipe")
        link = _text(entry.link)
        name = _inside(_text(entry.name))
        if name:
            yield _Member(
                path=name,
                kind=kinds[entry.kind],
                content=lambda: map(bytes, members.content()),
                executable=bool(entry.mode & stat.S_IXUSR),
                link=_inside(link) if entry.kind == HARD_LINK else link,
            )


def _zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        is_link = stat.S_ISLNK(mode)
        if name := _inside(info.filename):
            yield _Member(
                path=name,
                kind="directory" if info.is_dir() else "link" if is_link else "file",
                content=functools.partial(zipped.chunks, archive, info),
                executable=bool(mode & stat.S_IXUSR),
                link=_text(zipped.content(archive, info, limit_bytes=_TARGET_LIMIT_BYTES)) if is_link else "",
            )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _inside(name: str) -> str:
    """Return a member's name as a plain path below where it is unpacked. Raises Malformed."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise Malformed(f"'{name}' leads out of it")
    if len(parts) > DEEPEST + 1:
        raise Malformed(f"'{name[:80]}…' is nested more than {DEEPEST} deep")
    return "/".join(parts)
