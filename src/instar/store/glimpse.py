"""What an image has at a few paths, by its layers alone: nothing is unpacked, mounted or written.

Layers are read from the lowest up, as an overlay shows them: what is in a higher one hides what is below, and whiteouts
take away. Links are given as they are, and none is followed: what lies behind one is not at that path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from instar.frozen import dataclass
from instar.model.image import Layer
from instar.store import overlay
from instar.store.blobs import Blobs
from instar.store.header import DIRECTORY, REGULAR, SYMLINK
from instar.store.layers import checked, explained
from instar.store.members import Malformed, Members, Stream
from instar.store.room import UNPACK_LIMIT_BYTES

LIMIT_BYTES: Final = 32 << 20  # of one file


@dataclass(frozen=True, slots=True)
class Seen:
    """``content`` of a regular file, or the ``link`` that is there; neither, of what is something else."""

    content: bytes | None = None
    link: bytes | None = None


def look(blobs: Blobs, layers: Iterable[Layer], wanted: re.Pattern[bytes]) -> dict[bytes, Seen]:
    """Return what is at the paths that ``wanted`` matches as a whole, relative to the root, by its path.

    Raises BlobDamaged, and StoreError for a layer that nothing here would unpack, or a file beyond the limit.
    """
    found: dict[bytes, Seen] = {}
    for layer in layers:
        with explained(f"look into layer '{layer.digest.short}'", blobs, layer):
            here, gone = _look(blobs, layer, wanted)
        found = {path: seen for path, seen in found.items() if not _is_gone(path, gone)}
        found |= here
    return found


def _look(blobs: Blobs, layer: Layer, wanted: re.Pattern[bytes]) -> tuple[dict[bytes, Seen], set[bytes]]:
    """Return what a layer has, and the paths below which, or at which, nothing of the layers beneath is left."""
    here, gone = dict[bytes, Seen](), set[bytes]()
    members = Members(Stream(checked(blobs, layer), limit_bytes=UNPACK_LIMIT_BYTES))
    for entry in members:
        parts = [part for part in entry.name.split(b"/") if part not in (b"", b".")]
        path, above, name = b"/".join(parts), b"/".join(parts[:-1]), parts[-1] if parts else b""
        if name == overlay.OPAQUE_MARKER:
            gone.add(above + b"/")
        elif name.startswith(overlay.PREFIX):
            gone.add(b"/".join((*parts[:-1], name.removeprefix(overlay.PREFIX))))
        elif entry.kind != DIRECTORY:
            gone.add(path)
        if entry.kind != DIRECTORY and wanted.fullmatch(path):
            here[path] = Seen(link=entry.link) if entry.kind == SYMLINK else Seen()
            if entry.kind == REGULAR:
                if entry.size > LIMIT_BYTES:
                    raise Malformed(f"'{path.decode(errors='replace')}' has {entry.size:,} bytes")
                here[path] = Seen(content=b"".join(members.content()))
    return here, gone


def _is_gone(path: bytes, gone: set[bytes]) -> bool:
    parts = path.split(b"/")
    above = [b"/".join(parts[:count]) for count in range(1, len(parts))]
    return path in gone or any(one in gone or one + b"/" in gone for one in above) or b"/" in gone
