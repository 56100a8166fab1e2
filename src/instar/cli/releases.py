"""Commands that act on an environment: deploy, promote, rollback, destroy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instar.cli.options import (
    adopt_name_option,
    detach_option,
    environment_argument,
    file_option,
    find_own_environment,
    json_option,
    load_definition,
    open_workspace,
    plan_option,
    take_over_option,
)
from instar.cli.screen import say, say_json, table
from instar.model.progress import Progress, Report
from instar.operations.privilege import require_root

if TYPE_CHECKING:
    from instar.operations.deploy import RolloutOutcome
    from instar.operations.plan import DeployPlan


@click.command()
@environment_argument
@file_option
@json_option
@take_over_option
@detach_option
@adopt_name_option
@click.option("--image", metavar="DIGEST", help="Deploy this image from the store instead of baking.")
@plan_option
@click.option("--break-promotion", is_flag=True, help="Also where ENV takes its releases from another. It is recorded.")
@click.option(
    "--watch", is_flag=True, help="Wait for as long as 'rollout.watch' says, and go back when it does not stay well."
)
def deploy(
    environment: str,
    file: Path,
    as_json: bool,
    take_over: bool,
    detach: bool,
    adopt_name: bool,
    image: str | None,
    plan_only: bool,
    break_promotion: bool,
    watch: bool,
) -> int:
    """Bake if needed, start new instances beside the old ones, and move the traffic of ENV over.

    How it moves is the environment's 'rollout': all at once when every new instance is healthy (blue-green), in
    steps that are judged (canary), or a few instances at a time (rolling). Until it has moved, ^C undoes it.

    The release before stays ready ("hot"): instar rollback ENV moves the traffic back in milliseconds. Asked again
    for what runs already, it puts right what isn't as wanted (after a reboot, a crash) and makes no release.
    """
    from instar.operations.deploy import deploy as run

    if watch and detach:
        raise click.UsageError("--detach leaves the rollout to the agent, which watches too; leave --watch away")
    workspace = open_workspace()
    loaded = load_definition(file)
    if plan_only:
        require_root("deploy --plan", "the state directory belongs to root")
        from instar.operations.plan import plan

        allowed = {"adopt_name": adopt_name, "break_promotion": break_promotion}
        return _show_plan(plan(workspace, loaded, environment, image=image, **allowed), as_json)
    outcome = run(
        workspace,
        loaded,
        environment,
        image=image,
        take_over=take_over,
        detach=detach,
        adopt_name=adopt_name,
        break_promotion=break_promotion,
        watch=watch,
    )
    return show(outcome, workspace.report, as_json)


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@file_option
@json_option
@take_over_option
@detach_option
@adopt_name_option
@plan_option
def promote(
    source: str,
    target: str,
    file: Path,
    as_json: bool,
    take_over: bool,
    detach: bool,
    adopt_name: bool,
    plan_only: bool,
) -> int:
    """Roll the very image that is active in FROM out to TO. Nothing is baked.

    Its config, secrets and settings are those that the definition has for TO: where they changed, promoting the same
    image again brings them.
    """
    from instar.operations.promote import promote as run

    workspace = open_workspace()
    loaded = load_definition(file)
    if plan_only:
        require_root("promote --plan", "the state directory belongs to root")
        from instar.operations.plan import plan_promotion

        planned = plan_promotion(workspace, loaded, source, target, adopt_name=adopt_name)
        return _show_plan(planned, as_json, verb="promote")
    outcome = run(workspace, loaded, source, target, take_over=take_over, detach=detach, adopt_name=adopt_name)
    return show(outcome, workspace.report, as_json)


@click.command()
@environment_argument
@file_option
@json_option
@take_over_option
@click.option(
    "--to",
    type=click.IntRange(1, 2**31 - 1),
    metavar="N",
    help="The release to go to; the older one that served last by default.",
)
@click.option("--force", is_flag=True, help="Also to a release that cannot read the data there is. It is recorded.")
def rollback(environment: str, file: Path, as_json: bool, take_over: bool, to: int | None, force: bool) -> int:
    """Move the traffic of ENV back to a release that ran well.

    ENV may be SERVICE/ENV, and then needs no definition here. Nothing is baked; a hot release isn't even started.
    """
    require_root("rollback")
    from instar.operations.rollback import rollback as run

    workspace = open_workspace()
    found = find_own_environment(workspace, environment, file)
    return show(run(workspace, found, to=to, take_over=take_over, force=force), workspace.report, as_json)


@click.command()
@environment_argument
@file_option
@take_over_option
@click.option("--volumes", is_flag=True, help="Remove the volumes too: the data in them is gone for ever.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def destroy(environment: str, file: Path, take_over: bool, volumes: bool, yes: bool) -> None:
    """Remove ENV: its instances, its router, its logs. Volumes stay unless --volumes; what happened stays written."""
    require_root("destroy")
    from instar.operations.destroy import destroy as run

    workspace = open_workspace()
    found = find_own_environment(workspace, environment, file)
    if not yes:
        what = "and its volumes, with all data in them" if volumes else "(its volumes stay)"
        try:
            answer = click.prompt(f"This removes {found.id} {what}. Type '{environment}' to go on", err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            hint = "there is nobody to ask: nothing was removed; to remove it without a question, add --yes"
            raise click.UsageError(hint) from None
        if answer != environment:
            raise click.UsageError("the name differs: nothing was removed")
    run(workspace, found, volumes=volumes, take_over=take_over)
    kept = workspace.state.volumes / found.id.service / found.id.name
    stays = f"; its volumes stay in {kept}" if kept.exists() else ""
    workspace.report(Progress(stage="done", text=f"{found.id} is gone{stays}; instar history shows what was"))


def show(outcome: RolloutOutcome, report: Report, as_json: bool) -> int:
    """Say how a rollout ended; return the exit status."""
    _tell(outcome, report)
    if as_json:
        say_json(_as_json(outcome))
    return 1 if outcome.outcome == "failed" else 0


def _as_json(outcome: RolloutOutcome) -> dict[str, Any]:
    """Return the keys that others build on, then more."""
    return {
        "environment": outcome.environment.name,
        "release": outcome.release,
        "image": outcome.image,
        "previous": outcome.previous,
        "outcome": outcome.outcome,
        "seconds": round(outcome.seconds, 3),
        "switch_ms": outcome.switch_ms,
        "service": outcome.environment.service,
        "active": outcome.active,
        "gap_ms": outcome.gap_ms,
        "drained": outcome.drained,
        "cut": outcome.cut,
        "requests": outcome.requests,
        "failed": outcome.failed,
        "reason": outcome.reason,
        "warning": outcome.warning,
    }


def _tell(outcome: RolloutOutcome, report: Report) -> None:
    environment = outcome.environment.name
    if outcome.outcome == "failed":
        _tell_failure(outcome, report)
    elif outcome.outcome == "begun":
        text = f"{environment} moves to release {outcome.release}: the agent carries it on"
        follow = (
            f"follow with: instar status {outcome.environment}",
            f"give up with: instar rollout abort {outcome.environment}",
        )
        report(Progress(stage="begun", text=text, detail=follow))
    elif outcome.outcome == "unchanged":
        text = f"{environment} runs release {outcome.release} already · {outcome.seconds:.2f} s"
        report(Progress(stage="done", text=text))
    else:
        was = f", was {outcome.previous}" if outcome.previous is not None else ""
        served = f" · {outcome.requests:,} requests, {outcome.failed} failed" if outcome.requests else ""
        back = (f"back with: {_way_back(outcome)}",) if outcome.previous is not None else ()
        text = f"{environment} runs release {outcome.release}{was} · {outcome.seconds:.2f} s{served}"
        report(Progress(stage="done", text=text, detail=back))


def _way_back(outcome: RolloutOutcome) -> str:
    to = f" --to {outcome.previous}" if outcome.previous is not None and outcome.previous > outcome.release else ""
    return f"instar rollback {outcome.environment.name}{to}"


def _tell_failure(outcome: RolloutOutcome, report: Report) -> None:
    lines: tuple[str, ...] = ()
    if outcome.last_lines:
        lines = ("last lines of its log:", *(f"  {_text(line)}" for line in outcome.last_lines))
    stage = "failed" if outcome.touched else "launch"
    report(Progress(stage=stage, text=f"release {outcome.release} · {outcome.reason}", kind="failed", detail=lines))
    environment = outcome.environment.name
    if outcome.active == outcome.release:
        text = f"{environment} goes on with what is healthy; instar status {environment} shows more"
        report(Progress(stage="left", text=text, kind="failed"))
        return
    if outcome.active is None:
        left = f"{environment} runs nothing, as before"
    elif not outcome.touched:
        left = f"{environment} still runs release {outcome.active}, traffic was never touched"
    else:
        left = f"{environment} runs release {outcome.active} again"
    report(
        Progress(
            stage="undone",
            text=f"release {outcome.release} has no traffic; {left}",
            kind="failed",
            detail=(f"all it printed: instar logs {outcome.environment} {outcome.culprit}",)
            if outcome.last_lines
            else (),
        )
    )


def _text(line: str) -> str:
    """Return what the instance printed, of a log line ``TIME STREAM TEXT``."""
    return line.split(" ", 2)[-1]


def _show_plan(plan: DeployPlan, as_json: bool, *, verb: str = "deploy") -> int:
    if as_json:
        say_json(plan)
    elif not plan.changes:
        say(f"nothing to do: {plan.environment} runs release {plan.active} of this image and configuration")
        for warning in plan.warnings:
            say(f"note     {warning}")
    else:
        if not plan.locked:
            say("lock     every outside input (there is no lock yet), then bake")
        if plan.steps:
            say(f"bake     {', '.join(plan.steps)}")
        settings = any(change.what.startswith("settings.") for change in plan.changes)
        kept = "settings of the environment change" if settings else "what runs is put right"
        then = "a new release" if plan.release else f"no new release: {kept}"
        say(f"{verb:<9}{then}")
        table([("  " + change.what, change.before or "—", "→", change.after or "—") for change in plan.changes])
        for warning in plan.warnings:
            say(f"note     {warning}")
    return 2 if plan.changes else 0
