"""``instar images``: what is in the store, and for whom; and one image of several, for a platform each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from instar.errors import Refused
from instar.model.digest import Digest
from instar.model.image import Image, ListedImage
from instar.model.progress import Progress
from instar.operations.locks import keep_from_gc
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


def join(workspace: Workspace, words: Sequence[str]) -> Image:
    """Return the image for several platforms that is made of one for each: an index over them, the same for the same.

    They stay what they are. One has to be for this machine. It stays until the next gc unless a release needs it.
    Raises ImageNotFound, BlobDamaged, Refused.
    """
    with keep_from_gc(workspace):
        images = {f"linux/{image.config.architecture}": image for image in map(workspace.store.find, words)}
        if len(images) != len(words):
            raise Refused(f"cannot join {len(words)} images: two of them are for the same platform")
        return joined(workspace, images)


def joined(workspace: Workspace, images: Mapping[str, Image]) -> Image:
    """Return the index over images, each by its platform's name, as an image; the caller keeps gc away. Raises Refused,
    BlobDamaged."""
    from instar.store.platforms import index_json, is_index

    manifests = {name: workspace.store.manifest(image.digest) for name, image in images.items()}
    for name, data in manifests.items():
        if is_index(data):
            raise Refused(f"cannot join '{images[name].digest.short}': it is for several platforms already")
    try:
        found = workspace.store.add_manifest(index_json([(data, name) for name, data in manifests.items()]))
    except ValueError as error:
        raise Refused(f"cannot join {len(images)} images: {error}") from error
    first, *others = (replace(image.config, architecture="") for image in images.values())
    if any(one != first for one in others):
        text = "they do not start in the same way: their commands, users, variables or ports differ"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
    return found
