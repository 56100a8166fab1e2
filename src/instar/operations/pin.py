"""``instar pin``, ``instar unpin``: a release that is kept whatever ``keep`` says."""

from __future__ import annotations

from instar.errors import ImageNotFound
from instar.model.release import EnvironmentId, Release
from instar.operations.locks import hold_needs
from instar.operations.workspace import Workspace


def pin(workspace: Workspace, environment: EnvironmentId, number: int, *, pinned: bool) -> Release:
    """Keep a release, its image and its logs until it is unpinned, or no longer. Idempotent.

    Raises NotFound when there is no such release, ImageNotFound when there is no image to keep any more.
    """
    with hold_needs(workspace):
        release = workspace.ledger.get_release(environment, number)
        if pinned and not release.pinned and release.image not in workspace.store.digests():
            raise ImageNotFound(
                f"cannot pin release {number} of '{environment}': its image is gone",
                hint="bake what it was made of, and deploy that: instar history shows the image's digest",
            )
        return workspace.ledger.set_pinned(environment, number, pinned)
