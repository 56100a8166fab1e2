"""``instar destroy``: an environment with all its instances, its router and its record. Volumes stay unless asked."""

from __future__ import annotations

from instar.control.lease import with_lease
from instar.errors import InstarError, Refused
from instar.frozen import dataclass
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.converge import clear_orphans, half_way, make_loop
from instar.operations.ledger import require_none_unread
from instar.operations.locks import hold_environment
from instar.operations.old_secrets import remove_old_secrets_if_free
from instar.operations.privilege import require_root_for
from instar.operations.snapshots import snapshots
from instar.operations.uses import users_texts
from instar.operations.workspace import Workspace
from instar.providers.base import Provider, StoredVolume


@dataclass(frozen=True, kw_only=True, slots=True)
class Staying:
    """What stays of an environment that is gone. ``volumes`` is None where nobody can tell now; ``snapshots``: how many
    of its volumes."""

    volumes: tuple[StoredVolume, ...] | None
    snapshots: int


def destroy(workspace: Workspace, environment: EnvironmentState, *, volumes: bool, take_over: bool = False) -> Staying:
    """Remove ``environment``; return what stays. Killed in the middle, it is gone on with by asking again."""
    require_root_for(workspace, environment.settings.provider, "destroy")
    require_none_unread(workspace)
    environment_id = environment.id
    provider = workspace.provider(environment.settings.provider)
    with hold_environment(workspace, environment_id, take_over=take_over):
        for text in users_texts(workspace, environment):
            workspace.report(Progress(stage="note", text=text, kind="warning"))
        workspace.ledger.set_destroying(environment_id)
        with half_way(workspace, f"the destruction of '{environment_id}'"):
            make_loop(workspace, provider).run(environment_id)
            kept = finish(workspace, provider, environment_id, volumes=volumes)
        clear_orphans(workspace, provider)
    remove_old_secrets_if_free(workspace)
    return kept


def finish(workspace: Workspace, provider: Provider, environment: EnvironmentId, *, volumes: bool) -> Staying:
    """Remove what is left of an environment whose instances are gone, ``volumes`` too if that is so; return what stays.
    The caller holds it."""
    leased = with_lease(workspace.ledger, provider, environment)
    leased.forget(environment, workspace.ledger.instance_names(environment), volumes=volumes)
    left = _volumes_left(provider, environment) if not volumes else ()
    kept = Staying(volumes=left, snapshots=_snapshots_kept(workspace, environment))
    workspace.ledger.remove_environment(environment)
    return kept


def _volumes_left(provider: Provider, environment: EnvironmentId) -> tuple[StoredVolume, ...] | None:
    """Return None where nobody can tell: that is no reason to stay."""
    try:
        return () if provider.volumes is None else tuple(provider.volumes.kept_of(environment))
    except InstarError:
        return None


def _snapshots_kept(workspace: Workspace, environment: EnvironmentId) -> int:
    """Return 0 also where nobody keeps any, or can say: that is no reason to stay."""
    try:
        return len(snapshots(workspace, environment))
    except InstarError:
        return 0


def give_up(workspace: Workspace, environment: EnvironmentState, machine: str) -> None:
    """Have ``environment`` gone with its ``machine``, which is lost for good: nothing is done there, and its name is
    free. Raises Refused where it is another machine's, this one's, or that machine has acted lately."""
    own = environment.machine
    if own is None or own == workspace.machine or machine not in (own, own.rpartition(" (")[0]):
        where = f"its instances are on {own}" if own else "it is on no machine of its own"
        raise Refused(
            f"cannot give up '{environment.id}' with the machine '{machine}': {where}",
            hint=f"here it is removed by: instar destroy {environment.id}" if own == workspace.machine else None,
        )
    with hold_environment(workspace, environment.id, anywhere=True):
        workspace.ledger.give_up_environment(environment.id)
