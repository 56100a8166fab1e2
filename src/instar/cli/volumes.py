"""Commands for the data that outlives releases and environments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.asking import have_typed
from instar.cli.options import Number, environment_named, json_option, open_workspace, take_over_option
from instar.cli.releases import answer
from instar.cli.screen import say, say_json, show
from instar.model.progress import Progress

if TYPE_CHECKING:
    from instar.model.release import EnvironmentState
    from instar.workspace import MachineWorkspace


@click.group(cls=completing.Group, invoke_without_command=True)
@click.pass_context
def volumes(context: click.Context) -> None:
    """Show, keep, copy and remove volumes: data that outlives releases, and environments that were destroyed.

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

    kept = look(open_workspace(of_machine=True))
    if as_json:
        say_json(volumes_json(kept))
    else:
        show(volumes_page(kept))


_environment = click.argument("environment", metavar="SERVICE/ENV", shell_complete=completing.environments)


@volumes.command("snapshot")
@_environment
@click.argument("name")
@take_over_option
def snapshot(environment: str, name: str, take_over: bool) -> None:
    """Keep what the volume NAME of SERVICE/ENV holds now, until it is removed: volumes remove --snapshot N.

    Where the file system shares room among files (btrfs, XFS), it is done at once and takes none; else it is a copy. On
    Kubernetes the cluster's storage takes it. An instance that has the volume goes on meanwhile: what it has not
    written yet is missing in it.
    """
    from instar.model.sizes import size_text
    from instar.operations.snapshots import snapshot as take

    made = take(open_workspace(of_machine=True), environment_named(environment), name, take_over=take_over)
    size = f", {size_text(made.used_bytes)}" if made.used_bytes is not None else ""
    say(f"snapshot {made.number} of '{name}' of {made.environment}{size}, in {made.where}")


@volumes.command("snapshots")
@json_option
def list_snapshots(as_json: bool) -> None:
    """List every snapshot of a volume that is kept."""
    from instar.operations.snapshots import snapshots
    from instar.views.volumes import snapshots_json, snapshots_page

    found = snapshots(open_workspace(of_machine=True))
    if as_json:
        say_json(snapshots_json(found))
    else:
        show(snapshots_page(found))


@volumes.command("restore")
@_environment
@click.argument("name")
@click.argument("number", metavar="N", type=Number())
@take_over_option
@click.option("--yes", is_flag=True, help="Don't ask, where instances stop for it.")
def restore(environment: str, name: str, number: int, take_over: bool, yes: bool) -> int:
    """Have the volume NAME of SERVICE/ENV hold what it did in its snapshot N; what it holds now is kept as another.

    Instances that have it stop, which is said first, and asked: then the active release starts again on what it held,
    with its tasks, as another release. If that does not start, the volume gets back what it held.
    """
    from instar.operations.data_restore import environment_that_has
    from instar.operations.snapshots import restore as run

    workspace, found = open_workspace(of_machine=True), environment_named(environment)
    having = environment_that_has(workspace, found, name)
    if having is not None:
        return _restore_anew(workspace, having, name, number, take_over=take_over, yes=yes)
    kept = run(workspace, found, name, number, take_over=take_over)
    before = "" if kept is None else f"; what it held before is snapshot {kept}"
    say(f"'{name}' of {found} holds what it did in snapshot {number}{before}")
    return 0


def _restore_anew(
    workspace: MachineWorkspace, state: EnvironmentState, name: str, number: int, *, take_over: bool, yes: bool
) -> int:
    from instar.operations.data_restore import data_of_restore, restore_anew
    from instar.views.volumes import data_back_lines

    back = data_of_restore(workspace, state, name, number)
    for line in data_back_lines(back) if back is not None else ():
        workspace.report(Progress(stage="data", text=line, kind="warning"))
    if back is not None and not yes:
        lost = f"This takes what was written since snapshot {number} out of the volume."
        have_typed(lost, str(state.id), left="nothing was changed")
    return answer(restore_anew(workspace, state.id, name, number, take_over=take_over), workspace.report, False)


@volumes.command("copy")
@_environment
@click.argument("name")
@click.argument("to", metavar="SERVICE/ENV", shell_complete=completing.environments)
@click.option("--as", "as_name", metavar="NAME", help="What it is called there; by default the same.")
@take_over_option
def copy(environment: str, name: str, to: str, as_name: str | None, take_over: bool) -> None:
    """Make a volume of another SERVICE/ENV of what NAME holds now: staging with production's data.

    There must be none of that name yet; the environment itself may come later. On Kubernetes both are in one namespace.
    """
    from instar.definition.forms import NAME
    from instar.operations.snapshots import copy_volume

    source, target, called = environment_named(environment), environment_named(to), as_name or name
    if not re.fullmatch(NAME, called):
        raise click.UsageError(f"'{called}' is no volume's name: small letters, digits and hyphens")
    copy_volume(open_workspace(of_machine=True), source, name, target, called, take_over=take_over)
    say(f"'{called}' of {target} holds what '{name}' of {source} did")


@volumes.command("remove")
@_environment
@click.argument("name")
@click.option("--snapshot", "number", metavar="N", type=Number(), help="Only this snapshot of it.")
@take_over_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def remove(environment: str, name: str, number: int | None, take_over: bool, yes: bool) -> None:
    """Remove the volume NAME of SERVICE/ENV with all data in it, for ever. That it was is recorded. Its snapshots stay.

    SERVICE/ENV may be destroyed already. A volume that an instance has is not removed.
    """
    from instar.operations.snapshots import remove_snapshot
    from instar.operations.volumes import remove_volume, volumes

    workspace, found = open_workspace(of_machine=True), environment_named(environment)
    if number is not None:
        if not yes:
            have_typed(f"This removes snapshot {number} of '{name}' of {environment}.", name)
        remove_snapshot(workspace, found, name, number, take_over=take_over)
        say(f"snapshot {number} of '{name}' of {found} is gone")
        return
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
