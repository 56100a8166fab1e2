"""``instar diff``: what is different between two releases: packages, files, and what they start from besides."""

from __future__ import annotations

from instar.definition.changes import configuration_changes
from instar.errors import Refused
from instar.model.release import EnvironmentState, Release
from instar.model.release_diff import ReleaseDiff
from instar.operations.image_diff import image_diff
from instar.operations.workspace import Workspace


def diff(workspace: Workspace, environment: EnvironmentState, before: int | None, after: int | None) -> ReleaseDiff:
    """Compare two releases of ``environment``: ``after`` None is the active one, ``before`` None the one that served
    before that. Raises NotFound, Refused where there is none; BlobDamaged, StoreError."""
    newer = workspace.ledger.get_release(environment.id, _active(environment) if after is None else after)
    older = _before(workspace, environment, newer) if before is None else None
    older = older or workspace.ledger.get_release(environment.id, before or 0)
    return ReleaseDiff(
        before=older,
        after=newer,
        image=image_diff(workspace, older.image, newer.image),
        configuration=configuration_changes(older.configuration, newer.configuration, environment.settings.provider),
    )


def _active(environment: EnvironmentState) -> int:
    if environment.active is None:
        raise Refused(f"cannot compare: no release of '{environment.id}' is active", hint="name two releases")
    return environment.active


def _before(workspace: Workspace, environment: EnvironmentState, newer: Release) -> Release:
    """Return the release that had the traffic before ``newer``, as far as that is known."""
    recent = [one for one in workspace.ledger.recent(environment.id, 2) if one.number != newer.number]
    if not recent:
        raise Refused(
            f"cannot compare: no other release of '{environment.id}' has served", hint="name two: instar diff ENV N M"
        )
    return recent[0]
