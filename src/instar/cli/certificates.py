"""Commands for the certificates of https names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.options import file_option, find_environment, json_option, open_workspace
from instar.cli.screen import say, say_json, show, warn

if TYPE_CHECKING:
    from instar.certificates.renewals import Renewal


@click.group(cls=completing.Group, invoke_without_command=True)
@click.option("--ca", is_flag=True, help="Print the certificate of this machine's own authority, for clients to trust.")
@json_option
@click.pass_context
def certificates(context: click.Context, ca: bool, as_json: bool) -> None:
    """Show and renew the certificates of https names.

    The agent orders and renews them by itself. Without a command: list them all.
    """
    if ca:
        from instar.operations.certificates import authority_root

        click.echo(authority_root(open_workspace(of_machine=True)), nl=False)
    elif context.invoked_subcommand is None:
        context.invoke(list_certificates, as_json=as_json)


@certificates.command("list")
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completing.environments)
@file_option
@json_option
def list_certificates(environment: str | None = None, file: Path = Path(), as_json: bool = False) -> None:
    """List names, who issued their certificates, how long these hold, when they are renewed, and what failed last."""
    from instar.operations.certificates import certificates as look
    from instar.views.certificates import certificates_json, certificates_page

    workspace, now = open_workspace(of_machine=True), datetime.now(UTC)
    found = look(workspace, find_environment(workspace, environment, file).id if environment else None)
    if as_json:
        say_json(certificates_json(found, now))
    else:
        show(certificates_page(found, now))


@certificates.command()
@click.argument("which", metavar="ENV|NAME", shell_complete=completing.environments)
@click.option("--force", is_flag=True, help="Also one that need not be renewed yet, and wherever its name leads.")
@file_option
@json_option
def renew(which: str, force: bool, file: Path, as_json: bool) -> int:
    """Order what is missing or due of an environment, or of one host name, now, and wait for it.

    What an authority has asked to wait for, is waited for all the same. Exit status 1 when one could not be had.
    """
    from instar.operations.certificates import renew as order
    from instar.views.certificates import renewals_json

    workspace = open_workspace(of_machine=True)
    if "." in which or which.startswith("*"):
        done = order(workspace, name=which.lower().rstrip("."), force=force)
    else:
        done = order(workspace, environment=find_environment(workspace, which, file).id, force=force)
    if as_json:
        say_json(renewals_json(done))
    else:
        for one in done:
            _say(one)
    return 1 if any(one.error is not None for one in done) else 0


def _say(renewal: Renewal) -> None:
    names, held = ", ".join(renewal.wanted.names), renewal.held
    if renewal.error is not None:
        warn(renewal.error.message, renewal.error.hint)
    elif renewal.wanted.source == "files":
        say(f"{names}: it comes from files: change them, then: instar deploy {renewal.wanted.environment.name}")
    elif held is not None:
        what = "has a new certificate" if renewal.outcome == "renewed" else "needs no new certificate (--force)"
        say(f"{names} {what}, until {held.not_after:%Y-%m-%d %H:%M} UTC")
