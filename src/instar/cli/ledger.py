"""Commands about the ledger itself, wherever it is."""

from __future__ import annotations

import sys

import click

from instar.cli import completing
from instar.cli.options import json_option, open_workspace
from instar.cli.screen import say, say_json


@click.group(cls=completing.Group)
def ledger() -> None:
    """The ledger: where what is decided is written down.

    It is a file of this machine, or a PostgreSQL database that several share: 'ledger' in /etc/instar/config.yaml, or
    INSTAR_LEDGER=postgresql://…
    """


@ledger.command()
def role() -> None:
    """Print the SQL that makes the roles which a shared ledger needs, with the least rights.

    \b
    instar ledger role | psql DATABASE
    """
    from instar.ledger.schema import role_script

    click.echo(role_script(), nl=False)


@ledger.command()
@json_option
def upgrade(as_json: bool) -> None:
    """Make the schema of a shared ledger, or bring it up to this version, as the role that owns it."""
    opened = open_workspace().ledger
    if as_json:
        say_json({"ledger": opened.address, "schema": opened.schema_version})
    else:
        say(f"the ledger {opened.address} is of schema {opened.schema_version}")


@ledger.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
def copy(source: str, target: str, as_json: bool) -> None:
    """Move the ledger FROM into TO, with its chains. FROM is read from then on, and no longer written.

    Each is a file, or postgresql://…; TO has nothing yet. On PostgreSQL it takes the role that owns the schema.
    """
    from instar.operations.ledger import move_ledger

    events = move_ledger(open_workspace(), source, target)
    if as_json:
        say_json({"events": events})
    else:
        say(
            f"{events} events are there, and all that follows from them; name it in INSTAR_LEDGER or the machine's file"
        )


@click.group(cls=completing.Group)
def key() -> None:
    """The key of secrets: a file of each machine that shares the ledger, the same on all.

    Digests of secrets are made by it, and their values are encrypted by it in the ledger, which does not have it.
    """


@key.command("export")
def export_() -> None:
    """Print this machine's key, for another that shares the ledger. Who has it, and the ledger, has all secrets.

    \b
    sudo instar ledger key export | ssh OTHER sudo instar ledger key import
    """
    from instar.operations.secret_key import export_key

    click.echo(export_key(open_workspace()))


@key.command("import")
def import_() -> None:
    """Read from stdin the key that another machine has exported, and make it this one's."""
    from instar.operations.secret_key import import_key

    import_key(open_workspace(), sys.stdin.buffer.read(1024).decode("ascii", "replace").strip())
    say("this machine works with that key now")


ledger.add_command(key)
