"""Commands for the hour when one has to look: an instance is tainted, opened, and what was seen is shown again."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli.options import environment_argument, file_option, find_environment, json_option, workspace
from instar.cli.screen import say, say_json
from instar.operations.parts import require_root


@click.command()
@environment_argument
@click.argument("instance")
@click.option("--why", required=True, metavar="TEXT", help="The reason, for the history.")
@file_option
@json_option
def taint(environment: str, instance: str, why: str, file: Path, as_json: bool) -> None:
    """Have INSTANCE of ENV replaced: a new one first, then it drains and is destroyed. Nothing is repaired in it."""
    require_root("taint")
    from instar.operations.taint import taint as run

    parts = workspace()
    done = run(parts, find_environment(parts, environment, file), instance, why=why)
    if as_json:
        place, one = done.instance.place, done.taint
        names = {"service": place.service, "environment": place.environment, "instance": done.instance.id}
        told = {"kind": one.kind, "why": one.why, "due_at": one.due_at, "isolated": one.isolated}
        say_json({**names, "release": done.instance.release, "taint": told, "agent": done.agent})
    elif done.agent is not None:
        say(f"{instance} is tainted; the agent (process {done.agent}) replaces it, the new one first")
    else:
        say(f"{instance} is tainted, and no agent runs here: it is replaced by instar agent --once")
