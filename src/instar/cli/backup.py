"""Commands that make a backup of this machine's state, and put one back on a machine."""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instar.cli.options import any_workspace, json_option, open_workspace
from instar.cli.screen import say, say_json, show
from instar.errors import HostError
from instar.model.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instar.operations.restore_rules import WhichMachine
    from instar.workspace import MachineWorkspace

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", metavar="FILE", type=_PATH)
@click.option("-r", "--recipient", "keys", metavar="age1…", multiple=True, help="A public key that can read it.")
@click.option("-R", "--recipients-file", "key_files", metavar="FILE", type=_PATH, multiple=True, help="A file of them.")
@click.option("--without-secrets", is_flag=True, help="Leave out secrets, certificates and their keys.")
@click.option(
    "--volumes",
    is_flag=True,
    help="With the data of this machine's volumes, as it is while services run; not with their snapshots.",
)
@json_option
def backup(
    file: Path, keys: tuple[str, ...], key_files: tuple[Path, ...], without_secrets: bool, volumes: bool, as_json: bool
) -> int:
    """Write all that this machine needs to be there again into FILE, while everything runs.

    That is the ledger, the images that releases need, secrets, certificates, recordings and the machine's own file. It
    is encrypted by age for the keys that are named, whose identities belong on another machine; without any it takes
    --without-secrets. FILE appears when it is whole. Snapshots of volumes, logs and caches are in none.

    Exit status 2: it is made, and data of a volume is not in it, which is said.

    \b
    instar backup -r age1… /mnt/backups/web1-2026-11-30.age
    """
    from instar.operations.backup import backup as run
    from instar.views import backups

    made = run(
        open_workspace(of_machine=True),
        file,
        keys=keys,
        key_files=key_files,
        secrets=not without_secrets,
        volumes=volumes,
    )
    if as_json:
        say_json(backups.made_json(made))
        return 2 if made.lost else 0
    for line in backups.made_lines(made):
        say(line)
    for note in backups.made_notes(made):
        click.echo(note, err=True)
    return 2 if made.lost else 0


@click.command()
@click.argument("file", metavar="FILE", type=_PATH)
@click.option(
    "-i", "--identity", "files", metavar="FILE", type=_PATH, multiple=True, help="The age identity that reads it."
)
@click.option("--check", is_flag=True, help="Only read it to its end, and say whether it is whole. Changes nothing.")
@click.option(
    "--machine",
    type=click.Choice(["same", "new"]),
    default="same",
    show_default=True,
    help="Whether this is the machine of before for those who share its ledger, or another one beside it.",
)
@click.option("--original-is-gone", is_flag=True, help="Say that the machine of before will not act any more.")
@click.option(
    "--machine-file/--no-machine-file",
    "with_machine_file",
    default=None,
    help="Whether the machine's own file, if it is in the backup and none is here, is put in its place: root runs the "
    "commands that it names. Without either, it is shown and asked. One that is here stays in any case.",
)
@json_option
def restore(
    file: Path,
    files: tuple[Path, ...],
    check: bool,
    machine: WhichMachine,
    original_is_gone: bool,
    with_machine_file: bool | None,
    as_json: bool,
) -> None:
    """Put back what `instar backup` has written to FILE, on a machine where there is nothing of Instar's yet.

    Nothing is started: `instar agent --once` brings up every environment's active release, from the same bytes. What
    is left to do by hand is printed. Killed at any point, ask again with the same FILE.
    """
    from instar.operations.restore import check_backup
    from instar.operations.restore import restore as run
    from instar.views import backups

    workspace = any_workspace() if check else open_workspace(of_machine=True)
    identities = functools.partial(_identities, workspace, files)
    if check:
        with tempfile.TemporaryDirectory(prefix="instar-check-") as folder:
            checked = check_backup(file, identities, Path(folder))
        if as_json:
            say_json(backups.checked_json(checked))
        else:
            show(backups.checked_page(checked))
        return
    restored = run(
        workspace,
        file,
        identities,
        machine=machine,
        alone=original_is_gone,
        wants_machine_file=functools.partial(_wants_machine_file, with_machine_file),
    )
    if as_json:
        say_json(backups.restored_json(restored))
    else:
        show(backups.restored_page(restored, str(workspace.state.root)))


def _wants_machine_file(said: bool | None, path: Path, text: str) -> bool:
    """Show what a backup's machine file says, and ask whether it is wanted, unless that was said."""
    if said is not None:
        return said
    click.echo(
        f"the backup has a file of that machine's own, for {path}; root runs the commands that it names:", err=True
    )
    for line in text.splitlines():
        click.echo(f"  {printable(line)}", err=True)
    try:
        return click.confirm("Put it there?", default=False, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError(
            "there is no terminal to ask on, so nothing was restored; to have it, add --machine-file, to leave it "
            "out --no-machine-file"
        ) from None


def _identities(workspace: MachineWorkspace, files: Sequence[Path]) -> Sequence[Any]:
    from instar.operations.age_files import identities_of

    settings = workspace.machine_settings
    try:
        return identities_of(files, settings.age.identities if settings is not None else None, workspace.environ)
    except HostError as error:
        if files:
            raise
        raise HostError(
            f"cannot read the backup, which is encrypted: {error.message}",
            hint="name the file with the identity that it was made for: instar restore -i FILE …",
        ) from error
