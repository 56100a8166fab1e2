"""``instar schedule``: the commands by the clock of an environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import (
    environment_argument,
    file_option,
    find_own_environment,
    json_option,
    open_workspace,
    service_beside,
)
from instar.cli.screen import say_json, show


@click.command()
@environment_argument
@click.argument("verb", required=False, metavar="[run", shell_complete=lambda *_: ["run"])
@click.argument("name", required=False, metavar="NAME]", shell_complete=completing.entries)
@click.option("--wait", is_flag=True, help="Of run: wait for its end; exit 1 unless it ended with 0.")
@file_option
@json_option
def schedule(environment: str, verb: str | None, name: str | None, wait: bool, file: Path, as_json: bool) -> int:
    """List what runs by the clock in ENV, when each did last, how that ended, and when it will next.

    run NAME begins one now, beside what the clock begins. The definition says what runs: 'schedule' of an environment;
    the agent begins it, in an instance of its own of the active release.
    """
    from instar.definition.problems import nearest
    from instar.operations.schedule import await_end, begin_now
    from instar.views.schedules import begun_json, begun_page, ended_page

    if verb not in (None, "run") and name is not None:
        raise click.UsageError(f"there is no '{verb}'; did you mean: instar schedule {environment} run {name}?")
    if verb not in (None, "run") and nearest(verb, ["run"]):
        raise click.UsageError(f"there is no '{verb}'; did you mean: instar schedule {environment} run NAME?")
    if verb not in (None, "run"):
        raise click.UsageError(f"write instar schedule {environment} run {verb} to have it begin now")
    if wait and verb is None:
        raise click.UsageError("--wait is of: instar schedule ENV run NAME")
    if verb is None:
        from instar.cli.looking import look
        from instar.reading.questions import Schedule

        return look(Schedule(environment=environment, service=service_beside(environment, file), as_json=as_json))
    workspace = open_workspace()
    if name is None:
        raise click.UsageError("which one? instar schedule ENV lists them")
    begun = begin_now(workspace, find_own_environment(workspace, environment, file), name)
    if not wait:
        say_json(begun_json(begun)) if as_json else show(begun_page(begun))
        return 0
    if not as_json:
        show(begun_page(replace(begun, agent=begun.agent or "")))  # its end is seen to here
    ended = await_end(workspace, begun)
    told = {**begun_json(begun), "outcome": ended.outcome, "last_lines": ended.last_lines}
    say_json(told) if as_json else show(ended_page(begun, ended))
    return 0 if ended.outcome == "done" else 1
