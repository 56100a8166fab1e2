"""An image → one file in the oci-archive format: the tar of an OCI image layout with that one image.

The same image gives the same bytes: members in order, owners and times fixed. Every blob is checked while it is
copied; the file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from instar import durable
from instar.errors import StoreError
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image import Image, Layer
from instar.store import platforms
from instar.store.attachments import list_json, listed, parts
from instar.store.blobs import Blobs, written
from instar.store.compression import gzipped
from instar.store.faults import reported
from instar.store.header import BLOCK, DIRECTORY, REGULAR, Entry, encode, padding
from instar.store.index import LAYOUT, Descriptor, attachments_tag, entered, index_json
from instar.store.layers import checked, explained
from instar.store.manifest import GZIP_LAYER_TYPE, ZSTD_LAYER_TYPE, descriptor, manifest_json, media_type

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class _Blob:
    digest: Digest
    size_bytes: int
    chunks: Callable[[], Iterator[bytes]]


def export(blobs: Blobs, image: Image, file: Path, *, tag: str | None, attached: Sequence[bytes]) -> None:
    """Write the image as it is stored, with the manifests ``attached`` to it and what they point at."""
    manifest = _bytes(blobs.read(image.digest))
    found = [_stored(blobs, digest) for digest in _needed(blobs, image.digest)]
    index = [_entry(manifest, tag)]
    if attached:
        listing = _bytes(list_json(map(listed, attached)))
        pieces = {one.digest: one for data in attached for one in parts(data, image.digest)}
        found += [listing, *map(_bytes, attached), *(_stored(blobs, digest) for digest in pieces)]
        index.append(_entry(listing, attachments_tag(image.digest)))
    _write(file, [manifest, *found], index, image.created)


def _needed(blobs: Blobs, digest: Digest) -> Collection[Digest]:
    """Return what an image needs. Raises StoreError where some platforms of it are not here."""
    data = blobs.read(digest)
    if platforms.is_index(data) and (away := set(platforms.platforms(data)) - set(platforms.present(blobs, data))):
        names = ", ".join(sorted(one.name for one in away))
        hint = "pull it for every platform from where it is: instar pull --all-platforms NAME@DIGEST"
        raise StoreError(f"cannot export '{digest.short}': the parts of it for {names} are not here", hint=hint)
    return platforms.blobs_of(blobs, data)


def export_gzip(blobs: Blobs, image: Image, file: Path, *, tag: str | None) -> Digest:
    """Write the image with gzip layers, and return the digest that its manifest then has."""
    config = blobs.read(image.config_digest)
    with contextlib.ExitStack() as scratches:
        pairs = [_converted(blobs, layer, scratches) for layer in image.layers]
        manifest = _bytes(manifest_json(image.config_digest, len(config), [layer for layer, _ in pairs]))
        found = [manifest, _bytes(config), *(blob for _, blob in pairs)]
        _write(file, found, [_entry(manifest, tag)], image.created)
    return manifest.digest


def _converted(blobs: Blobs, layer: Layer, scratches: contextlib.ExitStack) -> tuple[Layer, _Blob]:
    if layer.media_type != ZSTD_LAYER_TYPE:
        return layer, _stored(blobs, layer.digest)
    action = f"convert layer '{layer.digest.short}'"
    with reported(action, blobs.partial), explained(action, blobs, layer):
        scratch = scratches.enter_context(blobs.scratch())
        digest, size_bytes = written(gzipped(checked(blobs, layer)), scratch.descriptor)
    converted = replace(layer, digest=digest, size_bytes=size_bytes, media_type=GZIP_LAYER_TYPE)
    return converted, _Blob(digest=digest, size_bytes=size_bytes, chunks=lambda: _file_chunks(scratch.path))


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


def _stored(blobs: Blobs, digest: Digest) -> _Blob:
    with blobs.opened(digest) as file:
        size_bytes = os.fstat(file.fileno()).st_size
    return _Blob(digest=digest, size_bytes=size_bytes, chunks=lambda: blobs.chunks(digest))


def _bytes(data: bytes) -> _Blob:
    return _Blob(digest=Digest.of(data), size_bytes=len(data), chunks=lambda: iter([data]))


def _entry(manifest: _Blob, tag: str | None) -> Descriptor:
    kind = media_type(b"".join(manifest.chunks()))
    return entered(descriptor(kind, manifest.digest, manifest.size_bytes), tag)


def _write(file: Path, blobs: Sequence[_Blob], index: Sequence[Descriptor], created: int) -> None:
    """Write the archive beside ``file`` under another name, then give it its name."""
    partial = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    with reported(f"export to '{file}'", file.absolute().parent):
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            written(_tar(blobs, index, created), handle)
            durable.move(partial, file)
        finally:
            os.close(handle)
            partial.unlink(missing_ok=True)


def _tar(blobs: Sequence[_Blob], index: Sequence[Descriptor], created: int) -> Iterator[bytes]:
    small = {b"index.json": _bytes(index_json(index)), b"oci-layout": _bytes(LAYOUT)}
    named: dict[bytes, Any] = {b"blobs/sha256/" + blob.digest.hex.encode(): blob for blob in blobs}
    for name in (b"blobs/", b"blobs/sha256/"):
        yield encode(Entry(name=name, kind=DIRECTORY, mode=0o755, mtime=created))
    for name, blob in sorted({**named, **small}.items()):
        yield encode(Entry(name=name, kind=REGULAR, mode=0o644, mtime=created, size=blob.size_bytes))
        yield from blob.chunks()
        yield padding(blob.size_bytes)
    yield bytes(2 * BLOCK)
