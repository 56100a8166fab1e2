"""The command that compares releases: diff."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import environment_argument, file_option, find_environment, json_option, open_workspace
from instar.cli.screen import say_json, show

_NUMBER = click.IntRange(1, 2**31 - 1)


@click.command()
@environment_argument
@click.argument("before", metavar="[N]", type=_NUMBER, required=False, shell_complete=completing.releases)
@click.argument("after", metavar="[M]", type=_NUMBER, required=False, shell_complete=completing.releases)
@file_option
@json_option
@click.option("--files", "all_files", is_flag=True, help="Name every file that differs, not only how many.")
def diff(environment: str, before: int | None, after: int | None, file: Path, as_json: bool, all_files: bool) -> int:
    """Show what is different between releases N and M of ENV: packages, files, configuration.

    M is the active release by default, and N the one that served before it. Exit status 2: there are differences.
    """
    from instar.operations.diff import diff as run
    from instar.views.diffs import diff_json, diff_page

    workspace = open_workspace()
    found = run(workspace, find_environment(workspace, environment, file), before, after)
    if as_json:
        say_json(diff_json(found))
    else:
        show(diff_page(found, all_files=all_files))
    return 0 if found.is_same else 2
