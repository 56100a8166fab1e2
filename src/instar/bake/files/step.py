"""The step ``files``: the author's files, copied in, and what is taken out of stages (taken.py).

What is copied of the author's is found by ``sources.py``.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from instar.bake.files import sources
from instar.bake.files.kept import put_kept
from instar.bake.files.sources import Copy, FoundFile
from instar.bake.foreign import look_for_foreign
from instar.bake.root import Root, open_without_links
from instar.bake.scratch import Room
from instar.bake.stages.taken import take_into
from instar.bake.stages.takes import Take

_CHUNK_BYTES = 1 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # not to wait for the writer of a pipe
_LONGEST_PATH_BYTES = 4095
_FILE, _PROGRAM = 0o644, 0o755


def bake_files(copies: Sequence[Copy | Take], room: Room) -> None:
    """Copy the author's files, and those of stages. Raises StepFailed, pointing at the entry that is at fault."""
    with Root(room.root(), epoch=room.epoch) as root:
        for copy in copies:
            owner = copy.owner or room.user
            assert owner is not None
            try:
                if isinstance(copy, Take):
                    take_into(root, copy, room.stage(copy.stage), owner)
                else:
                    copy_into(root, dataclasses.replace(copy, owner=owner))
            except (sources.UnusableFile, OSError) as error:
                cause = _cause(error, copy) if isinstance(error, OSError) else str(error)
                raise room.failed(cause, place=copy.place) from error
            look_for_foreign(root.programs, copy.place, room)
            root.programs.clear()


def _cause(error: OSError, copy: Copy | Take) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return f"a path below '{copy.to}' is longer than the {_LONGEST_PATH_BYTES:,} bytes that Linux takes"
    return f"{error.strerror}: {_where(error, copy)}"


def _where(error: OSError, copy: Copy | Take) -> str:
    """Return what could not be written: as it is called inside, or, where only its last part is known, below what."""
    name = error.filename if isinstance(error.filename, str) else ""
    if not name or name.lstrip("/") == copy.to.lstrip("/"):
        return f"'{copy.to}'"
    return f"'/{name.lstrip('/')}'" if "/" in name else f"'{name}', below '{copy.to}'"


def copy_into(root: Root, copy: Copy) -> None:
    """Copy what one entry found. Raises Unusable, OSError."""
    assert copy.owner is not None
    if len(copy.found) == 1 and not copy.found[0].path:
        root.make_directory(copy.to.rpartition("/")[0])
        _put(copy, copy.found[0], copy.origin, copy.to, root)
        return
    root.make_directory(copy.to, copy.owner)
    for source in copy.found:
        path = f"{copy.to.rstrip('/')}/{source.path}"
        if source.kind == "directory":
            root.make_directory(path, copy.owner)
            put_kept(root, path, source.kept)
        elif source.kind == "link":
            root.put_link(path, source.content, owner=copy.owner)
        elif source.kept.same_as:
            root.put_same(path, f"{copy.to.rstrip('/')}/{source.kept.same_as}")
        else:
            _put(copy, source, copy.origin / source.path, path, root)


def _put(copy: Copy, source: FoundFile, origin: Path, path: str, root: Root) -> None:
    mode = copy.mode if copy.mode is not None else _PROGRAM if source.executable else _FILE
    assert copy.owner is not None
    written = root.put(path, _chunks(origin, source.size_bytes), owner=copy.owner, mode=mode)
    if written.sha256.hex() != source.content:
        raise _changed(origin)
    put_kept(root, path, source.kept)


def _changed(origin: Path) -> sources.UnusableFile:
    return sources.UnusableFile(f"'{origin}' was changed while it was baked; bake again")


def _chunks(path: Path, size_bytes: int) -> Iterator[bytes]:
    """Yield what a file holds, and a little more where it has grown since: then it is another one."""
    top = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        descriptor = open_without_links(top, os.fsencode(path).lstrip(b"/"), _READ)
    except OSError as error:
        raise _changed(path) from error
    finally:
        os.close(top)
    try:
        left = size_bytes + 1
        while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
