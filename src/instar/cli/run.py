"""``instar run``: a command of somebody's, in an instance of its own."""

from __future__ import annotations

import os
from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import Number, environment_argument, file_option, find_own_environment, open_workspace


@click.command()
@click.option(
    "--role",
    metavar="ROLE",
    shell_complete=completing.roles,
    help="As this role runs, where the definition names several; else the first.",
)
@click.option("--release", type=Number(), metavar="N", help="In this release; else in the active one.")
@click.option("--no-terminal", "-T", is_flag=True, help="Give it no terminal, also where there is one.")
@click.option(
    "--toolbox", is_flag=True, help="For an image without a shell in a cluster: kubernetes.toolbox waits for it."
)
@file_option
@environment_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    environment: str,
    command: tuple[str, ...],
    role: str | None,
    release: int | None,
    no_terminal: bool,
    toolbox: bool,
    file: Path,
) -> int:
    """Run COMMAND once in an instance of its own of ENV: instar run ENV [--role ROLE] -- COMMAND [ARGUMENT …]

    It has all that the active release gives an instance: configuration, secrets, volumes, limits, network. What runs is
    not touched, and nothing is tainted. On a terminal it has one; else it reads this command's input, and its output
    and errors go where this one's do. Its exit status is this one's. It is recorded as a task, with its words, and
    nothing is left of its instance. Meanwhile rollouts go on.
    """
    from instar.operations.run import RunRequest
    from instar.operations.run import run as begin
    from instar.terminal.terminal import find
    from instar.views.outcomes import run_line

    workspace, terminal = open_workspace(), None if no_terminal else find()
    found = find_own_environment(workspace, environment, file)
    kind = None if terminal is None else os.environ.get("TERM") or "dumb"
    request = RunRequest(argv=command, role=role, release=release, terminal=kind, toolbox=toolbox)
    result = begin(workspace, found, request, terminal)
    workspace.report(run_line(result))
    return result.exit_status
