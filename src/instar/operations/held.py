"""``instar gc --registry``: the tags by which this ledger holds images in a registry, against what its releases need.

A push tags an image for the ledger of the machine that pushes, and this takes such tags away again: of images that were
released by this ledger, and that no kept release of it needs. Another ledger's tags, and those that say no ledger, are
never touched; nor is an image that was never released here: it may have been pushed for others. What is needed and has
no tag gets one, if the registry has it.

Not known are machines that run an image by another ledger, and did not tag it: they may pull, and not push.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from instar.model.digest import Digest
from instar.model.held import HeldImage, HeldImages, State, holder_of, read_tag, tag_of
from instar.model.reference import Repository
from instar.operations.ledger import require_none_unread
from instar.operations.retention import kept_releases
from instar.operations.workspace import Workspace

if TYPE_CHECKING:
    from instar.registry.tags import Tags


def held_images(workspace: Workspace, repository: Repository, *, change: bool) -> HeldImages:
    """Return what Instar's tags hold in ``repository``; ``change``: have it hold what is needed and nothing else.

    Raises Refused, SourceUnreachable, FetchError, Cancelled.
    """
    require_none_unread(workspace)
    tags = workspace.registries.tags(repository, actions="pull,push,delete" if change else "pull")
    names = tags.names()
    holder = holder_of(workspace.ledger.identity())
    known = _Known(workspace)
    found = [known.held(name, holder) for name in names if read_tag(name)]
    images = [
        *_put(tags, known.missing(holder, names), change=change),
        *_removed(workspace, tags, found, change=change),
    ]
    other_tags = len(names) - len(found)
    return HeldImages(repository=repository, images=tuple(images), other_tags=other_tags, done=change)


class _Known:
    """The images that this ledger ever had a release of, and who needs them."""

    def __init__(self, workspace: Workspace) -> None:
        ledger = workspace.ledger
        with ledger.transaction():
            states = tuple(ledger.environments())
            self.released = {release.image for state in states for release in ledger.releases(state.id)}
            self.needed: dict[Digest, list[str]] = {}
            for release in kept_releases(ledger):
                self.needed.setdefault(release.image, []).append(f"{release.environment} {release.number}")
        for service, digest in workspace.store.tags().items():
            self.needed.setdefault(digest, []).append(f"{service}, its newest bake")
        self._by_short = {digest.short: digest for digest in (*self.released, *self.needed)}

    def held(self, tag: str, holder: str) -> HeldImage:
        short, of = read_tag(tag) or ("", "")
        digest = self._by_short.get(short)
        state: State = "unneeded"
        if not holder or of != holder:
            state = "others"
        elif digest in self.needed:
            state = "needed"
        elif digest is None:
            state = "unreleased"
        releases = tuple(self.needed.get(digest, ())) if digest is not None else ()
        return HeldImage(tag=tag, digest=digest, state=state, releases=releases)

    def missing(self, holder: str, there: Collection[str]) -> Iterator[HeldImage]:
        """Yield the tags that are not ``there`` and would hold what releases need."""
        for digest, releases in self.needed.items():
            tag = tag_of(digest, holder)
            if holder and digest in self.released and tag not in there:
                yield HeldImage(tag=tag, digest=digest, state="needed", releases=tuple(releases), change="put")


def _put(tags: Tags, missing: Iterable[HeldImage], *, change: bool) -> Iterator[HeldImage]:
    """Yield those of ``missing`` whose images the registry has."""
    for one in missing:
        assert one.digest is not None  # that is by what it is needed
        if tags.has(one.digest):
            if change:
                tags.put(one.tag, one.digest)
            yield one


def _removed(workspace: Workspace, tags: Tags, found: Collection[HeldImage], *, change: bool) -> Iterator[HeldImage]:
    """Yield the tags that are there, those that go as such."""
    gone = {one.tag for one in found if one.state == "unneeded"}
    for one in found:
        workspace.cancellation.check()
        yield _gone(tags, one, gone, change=change) if one.tag in gone else one


def _gone(tags: Tags, one: HeldImage, gone: Collection[str], *, change: bool) -> HeldImage:
    from instar.registry.tags import Undeletable

    assert one.digest is not None  # it was released
    if tags.find_digest(one.tag) != one.digest:
        return replace(one, stays="it does not name the image that it is called by: somebody else made or moved it")
    try:
        if change:
            tags.remove(one.tag, one.digest, gone)
    except Undeletable as reason:
        return replace(one, stays=str(reason))
    return replace(one, change="removed")
