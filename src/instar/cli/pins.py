"""Commands that keep a release whatever the environment's ``keep`` says, and let it go again."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli.options import environment_argument, file_option, find_own_environment, json_option, open_workspace
from instar.cli.screen import say, say_json
from instar.operations.privilege import require_root

number_argument = click.argument("number", metavar="N", type=click.IntRange(1, 2**31 - 1))


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


def _pin(environment: str, number: int, file: Path, as_json: bool, *, pinned: bool) -> None:
    require_root("pin" if pinned else "unpin")
    from instar.operations.pin import pin as run

    workspace = open_workspace()
    release = run(workspace, find_own_environment(workspace, environment, file).id, number, pinned=pinned)
    if as_json:
        environment_id = release.environment
        names = {
            "service": environment_id.service,
            "environment": environment_id.name,
            "release": release.number,
        }
        say_json({**names, "pinned": release.pinned})
    else:
        say(
            f"release {release.number} of {release.environment} is "
            f"{'kept until it is unpinned' if pinned else 'not pinned'}"
        )
