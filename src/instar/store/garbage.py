"""What no kept image needs, and its removal.

The index is written first and blobs go after it: a crash between leaves blobs that nobody names, and the next
collection takes them. A blob that was stored for an image that isn't entered yet is garbage too, so a bake and a
collection must not run at once: the machine's lock sees to it. If they do, the bake finds its layer missing when it
enters the image, and nothing is damaged: both hold the index's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.store import attachments, platforms
from instar.store.blobs import Blobs, damaged
from instar.store.faults import reported
from instar.store.index import Descriptor, Index, digests, drop


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What a collection removed, or would remove: images, how many blobs, and how many bytes that frees."""

    images: tuple[Digest, ...]
    blobs: int
    size_bytes: int


def collect(blobs: Blobs, index: Index, keep: Collection[Digest], *, dry_run: bool) -> Collected:
    """Do what :meth:`instar.store.Store.collect` says."""
    with reported("collect garbage", index.root), index.locked():
        descriptors = list(index.read())
        gone = tuple(digest for digest in digests(descriptors) if digest not in keep)
        needed = wanted(blobs, descriptors, keep) | attachments.wanted(blobs, descriptors, keep)
        if gone and not dry_run:
            drop(descriptors, gone)
            index.write(descriptors)
        sizes = {digest: size for digest, size in blobs.sizes().items() if digest not in needed}
        if not dry_run:
            for digest in sizes:
                blobs.remove(digest)
        stale_bytes = blobs.stale(remove=not dry_run)
    return Collected(images=gone, blobs=len(sizes), size_bytes=sum(sizes.values()) + stale_bytes)


def wanted(blobs: Blobs, descriptors: Sequence[Descriptor], keep: Collection[Digest]) -> set[Digest]:
    """Return every blob that ``keep`` needs. Raises BlobDamaged for a kept image whose manifest can't be read."""
    found = set(keep)
    for digest in digests(descriptors):
        if digest in keep:
            try:
                found.update(platforms.blobs_of(blobs, blobs.read(digest)))
            except ValueError as error:
                raise damaged(digest, str(error)) from error
    return found
