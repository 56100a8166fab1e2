"""``instar uninstall``: everything that Instar has made on this machine, and then its state directory.

Each environment is destroyed first, then what carries the directory's mark and nobody knows is removed: with the last
of it the bridge, the tables and the mounts go. Only then are there files to remove: the mark after all that could carry
it, and the ledger, which says what there is, at the very end. Killed in the middle, it is gone on with by asking again.
Where the ledger is lost already (``rm -r`` ends at what is mounted), what runs is known by its mark alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from instar import durable
from instar.bake.scratch import clear_leftovers
from instar.entry_points import provider_names
from instar.errors import InstarError, NotFound, Refused
from instar.frozen import dataclass
from instar.model.progress import Progress
from instar.model.release import EnvironmentState
from instar.model.state import StateDirectory
from instar.operations.destroy import destroy
from instar.operations.installed import find_provider
from instar.operations.locks import agent_pid, hold_store, is_here
from instar.operations.privilege import require_root_for
from instar.operations.workspace import Workspace
from instar.providers.base import Provider, StoredVolume


@dataclass(frozen=True, kw_only=True, slots=True)
class UninstallPlan:
    """What there is to remove. ``left``: environments that were said to go on without anybody who knows of them.
    ``others``: those of other machines that share the ledger, and of clusters that these can reach too; they stay.
    ``volumes``: those that are on this machine."""

    lost_ledger: bool
    environments: tuple[EnvironmentState, ...]
    left: tuple[EnvironmentState, ...]
    others: tuple[EnvironmentState, ...]
    volumes: tuple[StoredVolume, ...]
    images: int


def plan_uninstall(workspace: Workspace, *, leave: Collection[str] = ()) -> UninstallPlan:
    """Return what :func:`uninstall` would remove.

    Raises NotFound where there is nothing, and for one of ``leave`` that isn't there; Refused for one of ``leave`` that
    runs on a machine, while an agent runs, and where nothing says that the directory is Instar's.
    """
    if not workspace.state.root.exists():
        raise NotFound(f"cannot uninstall: there is no state directory '{workspace.state.root}'")
    _require_own(workspace)
    agent = agent_pid(workspace)
    if agent is not None:
        raise Refused(
            f"cannot uninstall: the agent (process {agent}) keeps what runs here running",
            hint="end it first: systemctl disable --now instar-agent, where systemd has it",
        )
    lost = workspace.is_ledger_lost
    states = () if lost else workspace.ledger.environments()
    unknown = sorted(set(leave) - {str(state.id) for state in states})
    if unknown:
        known = ", ".join(str(state.id) for state in states) or "none"
        raise NotFound(f"cannot leave '{unknown[0]}': there is no such environment", hint=f"there are: {known}")
    for state in states:
        machine = workspace.machine_of(state.settings.provider)
        if str(state.id) in leave and machine is not None:
            raise Refused(f"cannot leave '{state.id}': it runs on {machine}, and goes with all that is there")
    here = [state for state in states if _is_this_machines(workspace, state)]
    for state in here:
        require_root_for(workspace, state.settings.provider, "uninstall")
    return UninstallPlan(
        lost_ledger=lost,
        environments=tuple(state for state in here if str(state.id) not in leave),
        left=tuple(state for state in here if str(state.id) in leave),
        others=tuple(state for state in states if state not in here),
        volumes=() if lost or not workspace.state.volumes.exists() else _volumes_here(workspace),
        images=len(workspace.store.images()) if workspace.state.store.exists() else 0,
    )


def uninstall(workspace: Workspace, plan: UninstallPlan, *, volumes: bool) -> tuple[Path, ...]:
    """Carry ``plan`` out, and remove the state directory with it; return the paths in it that stay.

    ``volumes``: and the data in them. Raises Refused where an environment is not destroyed.
    """
    if plan.lost_ledger:
        workspace.begin_ledger_anew()
    for state in plan.environments:
        workspace.report(Progress(stage="remove", text=str(state.id)))
        try:
            destroy(workspace, state, volumes=volumes)
        except InstarError as error:
            why = f"; {error.hint}" if error.hint else ""
            raise Refused(
                f"cannot remove '{state.id}': {error.message}{why}",
                hint="nothing after it was removed: put that right and ask again; or, where nobody can reach it any "
                f"more: --leave {state.id}",
            ) from error
    for provider in _providers(workspace):
        if provider.sweeps is not None:
            provider.sweeps.sweep(tuple, tuple)
    with hold_store(workspace, to_remove=True):
        clear_leftovers(workspace.state.steps)
        workspace.layers.prune((), tuple)
        return workspace.remove_state(keep=() if volumes else _marked_data(workspace.state))


def _marked_data(state: StateDirectory) -> tuple[str, ...]:
    """Return what stays of a state directory for the data in it; what marks it as Instar's is there by then."""
    data = (state.volumes.name, state.snapshots.name)
    if not any((state.root / name).exists() for name in data):
        return ()
    durable.write(state.left_mark, b"an uninstall has left the volumes here: instar uninstall --volumes\n", mode=0o600)
    return (*data, state.left_mark.name)


def _require_own(workspace: Workspace) -> None:
    """Raise Refused for a folder in which Instar has never been: it may have ``logs`` and ``secrets`` of somebody else.
    One with nothing of such a name is fine: that is what is left by one who was killed at the very end."""
    state = workspace.state
    marks = (state.id_file, state.ledger, state.shared_ledger, state.store / "oci-layout", state.left_mark)
    if any(mark.is_file() for mark in marks):
        return
    names = (*state.own_names, *provider_names(), state.run.name)
    if found := [name for name in names if os.path.lexists(state.root / name)]:
        raise Refused(
            f"cannot uninstall: nothing says that '{state.root}' is a state directory of Instar's, and there is "
            f"'{found[0]}' in it",
            hint="INSTAR_HOME says which directory it is; nothing was removed. What an uninstall of an "
            "earlier Instar has left there (volumes) goes by rm -r",
        )


def _is_this_machines(workspace: Workspace, state: EnvironmentState) -> bool:
    """Tell whether nobody could act on it without this machine."""
    return is_here(workspace, state) and (state.machine is not None or not workspace.ledger.shared)


def _volumes_here(workspace: Workspace) -> tuple[StoredVolume, ...]:
    """Return the volumes on this machine; no cluster is asked, which may be one that nobody can reach any more."""
    keepers = (provider.volumes for provider in _providers(workspace))
    return tuple(volume for keeper in keepers if keeper is not None for volume in keeper.volumes())


def _providers(workspace: Workspace) -> tuple[Provider, ...]:
    """Return the providers that have anything on this machine beside what the ledger says."""
    found = (name for name in provider_names() if workspace.machine_of(name) is not None)
    return tuple(provider for name in found if (provider := find_provider(workspace, name)) is not None)
