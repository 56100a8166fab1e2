"""All files of an image, by its layers alone: nothing is unpacked, mounted or written.

Layers are read from the lowest up, as an overlay shows them: what is in a higher one hides what is below, and whiteouts
take away. Links are given as they are, and none is followed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Final

from instar.errors import StoreError
from instar.frozen import dataclass
from instar.model.image import Layer
from instar.store import overlay
from instar.store.blobs import Blobs
from instar.store.header import DIRECTORY, REGULAR, Entry
from instar.store.layers import checked, explained
from instar.store.members import Members, Stream
from instar.store.room import UNPACK_LIMIT_BYTES

READ_LIMIT_BYTES: Final = 32 << 20  # of one file
_CONTENTS_LIMIT_BYTES: Final = 256 << 20  # of all that is read of one image
_NAMES_LIMIT: Final = 2_000_000

ALL: Final = re.compile(rb".*", re.DOTALL)
NONE: Final = re.compile(rb"(?!)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """What is at a path: ``kind`` as tar has it. ``link`` is where a link leads, or the other name of a file that has
    several. ``sha256`` is of a file's content, "" of all else; ``content`` is there where it was asked for."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    size_bytes: int = 0
    link: bytes = b""
    sha256: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    content: bytes | None = field(default=None, compare=False)


Listing = dict[bytes, ListedFile]  # of paths relative to the root


def list_files(
    blobs: Blobs,
    layers: Iterable[Layer],
    read: re.Pattern[bytes],
    beneath: Listing,
    look: Callable[[], None],
    *,
    others: re.Pattern[bytes],
) -> Listing:
    """Return what layers show over what is ``beneath``, folders too: files at paths that ``read`` matches whole, with
    their content, and without it what ``others`` does. ``look`` is called before each layer, and may raise.

    Raises BlobDamaged; StoreError for a layer that nothing here would unpack, or files to read beyond the limits.
    """
    found = dict(beneath)
    for layer in layers:
        look()
        with explained(f"list layer '{layer.digest.short}'", blobs, layer):
            here, gone = _listed(blobs, layer, read, others, _CONTENTS_LIMIT_BYTES - _read_bytes(found))
        if gone:
            found = {path: one for path, one in found.items() if not _is_gone(path, gone)}
        found |= here
        if len(found) > _NAMES_LIMIT:
            raise StoreError(f"cannot list an image of more than {_NAMES_LIMIT:,} files")
    return found


def _read_bytes(found: Listing) -> int:
    return sum(len(one.content) for one in found.values() if one.content is not None)


def _listed(
    blobs: Blobs, layer: Layer, read: re.Pattern[bytes], others: re.Pattern[bytes], left_bytes: int
) -> tuple[Listing, set[bytes]]:
    """Return what a layer has, and what of the layers beneath it takes away: a path, and with a ``/`` at its end what
    is in that folder alone. ``left_bytes`` may be read. Raises ValueError."""
    here, gone = Listing(), set[bytes]()
    members = Members(Stream(checked(blobs, layer), limit_bytes=UNPACK_LIMIT_BYTES))
    for entry in members:
        parts = [part for part in entry.name.split(b"/") if part not in (b"", b".")]
        path, name = b"/".join(parts), parts[-1] if parts else b""
        if name == overlay.OPAQUE_MARKER:
            gone.add(b"/".join((*parts[:-1], b"")))
        elif name.startswith(overlay.PREFIX):
            gone.add(b"/".join((*parts[:-1], name.removeprefix(overlay.PREFIX))))
        else:
            if entry.kind != DIRECTORY:
                gone.add(path)
            if read.fullmatch(path) or others.fullmatch(path):
                here[path] = one = _file(entry, members, path, read)
                left_bytes -= len(one.content or b"")
                if left_bytes < 0:
                    raise ValueError(f"'{path.decode(errors='replace')}' and others are too large to be read")
    return here, gone


def _file(entry: Entry, members: Members, path: bytes, read: re.Pattern[bytes]) -> ListedFile:
    seen, content = hashlib.sha256(), bytearray() if read.fullmatch(path) and entry.kind == REGULAR else None
    for piece in members.content() if entry.kind == REGULAR else ():
        seen.update(piece)
        if content is not None:
            content += piece
            if len(content) > READ_LIMIT_BYTES:
                raise ValueError(f"'{path.decode(errors='replace')}' has more than {READ_LIMIT_BYTES:,} bytes")
    return ListedFile(
        kind=entry.kind,
        mode=entry.mode,
        owner=(entry.uid, entry.gid),
        size_bytes=entry.size if entry.kind == REGULAR else 0,
        link=entry.link,
        sha256=seen.hexdigest() if entry.kind == REGULAR else "",
        xattrs=dict(entry.xattrs),
        content=None if content is None else bytes(content),
    )


def _is_gone(path: bytes, gone: set[bytes]) -> bool:
    if path in gone or b"" in gone:
        return True
    at = path.find(b"/")
    while at >= 0:
        if path[:at] in gone or path[: at + 1] in gone:
            return True
        at = path.find(b"/", at + 1)
    return False
