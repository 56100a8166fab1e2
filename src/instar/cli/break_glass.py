"""Commands for the hour when one has to look: an instance is tainted, opened, and what was seen is shown again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

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
from instar.errors import UsageError

if TYPE_CHECKING:
    pass


@click.command()
@environment_argument
@click.argument("instance", shell_complete=completing.instances)
@click.option("--why", required=True, metavar="TEXT", help="The reason, for the history.")
@file_option
@json_option
def taint(environment: str, instance: str, why: str, file: Path, as_json: bool) -> None:
    """Have INSTANCE of ENV replaced: a new one first, then it drains and is destroyed. Nothing is repaired in it.

    On Kubernetes INSTANCE may be a pod, which alone is replaced then.
    """
    from instar.operations.taint import taint as run
    from instar.views.break_glass import tainted_json, tainted_page

    workspace = open_workspace()
    done = run(workspace, find_own_environment(workspace, environment, file), instance, why=why)
    if as_json:
        say_json(tainted_json(done))
    else:
        show(tainted_page(done))


@click.command()
@environment_argument
@click.argument("instance", required=False, shell_complete=completing.instances)
@click.option(
    "--role",
    metavar="ROLE",
    shell_complete=completing.roles,
    help="The oldest of this role, where the definition names several.",
)
@click.option("--why", metavar="TEXT", help="The reason, for the history; prompted for if omitted.")
@click.option("--isolate", is_flag=True, help="Take it out of the traffic first; another serves in its place.")
@click.option("--command", metavar="TEXT", help="Run TEXT with sh, without a terminal; its exit status is this one's.")
@click.option(
    "--toolbox",
    is_flag=True,
    help="For images without a shell: this machine's static busybox inside, or kubernetes.toolbox beside it.",
)
@file_option
def shell(
    environment: str,
    instance: str | None,
    role: str | None,
    why: str | None,
    isolate: bool,
    command: str | None,
    toolbox: bool,
    file: Path,
) -> int:
    """Look into INSTANCE of ENV (the oldest that runs) with a shell. What it shows is recorded.

    The instance is tainted before: it is replaced after the environment's 'replace_within', whatever was done in it.
    On Kubernetes INSTANCE may be a pod: that pod alone is tainted.
    """
    from instar.operations.shell import ShellRequest
    from instar.operations.shell import shell as run
    from instar.terminal.terminal import find
    from instar.views.break_glass import shell_line

    if instance is not None and role is not None:
        raise click.UsageError("an instance is of one role: leave --role away, or INSTANCE")
    workspace, terminal = open_workspace(), find()
    found = find_own_environment(workspace, environment, file)
    request = ShellRequest(
        why=_reason(why, asked=command is not None or terminal is not None),
        instance=instance,
        role=role,
        command=command,
        isolated=isolate,
        toolbox=toolbox,
        term=os.environ.get("TERM") or "dumb",
    )
    left = run(workspace, found, request, terminal)
    workspace.report(shell_line(left))
    return left.exit_status


@click.command()
@click.argument("word", metavar="ENV|INSTANCE", shell_complete=completing.environments_and_instances)
@click.option("--speed", type=float, default=1.0, show_default=True, metavar="X", help="So many times as fast.")
@click.option("--list", "as_list", is_flag=True, help="List the recordings of an instance, as of an environment.")
@file_option
@json_option
def replay(word: str, speed: float, as_list: bool, file: Path, as_json: bool) -> None:
    """Show again what was seen in a shell: the newest of INSTANCE; of ENV, list the recordings there are.

    A name from that list is played too. No pause is longer than two seconds. Where it goes to no terminal, all of it
    comes at once, as text.
    """
    from instar.operations.replay import find_recordings, listed, play
    from instar.views.break_glass import recordings_json, recordings_page

    found, of_environment = find_recordings(open_workspace(of_machine=True), word, lambda: service_beside(word, file))
    if of_environment or as_list or as_json:
        recorded = list(listed(found))
        if as_json:
            say_json(recordings_json(recorded))
        else:
            show(recordings_page(recorded))
        return
    play(found[-1], _print, speed=speed if sys.stdout.isatty() else None)


def _reason(why: str | None, *, asked: bool) -> str:
    """Return the reason as given, or ask for it."""
    if why is not None:
        return why
    if asked and sys.stdin.isatty():
        while not (told := str(click.prompt("why", err=True))).strip():
            pass
        return told
    raise UsageError("cannot open a shell without a reason", hint="say it for the history: --why 'what it is for'")


def _print(text: str) -> None:
    click.echo(text.encode("utf-8", "replace"), nl=False)
