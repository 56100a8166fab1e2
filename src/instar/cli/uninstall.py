"""The command that takes all of Instar's away from a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.asking import have_typed
from instar.cli.options import open_workspace
from instar.model.sizes import size_text
from instar.model.state import machine_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instar.model.release import EnvironmentState
    from instar.operations.uninstall import UninstallPlan
    from instar.workspace import MachineWorkspace

_WORD = "uninstall"
_UNIT = Path("/etc/systemd/system/instar-agent.service")


@click.command()
@click.option("--volumes", is_flag=True, help="Remove the volumes too: the data in them is gone for ever.")
@click.option(
    "--leave",
    metavar="SERVICE/ENV",
    shell_complete=completing.environments,
    multiple=True,
    help="Let an environment run on with nobody who knows of it: of a cluster that can't be reached any more.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
def uninstall(volumes: bool, leave: tuple[str, ...], yes: bool) -> None:
    """Remove everything of Instar's from this machine: every environment, all images, the ledger with its history.

    Volumes stay unless --volumes, and so does the program itself. Environments of other machines that share the ledger
    are left alone. Interrupted, it is gone on with by asking again.
    """
    from instar.operations.uninstall import plan_uninstall
    from instar.operations.uninstall import uninstall as run

    workspace = open_workspace(of_machine=True)
    plan = plan_uninstall(workspace, leave=leave)
    if not yes:
        lines = _what_goes(workspace, plan, volumes=volumes)
        have_typed("\n".join([*lines, "This can't be undone."]), _WORD)
    stays = run(workspace, plan, volumes=volumes)
    for line in _what_stays(workspace, stays):
        click.echo(line, err=True)


def _what_goes(workspace: MachineWorkspace, plan: UninstallPlan, *, volumes: bool) -> list[str]:
    names = _listed(plan.environments) or "no environment"
    images = f"{plan.images} image{'' if plan.images == 1 else 's'}"
    lines = [f"This removes all that Instar has in '{workspace.state.root}':"]
    if plan.lost_ledger:
        lines.append("  whatever runs and carries its mark: the ledger, which says what that is, is lost")
    else:
        lines.append(f"  {names}: instances, routers, logs, recordings")
    lines.append(f"  {images}, secrets, certificates, and the ledger with its history")
    kept = [f"{one.environment} {one.name} ({_size(one.used_bytes)})" for one in plan.volumes]
    if volumes:
        lines.append(f"  volumes, with all data in them: {', '.join(kept) or 'whatever there is of them'}")
    elif kept:
        lines.append(f"These volumes stay in '{workspace.state.volumes}': {', '.join(kept)}")
    away = [state for state in plan.environments if workspace.machine_of(state.settings.provider) is None]
    if away:
        what = "go too, with all data in them" if volumes else "stay where they are"
        lines.append(f"Volumes of {_listed(away)}, which are not on this machine, {what}")
    if plan.left:
        lines.append(f"These run on, and nobody knows of them: {_listed(plan.left)}")
    if plan.others:
        lines.append(f"These of the shared ledger are not this machine's, and stay: {_listed(plan.others)}")
    return lines


def _what_stays(workspace: MachineWorkspace, stays: Sequence[Path]) -> list[str]:
    lines = [f"nothing of the state directory '{workspace.state.root}' runs here any more"]
    lines += [f"stays: {path}" for path in stays]
    own = machine_file(workspace.environ)
    if own.exists() and own not in stays:
        lines.append(f"stays: {own}, what this machine's operator wrote")
    if _UNIT.exists():
        lines.append(f"stays: {_UNIT}: systemctl disable instar-agent && rm {_UNIT}")
    lines.append("stays: the program, which goes the way it came")
    return lines


def _listed(states: Sequence[EnvironmentState]) -> str:
    return ", ".join(str(state.id) for state in states)


def _size(used_bytes: int | None) -> str:
    return "?" if used_bytes is None else size_text(used_bytes)
