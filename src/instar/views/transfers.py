"""What a push, a pull or an import did."""

from __future__ import annotations

from typing import Any

from instar.model.image import Image
from instar.model.transfer import Transfer
from instar.views.page import Page


def transfer_json(done: Transfer) -> dict[str, Any]:
    return {
        "digest": done.digest,
        "name": str(done.repository),
        "tags": done.tags,
        "blobs": done.blobs,
        "size": done.size_bytes,
        "moved": done.moved,
        "moved_bytes": done.moved_bytes,
        "attachments": done.attachments,
        "seconds": round(done.seconds, 3),
    }


def transfer_page(done: Transfer) -> Page:
    yield f"{done.repository}@{done.digest}"


def imported_json(image: Image) -> dict[str, Any]:
    layers = [{"digest": one.digest, "diff_id": one.diff_id, "size": one.size_bytes} for one in image.layers]
    return {"digest": image.digest, "architecture": image.config.architecture, "layers": layers}
