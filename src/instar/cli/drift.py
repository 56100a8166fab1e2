"""The command that proves that what runs is what was baked."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import (
    any_workspace,
    environment_argument,
    file_option,
    find_environment,
    json_option,
    open_workspace,
    service_beside,
)
from instar.cli.screen import say_json, show
from instar.errors import NotRoot


@click.command()
@environment_argument
@click.argument("instance", required=False, shell_complete=completing.instances)
@click.option("--deep", is_flag=True, help="Read every byte of its layers, and look for code changed in memory.")
@file_option
@json_option
def drift(environment: str, instance: str | None, deep: bool, file: Path, as_json: bool) -> int:
    """Check that what runs in ENV (or INSTANCE of it) is what was baked; exit 2 when anything is not, or all
    of it is dead.

    Mounts, processes and their code, limits, kernel settings, network, files, secrets, layers and the router are held
    against the release. Nothing is changed: the agent replaces what drifted, where drift.action says so. Whoever may
    only look (docs/readers.md) sees what the agent found when it last checked.
    """
    from instar.cli.looking import look
    from instar.cli.ownership import asks_an_agent

    if asks_an_agent(any_workspace()):
        from instar.reading.questions import LastDrift

        if instance is not None or deep:
            raise NotRoot(
                "cannot check: that takes root", hint=f"what the agent found last: instar drift {environment}; or sudo"
            )
        return look(LastDrift(environment=environment, service=service_beside(environment, file), as_json=as_json))
    from instar.operations.drift import drift as run
    from instar.views.findings import drift_json, drift_page

    workspace = open_workspace()
    report = run(workspace, find_environment(workspace, environment, file), instance, deep=deep)
    if as_json:
        say_json(drift_json(report))
    else:
        show(drift_page(report))
    return 0 if report.as_baked else 2
