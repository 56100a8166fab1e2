"""Requests for one release, by its number (``preview``): which group they go to, whatever its share. Pure.

By the header the active release is asked for too, so that who asks for a number goes on being answered by that release
when it has the traffic. An address of its own leads to a candidate alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from instar.control.actions import Preview
from instar.control.roles import is_first, names_by_release, previewed_beside
from instar.control.snapshot import Snapshot, wanted_plan
from instar.model.release import Release


def show_candidate(snapshot: Snapshot, target: Release, group: str) -> tuple[Preview, ...]:
    """Return what has ``group`` of the target of the running rollout shown, of the first role."""
    plan = wanted_plan(snapshot, target) if is_first(snapshot, target) else None
    if plan is None or plan.preview is None:
        return ()
    active = snapshot.active if plan.previews_by_header else None
    return _shown(snapshot, target, {**_of_active(snapshot, active), target.number: group})


def show_active(snapshot: Snapshot, active: Release) -> tuple[Preview, ...]:
    """Return what has the active release shown alone, or nothing, while no rollout runs."""
    if snapshot.environment.settings.preview is None and not snapshot.previewed and not snapshot.previewed_beside:
        return ()
    by_header = is_first(snapshot, active) and wanted_plan(snapshot, active).previews_by_header
    return _shown(snapshot, active, _of_active(snapshot, active if by_header else None))


def _of_active(snapshot: Snapshot, active: Release | None) -> Mapping[int, str]:
    """Return the group of the active release that is shown: the same for as long as it can be."""
    if active is None:
        return {}
    shown = snapshot.previewed.get(active.number)
    able = [one.id for one in snapshot.of(active) if one.routed is not None and one.up and one.weight]
    name = shown if shown in able or not able else able[0]
    return {} if name is None else {active.number: name}


def _shown(snapshot: Snapshot, whose: Release, wanted: Mapping[int, str]) -> tuple[Preview, ...]:
    """``whose``: the plan that says at which doors one can ask for a release."""
    plan = wanted_plan(snapshot, whose) if wanted else None
    beside = tuple(one for number in wanted for one in previewed_beside(snapshot, plan, number)) if plan else ()
    known = snapshot.previewed_beside
    others = bool(known) if not wanted else known is not None and dict(known) != names_by_release(beside)
    return (Preview(tuple(wanted.items()), beside),) if dict(snapshot.previewed) != wanted or others else ()
