"""The command that compares releases: diff."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import Number, environment_argument, file_option, json_option, service_beside


@click.command()
@environment_argument
@click.argument("before", metavar="[N]", type=Number(), required=False, shell_complete=completing.releases)
@click.argument("after", metavar="[M]", type=Number(), required=False, shell_complete=completing.releases)
@file_option
@json_option
@click.option("--files", "all_files", is_flag=True, help="Name every file that differs, not only how many.")
def diff(environment: str, before: int | None, after: int | None, file: Path, as_json: bool, all_files: bool) -> int:
    """Show what is different between releases N and M of ENV: packages, files, configuration.

    M is the active release by default, and N the one that served before it. Exit status 2: there are differences.
    """
    from instar.cli.looking import look
    from instar.reading.questions import Diff

    service = service_beside(environment, file)
    return look(
        Diff(
            environment=environment,
            service=service,
            before=before,
            after=after,
            all_files=all_files,
            as_json=as_json,
        )
    )
