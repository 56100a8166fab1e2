"""The command that shows which values hold: config."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli.options import any_workspace, environment_argument, file_option, json_option, load_definition
from instar.cli.screen import say_json, show


@click.command()
@environment_argument
@file_option
@json_option
@click.option("--all", "with_usual", is_flag=True, help="The usual values too, of what nobody said.")
def config(environment: str, file: Path, as_json: bool, with_usual: bool) -> None:
    """Show which values hold in ENV by the definition, and where each comes from.

    From the lowest up: the service or role, 'defaults', the environment; in both of these a config_file below 'config'.
    Secrets are never shown. Where the active release runs with other values, those are said after them. JSON has the
    usual values too.
    """
    from instar.model.progress import Progress
    from instar.operations.settings import held_settings
    from instar.views.settings import settings_json, settings_page

    workspace = any_workspace()
    held = held_settings(workspace, load_definition(file), environment)
    if held.active is None and workspace.other_state is not None:
        workspace.report(Progress(stage="note", text=f"what runs is not known: {workspace.other_state}"))
    if as_json:
        say_json(settings_json(held))
    else:
        show(settings_page(held, with_usual=with_usual))
