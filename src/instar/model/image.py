"""Images and their layers. Source: OCI image-spec 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from instar.frozen import dataclass
from instar.model.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """``digest`` and ``size_bytes`` are of the stored (zstd) blob, ``diff_id`` of the uncompressed tar."""

    digest: Digest
    diff_id: Digest
    size_bytes: int
    media_type: str = "application/vnd.oci.image.layer.v1.tar+zstd"
    step: str = ""  # what made it, for people: "base", "files", "run 1: …"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """What a process in the image starts with. ``user`` is numeric, "uid:gid"; ``env`` is name → value."""

    architecture: str  # OCI's name: amd64, arm64
    user: str
    command: tuple[str, ...]
    workdir: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image in the store, identified by its manifest's digest. Layers from the lowest up."""

    digest: Digest
    config_digest: Digest
    config: ImageConfig
    layers: tuple[Layer, ...]
    created: int  # Unix seconds; the bake's SOURCE_DATE_EPOCH

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """An image with its ``tags``, and the ``releases`` that need it ("guestbook/dev 7")."""

    image: Image
    tags: tuple[str, ...]
    releases: tuple[str, ...]
