"""What a deploy, a promotion or a rollback would do, as JSON and as a page."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from instar.model.plan import DeployPlan, PlannedRollout, RollbackPlan, without_roles
from instar.model.release import EnvironmentId
from instar.views.diffs import planned_image_page
from instar.views.page import Page, Table
from instar.views.volumes import data_back_lines, snapshots_json


def plan_json(plan: DeployPlan) -> dict[str, Any]:
    return {
        "place": {"service": plan.environment.service, "environment": plan.environment.name},
        "active": plan.active,
        "steps": plan.steps,
        "reasons": plan.reasons,
        "image": plan.image,
        "release": plan.release,
        "changes": plan.changes,
        "roles": plan.roles,
        "warnings": plan.warnings,
        "locked": plan.locked,
        "packages": plan.inside and plan.inside.packages,
        "files": plan.inside and plan.inside.files,
        "rollout": plan.rollout,
    }


def _under_way(environment: EnvironmentId, found: PlannedRollout | None, verb: str) -> Page:
    """Say that a rollout is under way, and what becomes of it, and of the verb."""
    if found is None:
        return
    share = f"with {found.percent} % of the traffic" if found.percent else "without traffic yet"
    yield f"rollout  the {found.kind} to release {found.release} by {found.actor} is under way, {share}"
    becomes = {
        "goes on": "it is gone on with",
        "is given up": "it is given up for this one",
        "refuses": f"it is paused, and a {verb} is refused until it is over: instar rollout resume {environment}, or "
        f"instar rollout abort {environment}",
    }
    yield f"         {becomes[found.becomes]}"
    if found.held_by is not None:
        yield (
            f"         {found.held_by} is at it now: until that has ended a {verb} is refused, unless --take-over ends "
            "it first"
        )


def _then(plan: DeployPlan) -> str:
    if plan.release:
        return "a new release"
    return f"no new release: {_kept(plan)}"


def _kept(plan: DeployPlan) -> str:
    """Say what changes where no release does."""
    if plan.rollout is not None:
        return f"release {plan.rollout.release} is rolled out to the end"
    if any(change.kind == "settings" for change in plan.changes):
        return "settings of the environment change"
    certificate = all(change.kind == "certificate" for change in plan.changes)
    return "its certificate changes" if certificate else "what runs is repaired"


def plan_page(plan: DeployPlan, *, verb: str = "deploy") -> Page:
    """Yield what would happen, step by step, then what is worth knowing before."""
    yield from _under_way(plan.environment, plan.rollout, verb)
    if plan.is_nothing:
        yield f"nothing to do: {plan.environment} runs release {plan.active} of this image and configuration"
        for warning in plan.warnings:
            yield f"note     {warning}"
    else:
        if not plan.locked:
            yield "lock     every outside input (there is no lock yet), then bake"
        yield from _bake(plan)
        yield f"{verb:<9}{_then(plan)}"
        yield from _changes(plan)
        for warning in plan.warnings:
            yield f"note     {warning}"
    if plan.inside is not None:
        yield from planned_image_page(plan.inside)


def _bake(plan: DeployPlan) -> Page:
    """Yield which steps a bake would run, those together that run for the same reason."""
    for why, steps in groupby(zip(plan.steps, plan.reasons, strict=True), key=lambda pair: pair[1]):
        yield f"bake     {', '.join(step for step, _ in steps)}: {why}"


def _changes(plan: DeployPlan | RollbackPlan) -> Page:
    """Yield what is other, key by key; of a role that comes or goes as a whole, a line."""
    changes = without_roles(plan.changes, plan.roles)
    if changes and plan.active is None:
        yield Table(rows=[("  " + one.what, one.after or "—") for one in changes])
    elif changes:
        yield Table(rows=[("  " + one.what, one.before or "—", "→", one.after or "—") for one in changes])
    for one in plan.roles:
        goes, closes = ("comes", "open") if one.comes else ("goes", "close")
        doors = f", and its door{'s' * (len(one.doors) > 1)} {', '.join(one.doors)} {closes}"
        yield f"  role '{one.role}' {goes}{(doors + 's' * (len(one.doors) == 1)) if one.doors else ''}"


def rollback_plan_json(plan: RollbackPlan) -> dict[str, Any]:
    return {
        "service": plan.environment.service,
        "environment": plan.environment.name,
        "active": plan.active,
        "release": plan.target,
        "under_way": plan.under_way,
        "hot": plan.hot,
        "changes": plan.changes,
        "packages": plan.inside and plan.inside.packages,
        "files": plan.inside and plan.inside.files,
        "roles": plan.roles,
        "data": None if plan.data is None else snapshots_json(plan.data.snapshots),
        "stops": () if plan.data is None else plan.data.instances,
        "warnings": plan.warnings,
        "rollout": plan.rollout,
    }


def _back(plan: RollbackPlan) -> str:
    if plan.target == plan.active:
        return f"release {plan.active} keeps the traffic, or has all of it again"
    goes_on = "goes on " if plan.under_way else ""
    to = f"to release {plan.target}" if plan.target is not None else "to a new release, with the secrets of now"
    return f"{goes_on}{to}, from release {plan.active}"


def rollback_plan_page(plan: RollbackPlan) -> Page:
    """Yield what would happen, then what is worth knowing before."""
    if plan.is_nothing:
        yield f"nothing to do: {plan.environment} runs release {plan.active}"
        return
    yield from _under_way(plan.environment, plan.rollout, "rollback")
    yield f"rollback {_back(plan)}"
    if plan.data is not None:
        for line in data_back_lines(plan.data):
            yield f"data     {line}"
        yield "start    its instances are made anew, since they would have what the volume held before"
    elif plan.hot:
        yield f"hot      {', '.join(plan.hot)}: as soon as they answer, the traffic moves"
    else:
        yield "start    none of its instances is there: they are made and started before any traffic moves"
    yield from _changes(plan)
    for warning in plan.warnings:
        yield f"note     {warning}"
    if plan.inside is not None:
        yield from planned_image_page(plan.inside)
