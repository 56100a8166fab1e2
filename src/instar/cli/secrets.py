"""Commands about the secrets that stand encrypted beside a definition."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import file_option, json_option
from instar.cli.screen import say, say_json
from instar.errors import UsageError


@click.group(cls=completing.Group)
def secrets() -> None:
    """Secrets in git: age files beside the definition, which `secrets: {TOKEN: {age: FILE}}` names.

    They are encrypted for the public keys in the file 'age-recipients' beside the definition, one a line, and read by
    the identities that 'age.identities' of /etc/instar/config.yaml names, or that ~/.config/instar/age-identities has.
    """


@secrets.command()
@json_option
def key(as_json: bool) -> None:
    """Print the public keys of the identities here, for 'age-recipients'. Where there is none, one is made for you."""
    from instar.operations.secret_editing import keys

    found = keys(_identities(), os.environ)
    if as_json:
        say_json({"keys": found})
    else:
        for one in found:
            say(one)


@secrets.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@file_option
def edit(path: Path, file: Path) -> None:
    """Change what FILE, an age file, holds, or make one: in your $EDITOR, on a copy in memory that nobody else reads.

    Nothing is written when nothing was changed, or the editor fails.
    """
    from instar.operations import secret_editing

    changed = secret_editing.edit(file.parent, path, _identities(), os.environ)
    say(f"encrypted {path}" if changed else f"unchanged: {path} is as it was")


@secrets.command()
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; without it, FILE.age.")
@file_option
def encrypt(source: str, output: Path | None, file: Path) -> None:
    """Encrypt FILE ('-' for standard input, with -o) for the keys in 'age-recipients'. FILE stays as it is.

    An age file is encrypted again in its place, for today's keys: after somebody was added or removed.
    """
    from instar.operations import secret_editing
    from instar.operations.age_files import is_age_file

    data = _contents(source)
    if output is None and source == "-":
        raise UsageError("cannot encrypt standard input: nothing says where to", hint="-o secrets/token.age")
    target = output or (Path(source) if is_age_file(data) else Path(f"{source}.age"))
    secret_editing.encrypt(file.parent, data, source, target, _identities(), os.environ)
    say(f"encrypted {target}")
    if source not in ("-", str(target)):
        click.echo(f"'{source}' is there as it was: remove it, or keep it out of git", err=True)


def _contents(source: str) -> bytes:
    from instar import durable
    from instar.operations.age_files import MAX_FILE_BYTES

    if source == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES)
    try:
        return durable.read(Path(source), MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read '{source}': {error.strerror}") from error


def _identities() -> str | None:
    """Return the file of identities that the machine's own file names."""
    from instar.definition.machine import load_machine

    settings = load_machine(os.environ)
    return settings.age.identities if settings is not None else None
