"""Images of the store, and what collecting them removes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from instar.model.garbage import Collection
from instar.model.image import Image, ListedImage
from instar.model.sizes import size_text
from instar.views.page import Page, Table


def images_json(images: Sequence[ListedImage]) -> list[dict[str, Any]]:
    return [
        {
            "digest": one.image.digest,
            "tags": one.tags,
            "size": one.image.size_bytes,
            "releases": one.releases,
        }
        for one in images
    ]


def images_page(images: Sequence[ListedImage]) -> Page:
    rows = [
        (
            one.image.digest.short,
            ", ".join(one.tags) or "—",
            size_text(one.image.size_bytes),
            ", ".join(one.releases) or "—",
        )
        for one in images
    ]
    yield Table(rows=rows, header=("DIGEST", "NEWEST OF", "SIZE", "NEEDED BY RELEASE"))


def image_page(image: Image) -> Page:
    config = image.config
    rows = [
        ("digest", str(image.digest)),
        ("created", datetime.fromtimestamp(image.created, UTC).isoformat().replace("+00:00", "Z")),
        ("architecture", config.architecture),
        ("command", " ".join(config.command)),
        ("workdir", config.workdir),
        ("user", config.user),
        *(("env", f"{name}={value}") for name, value in config.env.items()),
        *(("port", str(port)) for port in config.ports),
        *(("label", f"{name}={value}") for name, value in config.labels.items()),
        *(("layer", f"{layer.digest.short}  {size_text(layer.size_bytes):>7}  {layer.step}") for layer in image.layers),
    ]
    yield Table(rows=rows)


def joined_json(image: Image) -> dict[str, Any]:
    return {"digest": image.digest}


def collection_json(collection: Collection) -> dict[str, Any]:
    return {
        "images": collection.images,
        "blobs": collection.blobs,
        "bytes": collection.size_bytes,
        "fetched": collection.fetched,
        "secrets": collection.secrets,
        "logs": collection.logs,
        "recordings": collection.recordings,
        "certificates": collection.certificates,
        "snapshots": collection.snapshots,
    }


def collection_page(collection: Collection, *, dry_run: bool) -> Page:
    """Yield what went, or would go (``dry_run``), one by one, then how much that is."""
    removed = "would remove" if dry_run else "removed"
    for digest in collection.images:
        yield f"{removed} {digest}"
    for name in collection.logs:
        yield f"{removed} the log of {name}"
    for name in collection.recordings:
        yield f"{removed} what was recorded of {name}"
    for name in collection.certificates:
        yield f"{removed} the certificate {name}, and its key"
    for name in collection.snapshots:
        yield f"{removed} the snapshot {name}, of a release that is not kept"
    counted = (
        f"{len(collection.images)} images, {collection.blobs} blobs, {collection.fetched} fetched files, "
        f"{collection.secrets} secrets, {len(collection.logs)} logs, "
        f"{len(collection.recordings)} recordings and evidence, {len(collection.certificates)} certificates, "
        f"{len(collection.snapshots)} snapshots, {size_text(collection.size_bytes)}"
    )
    yield f"{'would free' if dry_run else 'freed'}: {counted}"
