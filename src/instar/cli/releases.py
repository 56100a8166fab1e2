"""Commands that act on an environment and its releases: deploy, promote, rollback, destroy, pin, unpin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.asking import have_typed
from instar.cli.options import (
    Number,
    adopt_name_option,
    detach_option,
    environment_argument,
    file_option,
    find_own_environment,
    json_option,
    load_definition,
    message_option,
    open_workspace,
    plan_option,
    take_names_option,
    take_over_option,
    workspace_for,
)
from instar.cli.screen import say, say_json, show
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.model.outcome import RolloutOutcome
    from instar.model.plan import DeployPlan

number_argument = click.argument("number", metavar="N", type=Number(), shell_complete=completing.releases)


@click.command()
@environment_argument
@file_option
@json_option
@take_over_option
@detach_option
@adopt_name_option
@take_names_option
@click.option(
    "--image",
    metavar="DIGEST",
    help="Deploy this image, from the store or the definition's registry, instead of baking.",
)
@message_option
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
    take_names: bool,
    image: str | None,
    message: str | None,
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
    loaded = load_definition(file)
    workspace = workspace_for(loaded, environment)
    if plan_only:
        from instar.operations.plan import plan

        allowed = {"adopt_name": adopt_name, "break_promotion": break_promotion, "take_names": take_names}
        return _answer_plan(plan(workspace, loaded, environment, image=image, **allowed), as_json)
    outcome = run(
        workspace,
        loaded,
        environment,
        image=image,
        message=message,
        take_over=take_over,
        detach=detach,
        adopt_name=adopt_name,
        take_names=take_names,
        break_promotion=break_promotion,
        watch=watch,
    )
    return answer(outcome, workspace.report, as_json)


@click.command()
@click.argument("source", metavar="FROM", shell_complete=completing.environments)
@click.argument("target", metavar="TO", shell_complete=completing.environments)
@file_option
@json_option
@take_over_option
@detach_option
@adopt_name_option
@take_names_option
@message_option
@plan_option
def promote(
    source: str,
    target: str,
    file: Path,
    as_json: bool,
    take_over: bool,
    detach: bool,
    adopt_name: bool,
    take_names: bool,
    message: str | None,
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
        from instar.operations.plan import plan_promotion

        planned = plan_promotion(workspace, loaded, source, target, adopt_name=adopt_name, take_names=take_names)
        return _answer_plan(planned, as_json, verb="promote")
    outcome = run(
        workspace,
        loaded,
        source,
        target,
        message=message,
        take_over=take_over,
        detach=detach,
        adopt_name=adopt_name,
        take_names=take_names,
    )
    return answer(outcome, workspace.report, as_json)


@click.command()
@environment_argument
@file_option
@json_option
@take_over_option
@click.option(
    "--to",
    type=Number(),
    shell_complete=completing.releases_back,
    metavar="N",
    help="The release to go to; the older one that served last by default.",
)
@click.option("--force", is_flag=True, help="Also to a release that cannot read the data there is. It is recorded.")
@click.option(
    "--keep-secrets",
    is_flag=True,
    help="With the secrets of the active release, where they were changed since: as a new release, whose instances are "
    "started.",
)
@click.option(
    "--with-data",
    is_flag=True,
    help="Bring back what volumes with 'snapshot: true' held before the active release came, too. Nothing that has "
    "them runs meanwhile; what they hold now is kept as another snapshot.",
)
@click.option("--yes", is_flag=True, help="With --with-data: don't ask.")
@plan_option
def rollback(
    environment: str,
    file: Path,
    as_json: bool,
    take_over: bool,
    to: int | None,
    force: bool,
    keep_secrets: bool,
    with_data: bool,
    yes: bool,
    plan_only: bool,
) -> int:
    """Move the traffic of ENV back to a release that ran well.

    ENV may be SERVICE/ENV, and then needs no definition here. Nothing is baked; a hot release isn't even started. Its
    secrets are those that it was made with: which are others than now is said first. Volumes stay as they are, unless
    --with-data.
    """
    from instar.operations.rollback import data_of_rollback
    from instar.operations.rollback import rollback as run

    if with_data and keep_secrets:
        raise click.UsageError(
            "--with-data goes back to the very release that left the data: leave --keep-secrets away"
        )
    workspace = open_workspace()
    found = find_own_environment(workspace, environment, file)
    if plan_only:
        from instar.operations.rollback_plan import plan_rollback
        from instar.views.plans import rollback_plan_json, rollback_plan_page

        plan = plan_rollback(workspace, found, to=to, force=force, keep_secrets=keep_secrets, with_data=with_data)
        if as_json:
            say_json(rollback_plan_json(plan))
        else:
            show(rollback_plan_page(plan))
        return 0 if plan.is_nothing else 2
    back = data_of_rollback(workspace, found, to) if with_data else None
    if back is not None:
        from instar.views.volumes import data_back_lines

        for line in data_back_lines(back):
            workspace.report(Progress(stage="data", text=line, kind="warning"))
        if not yes:
            left, lost = "nothing was changed", f"This takes away what was written since release {back.active} came."
            have_typed(lost, environment, left=left)
    data = None if back is None else back.numbers
    outcome = run(workspace, found, to=to, take_over=take_over, force=force, keep_secrets=keep_secrets, data=data)
    return answer(outcome, workspace.report, as_json)


@click.command()
@environment_argument
@file_option
@take_over_option
@click.option("--volumes", is_flag=True, help="Remove the volumes too: the data in them is gone for ever.")
@click.option(
    "--lost-machine",
    metavar="NAME",
    help="Where ENV is on a machine that is gone for good: remove it from the ledger that was shared with it. It is "
    "recorded.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
def destroy(environment: str, file: Path, take_over: bool, volumes: bool, lost_machine: str | None, yes: bool) -> None:
    """Remove ENV: its instances, its router, its logs. Volumes stay unless --volumes; their snapshots stay, and what
    happened stays written."""
    from instar.operations.destroy import destroy as run
    from instar.operations.destroy import give_up
    from instar.operations.uses import users_texts
    from instar.views.volumes import staying_lines

    if lost_machine is not None and (volumes or take_over):
        raise click.UsageError("--lost-machine does nothing on that machine: leave --volumes and --take-over away")
    workspace = open_workspace()
    found = find_own_environment(workspace, environment, file, anywhere=lost_machine is not None)
    if not yes:
        what = "and its volumes, with all data in them" if volumes else "(its volumes stay)"
        what = what if lost_machine is None else f"from the ledger, and does nothing on {lost_machine}"
        used = "".join(f" {text}." for text in users_texts(workspace, found))
        have_typed(f"This removes {found.id} {what}.{used}", environment)
    if lost_machine is not None:
        give_up(workspace, found, lost_machine)
        back = "should that come back, its agent ends what still runs of it there"
        workspace.report(Progress(stage="done", text=f"{found.id} is gone with {found.machine}; {back}"))
        return
    staying = run(workspace, found, volumes=volumes, take_over=take_over)
    for line in staying_lines(found.id, staying.volumes, staying.snapshots):
        workspace.report(Progress(stage="note", text=line))
    workspace.report(Progress(stage="done", text=f"{found.id} is gone; instar history shows what was"))


@click.command()
@environment_argument
@number_argument
@file_option
@json_option
def pin(environment: str, number: int, file: Path, as_json: bool) -> None:
    """Keep release N of ENV, its image and its logs: no gc removes them until it is unpinned."""
    _pin(environment, number, file, as_json, pinned=True)


@click.command()
@environment_argument
@number_argument
@file_option
@json_option
def unpin(environment: str, number: int, file: Path, as_json: bool) -> None:
    """Let release N of ENV be removed like any other, when 'keep' says so."""
    _pin(environment, number, file, as_json, pinned=False)


def answer(outcome: RolloutOutcome, report: Report, as_json: bool) -> int:
    """Say how a rollout ended; return the exit status."""
    from instar.views.outcomes import outcome_json, outcome_lines

    for line in outcome_lines(outcome):
        report(line)
    if as_json:
        say_json(outcome_json(outcome))
    return 1 if outcome.outcome == "failed" else 0


def _answer_plan(plan: DeployPlan, as_json: bool, *, verb: str = "deploy") -> int:
    from instar.views.plans import plan_json, plan_page

    if as_json:
        say_json(plan_json(plan))
    else:
        show(plan_page(plan, verb=verb))
    return 0 if plan.is_nothing else 2


def _pin(environment: str, number: int, file: Path, as_json: bool, *, pinned: bool) -> None:
    from instar.operations.pin import pin as run
    from instar.views.releases import pinned_json, pinned_sentence

    workspace = open_workspace()
    release = run(workspace, find_own_environment(workspace, environment, file).id, number, pinned=pinned)
    if as_json:
        say_json(pinned_json(release))
    else:
        say(pinned_sentence(release))
