"""What other tools attach to an image: signatures, bills of materials, each a manifest whose ``subject`` is the image.

The index of the store names, as ``sha256-HEX`` for an image's digest, the list of the attachments that came with it.
They are nothing that runs: they come and go with their image, and a damaged one costs no image.
Source: OCI distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema"; image-spec 1.1, manifest.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import BlobDamaged
from instar.model.codec import canonical, parse
from instar.model.digest import Digest
from instar.store import index
from instar.store.blobs import Blobs
from instar.store.index import Index
from instar.store.manifest import INDEX_TYPE, MANIFEST_TYPE, MANIFEST_TYPES, Descriptor, descriptor

LIMIT: Final = 200  # of one image
_PARTS_LIMIT: Final = 200
_PART_LIMIT_BYTES: Final = 1 << 30
_TEXT_LIMIT: Final = 255


def subject_of(data: bytes) -> str | None:
    """Return the digest of what a manifest is attached to. Raises ValueError for what is not JSON."""
    manifest = parse(data)
    about = manifest.get("subject") if isinstance(manifest, dict) else None
    digest = about.get("digest") if isinstance(about, dict) else None
    return digest if isinstance(digest, str) else None


def parts(data: bytes, subject: Digest | None = None) -> tuple[Descriptor, ...]:
    """Return what a manifest of anything points at, which is attached to ``subject``, if one is given. Raises
    ValueError for what is none."""
    manifest = parse(data)
    if not isinstance(manifest, dict) or manifest.get("mediaType", MANIFEST_TYPE) not in MANIFEST_TYPES:
        raise ValueError("it is no manifest of OCI's")
    if subject is not None and subject_of(data) != subject:
        raise ValueError(f"it is not about {subject.short}")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) > _PARTS_LIMIT:
        raise ValueError(f"it has no list of at most {_PARTS_LIMIT} parts")
    found = [_part(one) for one in (manifest.get("config"), *layers)]
    return tuple({one.digest: one for one in found}.values())


def listed(data: bytes) -> dict[str, Any]:
    """Return what a list of attachments says of one, which :func:`parts` has read."""
    manifest = parse(data)
    kind = manifest.get("artifactType") or manifest["config"]["mediaType"]
    found = {**descriptor(MANIFEST_TYPE, Digest.of(data), len(data)), "artifactType": str(kind)[:_TEXT_LIMIT]}
    notes = manifest.get("annotations")
    return {**found, "annotations": notes} if isinstance(notes, dict) and notes else found


def list_json(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a list of attachments; other tools read it as the index of an image."""
    return canonical({"manifests": list(entries), "mediaType": INDEX_TYPE, "schemaVersion": 2})


def entries(data: bytes) -> tuple[Mapping[str, Any], ...]:
    """Return what a list of attachments says, at most ``LIMIT`` of it. Raises ValueError for what is no list."""
    found = parse(data)
    items = found.get("manifests") if isinstance(found, dict) else None
    if not isinstance(items, list):
        raise ValueError("it is no list")
    return tuple(one for one in items[:LIMIT] if isinstance(one, dict) and one.get("mediaType") == MANIFEST_TYPE)


def attach(blobs: Blobs, descriptors: list[index.Descriptor], subject: Digest, manifests: Iterable[bytes]) -> None:
    """Enter attachments of an image besides those that it has; all that they point at is stored."""
    known = {one["digest"]: one for one in _entries(blobs, descriptors, subject)}
    for data in manifests:
        blobs.add([data])
        known[Digest.of(data)] = listed(data)
    if known:
        digest, size_bytes = blobs.add([list_json(known.values())])
        index.set_attachments(descriptors, subject, descriptor(INDEX_TYPE, digest, size_bytes))


def found(blobs: Blobs, entered: Index, subject: Digest) -> tuple[bytes, ...]:
    """Return the manifests of the attachments of an image that are whole."""
    return tuple(data for data, _ in _whole(blobs, entered.read(), subject))


def wanted(blobs: Blobs, descriptors: Sequence[index.Descriptor], keep: Collection[Digest]) -> set[Digest]:
    """Return every blob of the attachments of the images in ``keep``."""
    needed = set[Digest]()
    for subject in keep:
        listing = index.attachments(descriptors, subject)
        if listing is not None:
            needed.add(listing)
        for data, pieces in _whole(blobs, descriptors, subject):
            needed.update((Digest.of(data), *(one.digest for one in pieces)))
    return needed


def _entries(blobs: Blobs, descriptors: Sequence[index.Descriptor], subject: Digest) -> tuple[Mapping[str, Any], ...]:
    listing = index.attachments(descriptors, subject)
    with contextlib.suppress(BlobDamaged, ValueError):
        return entries(blobs.read(listing)) if listing is not None else ()
    return ()


def _whole(
    blobs: Blobs, descriptors: Sequence[index.Descriptor], subject: Digest
) -> Iterator[tuple[bytes, tuple[Descriptor, ...]]]:
    for one in _entries(blobs, descriptors, subject):
        with contextlib.suppress(BlobDamaged, ValueError):
            data = blobs.read(Digest(str(one.get("digest"))))
            pieces = parts(data, subject)
            if all(blobs.holds(piece.digest, piece.size_bytes) for piece in pieces):
                yield data, pieces


def _part(data: Any) -> Descriptor:
    if not isinstance(data, dict):
        raise ValueError("a part of it has no descriptor")
    kind, size, digest = data.get("mediaType"), data.get("size"), data.get("digest")
    if not isinstance(kind, str) or len(kind) > _TEXT_LIMIT or not isinstance(digest, str):
        raise ValueError("a part of it has no type or no digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _PART_LIMIT_BYTES:
        raise ValueError(f"a part of it has the size {size!r:.40}")
    return Descriptor(digest=Digest(digest[:100]), size_bytes=size, media_type=kind)
