"""What a deploy or a promotion would do, as JSON and as a page."""

from __future__ import annotations

from typing import Any

from instar.model.plan import DeployPlan
from instar.views.diffs import image_page
from instar.views.page import Page, Table


def plan_json(plan: DeployPlan) -> dict[str, Any]:
    return {
        "place": {"service": plan.environment.service, "environment": plan.environment.name},
        "active": plan.active,
        "steps": plan.steps,
        "image": plan.image,
        "release": plan.release,
        "changes": plan.changes,
        "warnings": plan.warnings,
        "locked": plan.locked,
        "packages": plan.inside and plan.inside.packages,
        "files": plan.inside and plan.inside.files,
    }


def _kept(plan: DeployPlan) -> str:
    """Say what changes where no release does."""
    if any(change.what.startswith("settings.") for change in plan.changes):
        return "settings of the environment change"
    certificate = all(change.what == "certificate" for change in plan.changes)
    return "its certificate changes" if certificate else "what runs is repaired"


def plan_page(plan: DeployPlan, *, verb: str = "deploy") -> Page:
    """Yield what would happen, step by step, then what is worth knowing before."""
    if not plan.changes:
        yield f"nothing to do: {plan.environment} runs release {plan.active} of this image and configuration"
        for warning in plan.warnings:
            yield f"note     {warning}"
    else:
        if not plan.locked:
            yield "lock     every outside input (there is no lock yet), then bake"
        if plan.steps:
            yield f"bake     {', '.join(plan.steps)}"
        then = "a new release" if plan.release else f"no new release: {_kept(plan)}"
        yield f"{verb:<9}{then}"
        yield Table(
            rows=[("  " + change.what, change.before or "—", "→", change.after or "—") for change in plan.changes]
        )
        for warning in plan.warnings:
            yield f"note     {warning}"
    if plan.inside is not None:
        yield from image_page(plan.inside)
