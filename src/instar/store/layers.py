"""A layer: tree in overlay form → blob, and back. One pass, both hashes at once, memory that doesn't grow with it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from instar.errors import StoreError
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store.blobs import Blobs, damaged
from instar.store.compression import compressed, gunzipped, plain, require_encoder
from instar.store.extraction import Extraction
from instar.store.faults import reported
from instar.store.manifest import (
    DOCKER_LAYER_TYPE,
    GZIP_LAYER_TYPE,
    TAR_LAYER_TYPE,
    ZSTD_LAYER_TYPE,
)
from instar.store.members import Malformed, Members, Stream
from instar.store.room import Limit, limited
from instar.store.tree import archive

_DECODERS: Final[Mapping[str, Callable[[Iterator[bytes]], Iterator[bytes]]]] = {
    ZSTD_LAYER_TYPE: plain,
    GZIP_LAYER_TYPE: gunzipped,
    DOCKER_LAYER_TYPE: gunzipped,
    TAR_LAYER_TYPE: iter,
}


def pack(blobs: Blobs, tree: Path, *, step: str, epoch: int) -> Layer:
    require_encoder()
    seen = hashlib.sha256()
    digest, size_bytes = blobs.add(compressed(_hashed(archive(tree, epoch=epoch), seen)))
    diff_id = Digest.from_hex(seen.hexdigest())
    return Layer(digest=digest, diff_id=diff_id, size_bytes=size_bytes, media_type=ZSTD_LAYER_TYPE, step=step)


def unpack(blobs: Blobs, layer: Layer, into: Path, *, limit_bytes: int, copies: int) -> None:
    action = f"unpack layer '{layer.digest.short}'"
    with reported(action, into), explained(action, blobs, layer):
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(into.iterdir()):
            raise StoreError(f"cannot {action}: '{into}' is not empty")
        _extract(blobs, layer, into, limited(limit_bytes, into, copies=copies))


def checked(blobs: Blobs, layer: Layer) -> Iterator[bytes]:
    """Yield a layer's tar, and raise BlobDamaged at its end when blob or tar aren't what the layer says.

    Raises ValueError for a blob that isn't compressed as the layer says, or of a type that is none of ours.
    """
    if layer.media_type not in _DECODERS:
        raise ValueError(f"its type is {layer.media_type}, and only OCI's and Docker's are unpacked")
    seen = hashlib.sha256()
    stored = blobs.chunks(layer.digest)
    yield from _hashed(_DECODERS[layer.media_type](stored), seen)
    for _ in stored:
        pass
    if seen.hexdigest() != layer.diff_id.hex:
        raise damaged(layer.digest, f"the tar in it has the digest sha256:{seen.hexdigest()}, not {layer.diff_id}")


@contextlib.contextmanager
def explained(action: str, blobs: Blobs, layer: Layer) -> Iterator[None]:
    """Turn a ValueError over a layer's bytes into BlobDamaged if they aren't what was stored, else into StoreError."""
    try:
        yield
    except ValueError as error:
        blobs.verify(layer.digest)
        raise StoreError(f"cannot {action}: {error}") from error


def _extract(blobs: Blobs, layer: Layer, into: Path, limit: Limit) -> None:
    members = Members(Stream(checked(blobs, layer), limit_bytes=limit.size_bytes, why=limit.why))
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    extraction = Extraction(root)
    try:
        for entry in members:
            try:
                extraction.add(entry, members.content())
            except (Malformed, OSError) as error:
                raise _named(entry.name, error) from error
        extraction.finish()
    finally:
        extraction.close()
        os.close(root)


def _named(name: bytes, error: Malformed | OSError) -> Malformed | OSError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    cause = error.strerror if isinstance(error, OSError) else str(error)
    return Malformed(f"'{name[:200].decode('utf-8', 'backslashreplace')}': {cause}")


def _hashed(chunks: Iterable[bytes], seen: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        seen.update(chunk)
        yield chunk
