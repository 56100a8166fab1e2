"""``instar images``: what is in the store, and for whom."""

from __future__ import annotations

from instar.model.digest import Digest
from instar.model.image import ListedImage
from instar.operations.retention import kept_releases
from instar.operations.workspace import Workspace


def images(workspace: Workspace) -> tuple[ListedImage, ...]:
    """Return the images of the store, newest first, with the releases that need them."""
    releases: dict[Digest, list[str]] = {}
    for release in kept_releases(workspace.ledger):
        releases.setdefault(release.image, []).append(f"{release.environment} {release.number}")
    tags: dict[Digest, list[str]] = {}
    for tag, digest in workspace.store.tags().items():
        tags.setdefault(digest, []).append(tag)
    return tuple(
        ListedImage(image=image, tags=tuple(tags.get(image.digest, ())), releases=tuple(releases.get(image.digest, ())))
        for image in workspace.store.images()
    )
