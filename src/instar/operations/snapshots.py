"""``instar volumes snapshot|snapshots|restore|copy``: what volumes held at a time, kept, brought back and copied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from instar.errors import InstarError, NotFound, Refused
from instar.model.happenings import SnapshotRemoved, SnapshotTaken, VolumeCopied, VolumeRestored
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.model.sizes import size_text
from instar.model.volume import VolumeSnapshot
from instar.operations.data import find_snapshot, refuse_swapped
from instar.operations.locks import hold_environment
from instar.operations.volumes import have, keepers, users, where_looked
from instar.operations.workspace import Workspace
from instar.providers.facets import Snapshots, require
from instar.waiting import Deadline, retry

T = TypeVar("T")
_PATIENCE_S: Final = 600.0  # a storage that keeps what it has elsewhere takes its time
_LONGEST_S: Final = 5.0


def snapshots(workspace: Workspace, environment: EnvironmentId | None = None) -> tuple[VolumeSnapshot, ...]:
    """Return all that are kept, or those of volumes of ``environment``, the oldest of each volume first."""
    return tuple(one for keeper in _snapshots(workspace, environment) for one in keeper.snapshots(environment))


def snapshot(workspace: Workspace, environment: EnvironmentId, name: str, *, take_over: bool = False) -> VolumeSnapshot:
    """Keep what a volume holds now, also while instances have it, which is written down. Raises NotFound, HostError."""
    with hold_environment(workspace, environment, take_over=take_over), where_looked(workspace, environment):
        return _taken(workspace, _keeper(workspace, environment), environment, name)


def restore(
    workspace: Workspace, environment: EnvironmentId, name: str, number: int, *, take_over: bool = False
) -> int | None:
    """Have a volume that nothing has hold what it did in a snapshot; return the number of that of what it held before,
    None where it is gone. Raises NotFound, HostError, Refused where an instance has it by now: data_restore.py."""
    with hold_environment(workspace, environment, take_over=take_over), where_looked(workspace, environment):
        keeper = _keeper(workspace, environment)
        find_snapshot(keeper, environment, name, number)
        having = users(workspace, environment, name)
        if having:
            raise Refused(
                f"cannot restore the volume '{name}' of '{environment}': {have(having)} it",
                hint="nothing was changed; ask again: it says what stops for it",
            )
        kept = None
        with contextlib.suppress(NotFound):
            kept = _taken(workspace, keeper, environment, name).number
        _insist(workspace, "restore", lambda: keeper.restore_snapshot(environment, name, number))
        workspace.ledger.record(VolumeRestored(volume=name, snapshot=number, kept=kept), environment)
    return kept


def remove_snapshot(
    workspace: Workspace, environment: EnvironmentId, name: str, number: int, *, take_over: bool = False
) -> None:
    """Remove a snapshot for ever, and write that down. Raises NotFound, HostError, and Refused where a rollout that is
    under way brings it back, or may have to."""
    with hold_environment(workspace, environment, take_over=take_over), where_looked(workspace, environment):
        refuse_swapped(workspace.ledger.find_environment(environment), name, number)
        _keeper(workspace, environment).remove_snapshot(environment, name, number)
        workspace.ledger.record(SnapshotRemoved(volume=name, snapshot=number), environment)


def copy_volume(
    workspace: Workspace,
    source: EnvironmentId,
    name: str,
    to: EnvironmentId,
    as_name: str,
    *,
    take_over: bool = False,
) -> None:
    """Make a volume of what another holds, also while instances have that one. Raises NotFound, HostError, Refused
    where there is such a volume."""
    with hold_environment(workspace, to, take_over=take_over), where_looked(workspace, source):
        having = users(workspace, source, name)
        if having:
            _warn(workspace, "copy", having)
        keeper = _keeper(workspace, to)
        _insist(workspace, "copy", lambda: keeper.copy_volume(source, name, to, as_name))
        workspace.ledger.record(VolumeCopied(volume=as_name, source=str(source), of=name), to)


def _taken(workspace: Workspace, keeper: Snapshots, environment: EnvironmentId, name: str) -> VolumeSnapshot:
    having = users(workspace, environment, name)
    copied_bytes = keeper.copied_bytes(environment, name)
    if copied_bytes is not None:
        text = f"copies {size_text(copied_bytes)} of the volume '{name}': its file system shares none"
        workspace.report(Progress(stage="snapshot", text=text))
    if having:
        _warn(workspace, "snapshot", having)
    made = _insist(workspace, "snapshot", lambda: keeper.take_snapshot(environment, name, running=bool(having)))
    workspace.ledger.record(SnapshotTaken(volume=name, snapshot=made.number, running=made.running), environment)
    return made


def _insist(workspace: Workspace, stage: str, ask: Callable[[], T]) -> T:
    """Return what ``ask`` does, asked again while it says "not now", which is said to who waits."""

    def say(error: InstarError) -> None:
        workspace.report(Progress(stage=stage, text=f"{error.message}; waits for it"))

    return retry(ask, Deadline.after(_PATIENCE_S), longest_pause_s=_LONGEST_S, waits=say)


def _warn(workspace: Workspace, stage: str, having: tuple[str, ...]) -> None:
    text = f"{have(having)} the volume: what is not written yet, or is just being written, may be missing"
    workspace.report(Progress(stage=stage, text=text, kind="warning"))


def _snapshots(workspace: Workspace, environment: EnvironmentId | None) -> Iterator[Snapshots]:
    return (one.snapshots for one in keepers(workspace, environment) if one.snapshots is not None)


def _keeper(workspace: Workspace, environment: EnvironmentId) -> Snapshots:
    return require(next(_snapshots(workspace, environment), None), f"keep snapshots of volumes of '{environment}'")
