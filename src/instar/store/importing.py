"""An image of somebody else's → the blobs of one: from an OCI image layout, in a folder or a tar, and from what
``docker save`` writes.

What is OCI's is kept to the byte, under its digest. Docker's older form has no manifest and no compressed layers: each
layer is held against the diff ID in the configuration and compressed as a bake does, so that the same archive gives the
same image. Source: OCI image-spec 1.1, image-layout.md; Docker's image specification v1.2, "Combined Image JSON".
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from instar.frozen import dataclass
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store import attachments, platforms, source
from instar.store.blobs import Blobs
from instar.store.compression import compressed, gunzipped, require_encoder
from instar.store.index import attachments_tag, lists_attachments
from instar.store.manifest import (
    INDEX_TYPES,
    LAYERS_LIMIT,
    ZSTD_LAYER_TYPE,
    Descriptor,
    descriptors,
    manifest_json,
)
from instar.store.members import Malformed
from instar.store.platforms import is_index
from instar.store.room import UNPACK_LIMIT_BYTES, require_room
from instar.store.source import Content, Source

_JSON_LIMIT_BYTES: Final = 4 << 20
_NAME: Final = "org.opencontainers.image.ref.name"
_NO_PLATFORM: Final = "unknown/unknown"  # what is said of an image, such as who made it
_SHOWN: Final = 8
_IMAGES_LIMIT: Final = 1_000  # of one list: those of an index may each be an index


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """An image of a source: what people call it there (tags, names), and how to get it."""

    names: tuple[str, ...]
    digest: Digest | None  # None where the form has none
    entry: Mapping[str, Any]
    platform: str = ""
    is_part: bool = False  # of one for several platforms

    @property
    def shown(self) -> str:
        words = (*self.names, self.platform, self.digest.short if self.digest else "")
        return ", ".join(filter(None, words))[:120] or "one without a name"

    def is_called(self, word: str) -> bool:
        named = self.digest is not None and word in (self.digest, self.digest.short)
        return named or word in (*self.names, self.platform) or self.platform.startswith(f"{word}/")


class Received(NamedTuple):
    """The manifest of an image, and those of what is attached to it, to the byte; none of them is stored yet."""

    manifest: bytes
    attachments: tuple[bytes, ...] = ()


def receive(blobs: Blobs, path: Path, which: str | None) -> Received:
    """Store the blobs of an image at ``path``, and of what is attached to it.

    ``which`` is a name or a digest, where there are several. Raises Malformed for what is no image, or not whole, or
    other than it says; OSError, StoreError.
    """
    with source.opened(path, blobs) as found:
        if found.find("oci-layout") is not None:
            return _from_layout(blobs, found, which)
        if found.find("manifest.json") is not None:
            return Received(_from_docker(blobs, found, which))
    raise Malformed("there is neither 'oci-layout' nor 'manifest.json' in it: it holds no image")


def _from_layout(blobs: Blobs, found: Source, which: str | None) -> Received:
    version = _json(found, "oci-layout")
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != "1.0.0":
        raise Malformed("its 'oci-layout' is of no version that is known")
    index = _json(found, "index.json")
    entries = _sections(index.get("manifests") if isinstance(index, dict) else None, "index.json")
    attached = [entry for entry in entries if _is_attached(entry)]
    there = [one for entry in entries if entry not in attached for one in _of_layout(found, entry)]
    chosen = _chosen(there, which)
    assert chosen.digest is not None  # _of_layout sees to it
    data = _blob(found, chosen.digest).read(_JSON_LIMIT_BYTES)
    if Digest.of(data) != chosen.digest or chosen.entry.get("size", len(data)) != len(data):
        raise Malformed(f"the bytes of its manifest have the digest {Digest.of(data)}, and not {chosen.digest}")
    pairs = [(one, _manifest(found, one.digest)) for one in (platforms.platforms(data) if is_index(data) else ())]
    parts = descriptors(data) if not pairs else {part for one, below in pairs for part in platforms.parts(one, below)}
    missing = sum(one.size_bytes for one in parts if not blobs.holds(one.digest, one.size_bytes))
    require_room(missing, blobs.partial, "store its blobs")
    for one in parts:
        _keep(blobs, found, one)
    for _, below in pairs:
        blobs.add([below])
    return Received(data, tuple(_attachments(blobs, found, attached, chosen.digest)))


def _is_attached(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of an index is an attachment of an image, or a list of such."""
    return bool(entry.get("artifactType")) or lists_attachments(_name_of(entry))


def _name_of(entry: Mapping[str, Any]) -> str | None:
    notes = entry.get("annotations")
    name = notes.get(_NAME) if isinstance(notes, dict) else None
    return name if isinstance(name, str) else None


def _attachments(blobs: Blobs, found: Source, entries: Sequence[Mapping[str, Any]], subject: Digest) -> Iterator[bytes]:
    """Store the parts of what is attached to an image, and yield the manifests."""
    listed = dict[Digest, bytes]()
    for entry in entries:
        digest = Digest(str(entry.get("digest")))
        data = _manifest(found, digest)
        if entry.get("mediaType") not in INDEX_TYPES:
            listed[digest] = data
        elif _name_of(entry) == attachments_tag(subject):
            below = (Digest(str(one.get("digest"))) for one in attachments.entries(data))
            listed.update({one: _manifest(found, one) for one in below})
    for data in listed.values():
        if attachments.subject_of(data) == subject:
            for one in attachments.parts(data, subject):
                _keep(blobs, found, one)
            yield data


def _manifest(found: Source, digest: Digest) -> bytes:
    data = _blob(found, digest).read(_JSON_LIMIT_BYTES)
    if Digest.of(data) != digest:
        raise Malformed(f"the bytes of '{digest.short}' have the digest {Digest.of(data)}")
    return data


def _keep(blobs: Blobs, found: Source, one: Descriptor) -> None:
    content = _blob(found, one.digest)
    if content.size_bytes != one.size_bytes:
        raise Malformed(f"'{one.digest.short}' has {content.size_bytes:,} bytes, and not {one.size_bytes:,}")
    if not blobs.is_sound(one.digest, one.size_bytes):
        blobs.add(content.chunks(), one.digest)


def _blob(found: Source, digest: Digest) -> Content:
    content = found.find(f"blobs/sha256/{digest.hex}")
    if content is None:
        raise Malformed(f"'{digest.short}' is missing")
    return content


def _of_layout(
    found: Source, entry: Mapping[str, Any], names: tuple[str, ...] = (), *, top: bool = True
) -> list[FoundImage]:
    """Return the images that an entry of an index leads to: itself, or the one for several platforms that it is, and
    each of these; of one with a single image, that."""
    name = _name_of(entry)
    names = names if name is None else (name,)
    digest = Digest(str(entry.get("digest")))
    if entry.get("mediaType") not in INDEX_TYPES:
        platform = entry.get("platform")
        told = platforms.name_of(platform) if isinstance(platform, dict) else ""
        return [FoundImage(names=names, digest=digest, entry=entry, platform=told)]
    data = _blob(found, digest).read(_JSON_LIMIT_BYTES)
    if Digest.of(data) != digest or not top:
        raise Malformed(f"the bytes of its index '{digest.short}' are others, or it is one within another")
    inner = parse(data)
    below = _sections(inner.get("manifests") if isinstance(inner, dict) else None, digest.short)
    images = [one for item in below for one in _of_layout(found, item, names, top=False)]
    images = [one for one in images if one.platform != _NO_PLATFORM]
    if len(images) == 1:
        return images
    whole = FoundImage(names=names, digest=digest, entry=entry)
    return [whole, *(replace(one, names=(), is_part=True) for one in images)]


def _from_docker(blobs: Blobs, found: Source, which: str | None) -> bytes:
    entries = _sections(_json(found, "manifest.json"), "manifest.json")
    chosen = _chosen([_of_docker(one) for one in entries], which).entry
    config = _file(found, chosen.get("Config")).read(_JSON_LIMIT_BYTES)
    named = re.search(r"[0-9a-f]{64}", str(chosen.get("Config")))
    if named and Digest.of(config).hex != named[0]:
        raise Malformed("the bytes of its configuration are not those that its name says")
    data = parse(config)
    rootfs = data.get("rootfs") if isinstance(data, dict) else None
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    names = chosen.get("Layers")
    if not isinstance(diff_ids, list) or not isinstance(names, list) or not names or len(names) != len(diff_ids):
        raise Malformed("its configuration does not fit its layers")
    if len(names) > LAYERS_LIMIT:
        raise Malformed(f"it has {len(names):,} layers, more than the {LAYERS_LIMIT} that are allowed")
    require_encoder()
    layers = [
        _layer(blobs, _file(found, name), Digest(str(diff_id))) for name, diff_id in zip(names, diff_ids, strict=True)
    ]
    digest, size_bytes = blobs.add([config])
    manifest = manifest_json(digest, size_bytes, layers)
    descriptors(manifest)
    return manifest


def _of_docker(entry: Mapping[str, Any]) -> FoundImage:
    tags = entry.get("RepoTags")
    names = tuple(one for one in tags if isinstance(one, str)) if isinstance(tags, list) else ()
    return FoundImage(names=names, digest=None, entry=entry)


def _file(found: Source, name: Any) -> Content:
    content = found.find(name) if isinstance(name, str) else None
    if content is None:
        raise Malformed(f"'{str(name)[:100]}' is missing")
    return content


def _layer(blobs: Blobs, content: Content, diff_id: Digest) -> Layer:
    seen = hashlib.sha256()
    digest, size_bytes = blobs.add(compressed(_checked(content, seen, diff_id)))
    return Layer(digest=digest, diff_id=diff_id, size_bytes=size_bytes, media_type=ZSTD_LAYER_TYPE)


def _checked(content: Content, seen: hashlib._Hash, diff_id: Digest) -> Iterator[bytes]:
    """Yield a layer's tar. Raises Malformed at its end when it is another than the configuration says."""
    chunks, came = content.chunks(), 0
    start = next(chunks, b"")
    chunks = itertools.chain((start,), chunks)
    for chunk in gunzipped(chunks) if start.startswith(b"\x1f\x8b") else chunks:
        seen.update(chunk)
        came += len(chunk)
        if came > UNPACK_LIMIT_BYTES:
            raise Malformed(f"a layer unfolds to more than the {UNPACK_LIMIT_BYTES:,} bytes that are allowed")
        yield chunk
    if seen.hexdigest() != diff_id.hex:
        raise Malformed(f"a layer's tar has the digest sha256:{seen.hexdigest()}, and not {diff_id}")


def _chosen(images: Sequence[FoundImage], which: str | None) -> FoundImage:
    wanted = [one for one in images if (not one.is_part if which is None else one.is_called(which))]
    if len(wanted) == 1 or (wanted and len({one.digest for one in wanted}) == 1 and wanted[0].digest is not None):
        return wanted[0]
    there = "; ".join(one.shown for one in images[:_SHOWN])
    if not wanted:
        raise Malformed(
            f"there is no image '{which}' in it; there are: {there or 'none'}" if which else "it holds no image"
        )
    raise Malformed(f"there are {len(wanted)} images in it, and one has to be named: {there}")


def _sections(data: Any, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise Malformed(f"its '{name}' is no list of images")
    if len(data) > _IMAGES_LIMIT:
        raise Malformed(f"its '{name}' lists {len(data):,} images, more than the {_IMAGES_LIMIT:,} that are allowed")
    return data


def _json(found: Source, name: str) -> Any:
    content = found.find(name)
    if content is None:
        raise Malformed(f"'{name}' is missing")
    return parse(content.read(_JSON_LIMIT_BYTES))
