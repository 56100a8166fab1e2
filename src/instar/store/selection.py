"""What a copy of the store needs for some of its images: an index with them alone, and their blobs."""

from __future__ import annotations

from instar.errors import BlobDamaged
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.store import attachments, garbage
from instar.store.blobs import Blobs
from instar.store.index import Index, digests, drop, index_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """``index`` is ``index.json``; ``blobs`` are all that it needs, with their sizes in bytes, in order."""

    index: bytes
    blobs: tuple[tuple[Digest, int], ...]


def select(blobs: Blobs, index: Index, keep: frozenset[Digest]) -> Selection:
    """Do what :meth:`instar.store.Store.selection` says."""
    descriptors = list(index.read())
    wanted = garbage.wanted(blobs, descriptors, keep) | attachments.wanted(blobs, descriptors, keep)
    drop(descriptors, [one for one in digests(descriptors) if one not in keep])
    sizes = []
    for digest in sorted(wanted):
        try:
            sizes.append((digest, blobs.path(digest).stat().st_size))
        except FileNotFoundError as error:
            raise BlobDamaged(
                f"cannot copy blob '{digest.short}': it is missing",
                hint="bake what needs it again (instar bake), or remove its image (instar images remove)",
            ) from error
    return Selection(index=index_json(descriptors), blobs=tuple(sizes))
