"""``instar rollback --plan``: what one would do, without doing any of it."""

from __future__ import annotations

from collections.abc import Collection

from instar.control.forecast import forecast
from instar.definition.changes import configuration_changes
from instar.model.configuration import Configuration
from instar.model.definition import Volume
from instar.model.plan import PlannedChange, RollbackPlan
from instar.model.release import EnvironmentState, Instance, Release
from instar.operations.doors import door_warnings, planned_roles
from instar.operations.image_diff import image_diff
from instar.operations.refusals import find_held_volume
from instar.operations.rollback import (
    data_hints,
    data_of_rollback,
    other_secrets,
    reachable,
    secrets_text,
    unread,
    with_todays_secrets,
)
from instar.operations.under_way import planned_rollout
from instar.operations.uses import lost_use_warnings, missing_warnings
from instar.operations.workspace import Workspace


def plan_rollback(
    workspace: Workspace,
    environment: EnvironmentState,
    *,
    to: int | None = None,
    force: bool = False,
    keep_secrets: bool = False,
    with_data: bool = False,
) -> RollbackPlan:
    """Return what a rollback would do. Changes nothing. Raises what that would refuse."""
    environment_id, settings = environment.id, environment.settings
    target = reachable(workspace, environment, to)
    data = data_of_rollback(workspace, environment, to) if with_data else None
    held = _held(workspace, environment, None if with_data else target.number, () if data is None else data.numbers)
    unreadable = unread(workspace, environment, target, force=force, with_data=with_data)
    others = other_secrets(workspace, environment, target)
    anew = bool(others) and keep_secrets
    active = None if environment.active is None else workspace.ledger.get_release(environment_id, environment.active)
    wanted = with_todays_secrets(active, target) if anew and active is not None else target.configuration
    there = [one for one in workspace.ledger.instances(environment_id) if one.release == target.number and not one.task]
    goes_on = environment.rollout is not None and environment.rollout.target == target.number
    texts = [
        *(
            [f"refused while {held[0].id} ({held[0].task}) runs: it has the {held[1].access} volume '{held[1].name}'"]
            if held
            else []
        ),
        *([f"forced: {unreadable}"] if unreadable else []),
        *forecast(settings, active, wanted, tasks=False, steps=anew or not target.ran_well),
        *([] if anew or not others else [secrets_text(environment, target, others)]),
        *([] if with_data else data_hints(workspace, environment, target, None, planned=True)),
        *missing_warnings(workspace, settings.provider, wanted),
        *door_warnings(settings, wanted, target.number),
        *lost_use_warnings(workspace, environment_id, settings, wanted, f"release {target.number}"),
    ]
    return RollbackPlan(
        environment=environment_id,
        active=environment.active,
        target=None if anew else target.number,
        under_way=goes_on,
        hot=() if anew else tuple(one.id for one in there if one.was_made and one.ending is None and one.taint is None),
        changes=() if active is None else _changes(active, target, wanted, settings.provider),
        data=data,
        inside=None if active is None else image_diff(workspace, active.image, target.image),
        rollout=planned_rollout(workspace, environment, goes_on=goes_on, may_be_paused=True),
        roles=() if active is None else planned_roles(active.configuration, wanted, settings, settings),
        warnings=tuple(texts),
    )


def _held(
    workspace: Workspace, environment: EnvironmentState, but: int | None, restored: Collection[str]
) -> tuple[Instance, Volume] | None:
    """Return which command keeps a rollback waiting: none that has ended, though nobody has written that down."""
    held = find_held_volume(workspace, environment.id, but, restored)
    if held is None:
        return None
    provider = workspace.provider(environment.settings.provider)
    (seen,) = provider.observe(environment.id, [held[0]]).groups
    return held if seen.state == "running" else None


def _changes(active: Release, target: Release, wanted: Configuration, provider: str) -> tuple[PlannedChange, ...]:
    image = PlannedChange(kind="image", what="image", before=active.image.short, after=target.image.short)
    others = configuration_changes(active.configuration, wanted, provider)
    return (*((image,) if active.image != target.image else ()), *others)
