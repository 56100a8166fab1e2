"""``instar gc``: remove what no kept release needs: images and layers, logs, fetched files.

``retention.py`` says which releases are kept. Images that a tag names (the newest bake of each service) stay too.
Fetched files stay that the locks of these images name, and those of each service's last bake, which is written down
before anything is fetched. Bakes, deploys and gc take turns (the store's lock).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instar.bake import prune_records
from instar.errors import Refused
from instar.fetch.needs import Needs
from instar.model.digest import Digest
from instar.model.release import EnvironmentState, Place, Release
from instar.operations import retention
from instar.operations.parts import Parts, hold_store, require_root


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """What was removed, or would be. ``size_bytes`` is of the blobs and the fetched files; ``logs`` are instances."""

    images: tuple[Digest, ...]
    blobs: int
    size_bytes: int
    logs: tuple[str, ...] = ()
    fetched: int = 0


def gc(parts: Parts, *, dry_run: bool, everything: bool = False) -> Collection:
    """Remove images, layers and their mountable copies, logs, and fetched files that no kept release needs.

    ``everything``: also the newest bakes of services that have no environment, and all that was fetched.
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
        logs = tuple(_logs(parts, dry_run))
        fetched, freed = _fetched(parts, keep, dry_run=dry_run, everything=everything)
    found = Collection(
        images=collected.images,
        blobs=collected.blobs,
        size_bytes=collected.size_bytes + freed,
        logs=logs,
        fetched=fetched,
    )
    if not dry_run and (found.images or found.blobs or found.logs or found.fetched):
        images, size = list(found.images), found.size_bytes
        parts.ledger.record("gc", images=images, blobs=found.blobs, bytes=size, logs=len(logs), fetched=fetched)
    return found


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


def pin(parts: Parts, place: Place, number: int, *, pinned: bool) -> Release:
    """Keep a release, its image and its logs whatever ``keep`` says, or no longer. Raises NotFound."""
    require_root("pin" if pinned else "unpin")
    with hold_store(parts):
        release = parts.ledger.get_release(place, number)
        if pinned:
            parts.store.image(release.image)
        return parts.ledger.set_pinned(place, number, pinned)


def kept_releases(parts: Parts) -> Iterator[Release]:
    """Yield every release whose image must stay."""
    for environment in parts.ledger.environments():
        releases = parts.ledger.releases(environment.place)
        numbers = retention.kept(environment, releases, _present(parts, environment))
        yield from (release for release in releases if release.number in numbers)


def _present(parts: Parts, environment: EnvironmentState) -> set[int]:
    return {instance.release for instance in parts.ledger.instances(environment.place)}


def _stood_on(parts: Parts) -> set[Digest]:
    """Return the diff IDs of the layers that instances stand on."""
    releases = {(instance.place, instance.release) for instance in parts.ledger.instances()}
    images = {parts.ledger.get_release(place, number).image for place, number in releases}
    return {layer.diff_id for image in images for layer in parts.store.image(image).layers}


def _logs(parts: Parts, dry_run: bool) -> Iterator[str]:
    """Remove the logs of instances of releases that are not kept; yield the instances."""
    for environment in parts.ledger.environments():
        place = environment.place
        numbers = retention.with_logs(environment, parts.ledger.releases(place), _present(parts, environment))
        runtime = parts.provider(environment.settings.provider).runtime
        old = [name for name, number in parts.ledger.instance_releases(place) if number not in numbers]
        there = [name for name in old if runtime.has_log(name)]
        if there and not dry_run:
            runtime.forget(place, there, volumes=False)
        yield from there


def _fetched(parts: Parts, images: set[Digest], *, dry_run: bool, everything: bool) -> tuple[int, int]:
    """Remove fetched files that nobody needs; return how many, and their bytes.

    Where it is not known what a kept image needs (an older Instar baked it), none is removed.
    """
    sizes, needs = parts.cache.sizes(), Needs(parts.state.cache)
    names = {digest.hex for digest in images} | {name for name in needs.names() if name.startswith("service-")}
    found = [needs.find(name) for name in names]
    if everything:
        names, keep = set(), frozenset[Digest]()
    elif any(one is None for one in found):
        return 0, 0
    else:
        keep = frozenset(digest for one in found if one is not None for digest in one)
    gone = {digest: size for digest, size in sizes.items() if digest not in keep}
    if not dry_run:
        parts.cache.collect(keep)
        needs.forget(names)
    return len(gone), sum(gone.values())
