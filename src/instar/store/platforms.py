"""An image for several platforms: an index over manifests, one for each. Its digest is the image's; what runs here is
what the manifest for this machine's architecture says.

Source: OCI image-spec 1.1, image-index.md; the names of architectures are Go's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.architectures import ARCHITECTURES
from instar.model.codec import canonical, parse
from instar.model.digest import Digest
from instar.store import attachments
from instar.store.blobs import Blobs
from instar.store.manifest import (
    INDEX_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    descriptor,
    descriptors,
    media_type,
    references,
)

LIMIT: Final = 100
_SHOWN: Final = 8
_SIZE_LIMIT_BYTES: Final = 4 << 20
_PLAIN_VARIANTS: Final = ("", "/v8")  # of amd64 and arm64
_NO_PLATFORM: Final = "unknown/unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """One manifest of an index. ``name``: "linux/arm64", "linux/arm/v7"; "unknown/unknown" for what is said of one.
    All that is not Linux's is only passed on."""

    digest: Digest
    size_bytes: int
    name: str

    @property
    def is_image(self) -> bool:
        return self.name.startswith("linux/")


def here() -> str:
    """Return this machine's platform."""
    machine = os.uname().machine
    return f"linux/{ARCHITECTURES.get(machine, machine)}"


def is_index(data: bytes) -> bool:
    """Tell whether a manifest is an index of several. Raises ValueError for what is no JSON object."""
    return media_type(data) in INDEX_TYPES


def platforms(data: bytes) -> tuple[Platform, ...]:
    """Return what an index names, each digest once. Raises ValueError for what is no index of images."""
    items = parse(data).get("manifests")
    if not isinstance(items, list) or not items or len(items) > LIMIT:
        raise ValueError(f"its index has no list of at most {LIMIT} manifests")
    found: dict[Digest, Platform] = {}
    for one in map(_platform, items):
        found.setdefault(one.digest, one)
    return tuple(found.values())


def own(data: bytes, platform: str) -> Platform:
    """Return what an index has for a platform, of several variants a plain one or the first. Raises ValueError where it
    has none."""
    images = [one for one in platforms(data) if one.is_image]
    fitting = [one for one in images if one.name == platform or one.name.startswith(f"{platform}/")]
    if fitting:
        return min(fitting, key=lambda one: one.name.removeprefix(platform) not in _PLAIN_VARIANTS)
    shown = ", ".join(one.name for one in images[:_SHOWN])
    raise ValueError(f"it is for {shown or 'nothing'}, and not for {platform}")


def own_manifest(blobs: Blobs, data: bytes, platform: str) -> bytes:
    """Return the manifest of what runs on a platform: ``data`` itself where it is no index. Raises ValueError,
    BlobDamaged."""
    return blobs.read(own(data, platform).digest) if is_index(data) else data


def blobs_of(blobs: Blobs, data: bytes) -> frozenset[Digest]:
    """Return every blob that an image needs, but its own manifest: of an index, the manifests that are here and what
    they need. Raises ValueError, BlobDamaged."""
    if not is_index(data):
        return frozenset(references(data))
    found = set[Digest]()
    for one in present(blobs, data):
        found.update((one.digest, *references(blobs.read(one.digest))))
    return frozenset(found)


def parts(one: Platform, data: bytes) -> tuple[Descriptor, ...]:
    """Return what a manifest of an index points at. Raises ValueError for what is none, or has another size."""
    if len(data) != one.size_bytes:
        raise ValueError(
            f"its index says that '{one.digest.short}' has {one.size_bytes:,} bytes, and not {len(data):,}"
        )
    return descriptors(data) if one.is_image else attachments.parts(data)


def present(blobs: Blobs, data: bytes) -> tuple[Platform, ...]:
    """Return those of an index whose manifests are here."""
    return tuple(one for one in platforms(data) if blobs.holds(one.digest, one.size_bytes))


def require_fit(platform: Platform, architecture: str) -> None:
    """Raise ValueError where a configuration, which is for Linux, is not for the platform that its index says."""
    if platform.name.split("/")[:2] != ["linux", architecture]:
        raise ValueError(
            f"its index says that '{platform.digest.short}' is for {platform.name:.40}, which says itself that it is "
            f"for linux/{architecture:.20}"
        )


def index_json(images: Iterable[tuple[bytes, str]]) -> bytes:
    """Return the index of manifests (bytes, and "OS/ARCHITECTURE"), in the order of their platforms."""
    entries = [
        {
            **descriptor(media_type(data), Digest.of(data), len(data)),
            "platform": dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False)),
        }
        for data, name in sorted(images, key=lambda one: one[1])
    ]
    return canonical({"manifests": entries, "mediaType": INDEX_TYPE, "schemaVersion": 2})


def _platform(data: Any) -> Platform:
    if not isinstance(data, dict):
        raise ValueError("an entry of its index is none")
    kind, size, digest, told = (data.get(key) for key in ("mediaType", "size", "digest", "platform"))
    if not isinstance(digest, str):
        raise ValueError("an entry of its index has no digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _SIZE_LIMIT_BYTES:
        raise ValueError(f"an entry of its index has the size {size!r:.40}")
    name = name_of(told) if isinstance(told, dict) and kind in MANIFEST_TYPES else _NO_PLATFORM
    return Platform(digest=Digest(digest[:100]), size_bytes=size, name=name)


def name_of(told: Mapping[str, Any]) -> str:
    """Return a platform's name, as an index tells it. Raises ValueError for what is none."""
    found = [told.get("os"), told.get("architecture"), told.get("variant")]
    if not all(isinstance(one, str) for one in found[:2]):
        raise ValueError("a platform in its index has no name")
    return "/".join(str(one)[:40] for one in found if one)
