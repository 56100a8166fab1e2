"""Commands for the data that outlives releases and environments."""

from __future__ import annotations

import click

from instar.cli import completing
from instar.cli.asking import have_typed
from instar.cli.options import json_option, open_workspace, place_of, take_over_option
from instar.cli.screen import say, say_json, show


@click.group(invoke_without_command=True)
@click.pass_context
def volumes(context: click.Context) -> None:
    """Show and remove volumes: data that outlives releases, and environments that were destroyed.

    Without a command: list them all.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_volumes)


@volumes.command("list")
@json_option
def list_volumes(as_json: bool = False) -> None:
    """List every volume that is kept, what it takes of the disk where that is known, and who has it."""
    from instar.operations.volumes import volumes as look
    from instar.views.volumes import volumes_json, volumes_page

    kept = look(open_workspace())
    if as_json:
        say_json(volumes_json(kept))
    else:
        show(volumes_page(kept))


@volumes.command("remove")
@click.argument("environment", metavar="SERVICE/ENV", shell_complete=completing.environments)
@click.argument("name")
@take_over_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def remove(environment: str, name: str, take_over: bool, yes: bool) -> None:
    """Remove the volume NAME of SERVICE/ENV with all data in it, for ever. That it was is recorded.

    SERVICE/ENV may be destroyed already. A volume that an instance has is not removed.
    """
    from instar.operations.volumes import remove_volume, volumes

    workspace, found = open_workspace(), place_of(environment)
    if not yes:
        _ask(
            next((one.used_bytes for one in volumes(workspace, found) if one.name == name), None),
            environment,
            name,
        )
    remove_volume(workspace, found, name, take_over=take_over)
    say(f"the volume '{name}' of {found} is gone")


def _ask(used_bytes: int | None, environment: str, name: str) -> None:
    from instar.model.sizes import size_text

    held = f" ({size_text(used_bytes)})" if used_bytes is not None else ""
    have_typed(f"This removes all data of '{name}' of {environment}{held}.", name)
