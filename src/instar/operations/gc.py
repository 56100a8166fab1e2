"""``instar gc``: remove what no kept release needs.

Kept: the images of every release that runs, is active or a rollout's target; of the newest ``keep.releases``
releases of each environment that ran well; and every tagged image (the newest bake of each service is).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instar.bake import prune_records
from instar.errors import Refused
from instar.model.digest import Digest
from instar.model.release import EnvironmentState, Release
from instar.operations.parts import Parts, hold_store, require_root


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """What was removed, or would be. ``size_bytes`` is of the blobs and the downloads."""

    images: tuple[Digest, ...]
    blobs: int
    size_bytes: int


def gc(parts: Parts, *, dry_run: bool, everything: bool = False) -> Collection:
    """Remove images, layers and their mountable copies that no kept release needs.

    ``everything``: also the newest bakes of services that have no environment, and all that was downloaded.
    """
    require_root("gc")
    with hold_store(parts):
        services = {environment.place.service for environment in parts.ledger.environments()}
        tagged = {digest for tag, digest in parts.store.tags().items() if not everything or tag in services}
        keep = {release.image for release in kept_releases(parts)} | tagged
        for digest in keep:
            parts.store.image(digest)  # an index that lost an image that is needed must cost no blob
        collected = parts.store.collect(keep, dry_run=dry_run)
        if not dry_run:
            left = parts.store.images()
            prune_records(parts.state, parts.store)
            parts.layers.prune({layer.diff_id for image in left for layer in image.layers})
            parts.layers.unmount_unused(_stood_on(parts))
        downloads = _downloads(parts, dry_run) if everything else 0
    return Collection(images=collected.images, blobs=collected.blobs, size_bytes=collected.size_bytes + downloads)


def _downloads(parts: Parts, dry_run: bool) -> int:
    return sum(parts.cache.sizes().values()) if dry_run else parts.cache.collect(())


def remove_image(parts: Parts, word: str) -> Digest:
    """Take one image out of the store; its blobs go with the next gc. Raises Refused when a release needs it."""
    require_root("images remove")
    with hold_store(parts):
        image = parts.store.find(word)
        users = [
            f"{release.place} {release.number}" for release in kept_releases(parts) if release.image == image.digest
        ]
        if users:
            raise Refused(
                f"cannot remove image '{image.digest.short}': it is needed by release {', '.join(users)}",
                hint="destroy the environment, or deploy until the release is older than keep.releases",
            )
        parts.store.remove(image.digest)
    return image.digest


def kept_releases(parts: Parts) -> Iterator[Release]:
    """Yield every release whose image must stay."""
    for environment in parts.ledger.environments():
        yield from _kept(parts, environment)


def _stood_on(parts: Parts) -> set[Digest]:
    """Return the diff IDs of the layers that instances stand on."""
    releases = {(instance.place, instance.release) for instance in parts.ledger.instances()}
    images = {parts.ledger.get_release(place, number).image for place, number in releases}
    return {layer.diff_id for image in images for layer in parts.store.image(image).layers}


def _kept(parts: Parts, environment: EnvironmentState) -> Iterator[Release]:
    needed = {instance.release for instance in parts.ledger.instances(environment.place)}
    needed |= {number for number in (environment.active, _target(environment)) if number is not None}
    spared = 0
    for release in parts.ledger.releases(environment.place):
        if release.number in needed or (release.ran_well and spared < environment.settings.keep.releases):
            yield release
        spared += release.ran_well


def _target(environment: EnvironmentState) -> int | None:
    return environment.rollout.target if environment.rollout else None
