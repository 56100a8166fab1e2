"""What volumes hold when a release is left: kept before a rollout can change it, and brought back with a rollback."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.control.data import kept_volumes
from instar.errors import ComponentMissing, HostError, NotFound, Refused
from instar.ledger.roles import release_of
from instar.model.configuration import Configuration
from instar.model.happenings import SnapshotRemoved
from instar.model.release import EnvironmentId, EnvironmentState, Release
from instar.model.sizes import size_text
from instar.model.volume import DataBack, VolumeSnapshot
from instar.operations.workspace import Workspace
from instar.providers.base import Provider
from instar.providers.facets import Snapshots, require


def keeps(wanted: Configuration) -> bool:
    """Tell whether a release as it is ``wanted`` has a volume that is to be kept, if it comes to that."""
    return any(volume.snapshot for service in wanted.services.values() for volume in service.volumes)


def keeping(
    provider: Provider, environment: EnvironmentId, active: Release | None, wanted: Configuration
) -> tuple[str, ...]:
    """Return which volumes are kept before a release as it is ``wanted`` begins, and what is copied for it, a sentence
    each. Raises Refused where ``provider`` keeps none, HostError where there is no room."""
    if not keeps(wanted):
        return ()
    keeper = _keeper(provider, environment)
    found, needed_bytes = [], 0
    for volume in kept_volumes(active, wanted):
        copied = _copied_bytes(keeper, environment, volume.name)
        needed_bytes += copied or 0
        when = "in the gap" if volume.access == "exclusive" else "while instances write it"
        cost = f"copies {size_text(copied)}" if copied is not None else _cost(keeper)
        found.append(f"a snapshot of the volume '{volume.name}' is taken first, {when}: {cost}")
    _require_room(keeper, needed_bytes, f"keep what the volumes of '{environment}' hold")
    return tuple(found)


def _copied_bytes(keeper: Snapshots, environment: EnvironmentId, name: str) -> int | None:
    """Return what a volume with ``snapshot: true`` takes to be kept. Where it cannot be, there is that way too."""
    try:
        return keeper.copied_bytes(environment, name)
    except (ComponentMissing, Refused) as error:
        hint = f"{error.hint}; or leave 'snapshot: true' of the volume away"
        raise type(error)(error.message, hint=hint) from error


def kept_before(provider: Provider, state: EnvironmentState, target: int) -> tuple[VolumeSnapshot, ...]:
    """Return the snapshots that were taken of ``target``'s data before the release that is active now came, the newest
    of each volume."""
    keeper = None if provider.volumes is None else provider.volumes.snapshots
    found: dict[str, VolumeSnapshot] = {}
    for one in () if keeper is None or state.active is None else keeper.snapshots(state.id):
        if one.cause is not None and (one.cause.release, one.cause.before) == (target, state.active):
            found[one.volume] = max(one, found.get(one.volume, one), key=lambda each: each.number)
    return tuple(found.values())


def data_back(workspace: Workspace, state: EnvironmentState, target: int) -> DataBack:
    """Return what a rollback to ``target`` with data brings back. Raises Refused where nothing was kept, HostError
    where there is no room."""
    provider = workspace.provider(state.settings.provider)
    keeper, found = _keeper(provider, state.id), kept_before(provider, state, target)
    if not found or state.active is None:
        steps = _steps_back(workspace, keeper, state, target)
        if steps:
            then = "".join(f", then --to {step}" for step in steps[1:])
            raise Refused(
                f"cannot bring back what release {target} of '{state.id}' left: no snapshot was taken of it before "
                f"release {state.active}, but before release {steps[-2].split()[0]}",
                hint=f"nothing was changed; go there step by step: instar rollback {state.id} --to {steps[0]}{then}",
            )
        raise Refused(
            f"cannot bring back what release {target} of '{state.id}' left: no snapshot was taken of it before release "
            f"{state.active}",
            hint="that is so for volumes with 'snapshot: true' and a release with 'before' tasks or another "
            "'data.version'; others: instar volumes snapshots. Nothing was changed; without its data: leave "
            "--with-data away",
        )
    return _back(workspace, keeper, state, target, found)


def restored_data(workspace: Workspace, state: EnvironmentState, name: str, number: int) -> DataBack:
    """Return what a restore of a volume that instances have brings back, for the active release. Raises NotFound where
    there is no such snapshot, Refused where no release is active, HostError where there is no room."""
    keeper = _keeper(workspace.provider(state.settings.provider), state.id)
    found = find_snapshot(keeper, state.id, name, number)
    if state.active is None:
        raise Refused(
            f"cannot restore the volume '{name}' of '{state.id}': no release of it is active, and instances have it",
            hint=f"deploy one; or instar destroy {state.id}, which keeps volumes, and then restore it",
        )
    return _back(workspace, keeper, state, None, (found,))


def find_snapshot(keeper: Snapshots, environment: EnvironmentId, name: str, number: int) -> VolumeSnapshot:
    """Return a snapshot of a volume. Raises NotFound, which says which there are."""
    found = {one.number: one for one in keeper.snapshots(environment) if one.volume == name}
    if number not in found:
        raise NotFound(
            f"cannot find snapshot {number} of the volume '{name}' of '{environment}'",
            hint=f"there is: {', '.join(map(str, sorted(found)))}"
            if found
            else "none of it is kept; those that are: instar volumes snapshots",
        )
    return found[number]


def _back(
    workspace: Workspace,
    keeper: Snapshots,
    state: EnvironmentState,
    target: int | None,
    found: tuple[VolumeSnapshot, ...],
) -> DataBack:
    assert state.active is not None
    copied = [keeper.copied_bytes(state.id, one.volume) for one in found]
    needed = [
        (bytes_ or 0) + (one.used_bytes or 0) for bytes_, one in zip(copied, found, strict=True) if bytes_ is not None
    ]
    what = f"release {target} of '{state.id}' left" if target is not None else f"a volume of '{state.id}' held"
    _require_room(keeper, sum(needed), f"bring back what {what}")
    return DataBack(
        environment=state.id,
        active=state.active,
        target=target,
        snapshots=found,
        instances=_having(workspace, state.id, {one.volume for one in found}),
        copied_bytes=sum(needed) if needed else None,
    )


def _steps_back(workspace: Workspace, keeper: Snapshots, state: EnvironmentState, target: int) -> tuple[str, ...]:
    """Return what ``--to`` gets, one step after the other, that the last brings back ``target``'s data: each to a
    release whose data was kept before the one that is active by then. Where no such steps lead there, the first goes
    without data to the release before which ``target``'s was kept. Nothing where it was not kept."""
    kept = {(one.cause.before, one.cause.release) for one in keeper.snapshots(state.id) if one.cause is not None}
    ways: dict[int, tuple[int, ...]] = {state.active or 0: ()}
    ahead = list(ways)
    for active in ahead:
        for release in sorted(release for before, release in kept if before == active and release not in ways):
            ways[release] = (*ways[active], release)
            ahead.append(release)
    if target in ways:
        return tuple(f"{step} --with-data" for step in ways[target])
    well = {one.number for one in workspace.ledger.releases(state.id) if one.ran_well}
    before = max((before for before, release in kept if release == target and before in well), default=None)
    return () if before is None else (str(before), f"{target} --with-data")


def refuse_unfinished_data(state: EnvironmentState | None, target: int | None) -> None:
    """Raise Refused where a rollout to another release than ``target`` is bringing data back: what runs next would
    find some of one release's and some of another's."""
    rollout = None if state is None else state.rollout
    if state is None or rollout is None or not rollout.stage.data or rollout.target == target:
        return
    if state.active != rollout.target:
        what, command = f"rollback to release {rollout.target}, with its data,", f"instar rollback {state.id}"
        if rollout.kind != "rollback":
            ((name, number),) = rollout.stage.data.items()
            what = f"rollout to release {rollout.target}, which restores the volume '{name}',"
            command = f"instar volumes restore {state.id} {name} {number}"
        raise Refused(
            f"cannot change '{state.id}': its {what} has not ended",
            hint=f"finish it: {command}; or give its volumes back what they held: instar rollout abort {state.id}",
        )


def refuse_swapped(state: EnvironmentState | None, name: str, number: int | None = None) -> None:
    """Raise Refused where a rollout is bringing data back, and has not yet, into a volume: nothing else may have or
    remove that meanwhile. ``number``: only for that snapshot of it, by which it comes, or what it held comes back."""
    rollout = None if state is None else state.rollout
    if rollout is None or name not in rollout.stage.data:
        return
    if number is None or number in (rollout.stage.data[name], rollout.stage.kept.get(name)):
        refuse_unfinished_data(state, None)


def old_snapshots(workspace: Workspace, state: EnvironmentState, kept: Collection[int]) -> list[VolumeSnapshot]:
    """Return the snapshots that rollouts took of data of releases that are not ``kept`` any more; none that one brings
    back just now."""
    keeper = _find_keeper(workspace, state)
    needed = {} if state.rollout is None else state.rollout.stage.data
    return [
        one
        for one in (() if keeper is None else keeper.snapshots(state.id))
        if one.cause is not None and one.cause.release not in kept and needed.get(one.volume) != one.number
    ]


def remove_snapshots(workspace: Workspace, state: EnvironmentState, old: Sequence[VolumeSnapshot]) -> None:
    """Remove snapshots, and write that down. The caller holds the environment."""
    keeper = _find_keeper(workspace, state)
    for one in old if keeper is not None else ():
        assert keeper is not None
        keeper.remove_snapshot(one.environment, one.volume, one.number)
        workspace.ledger.record(SnapshotRemoved(volume=one.volume, snapshot=one.number), one.environment)


def _cost(keeper: Snapshots) -> str:
    return "its storage keeps it" if keeper.free_bytes() is None else "shares the room of its files"


def _find_keeper(workspace: Workspace, state: EnvironmentState) -> Snapshots | None:
    volumes = workspace.provider(state.settings.provider).volumes
    return None if volumes is None else volumes.snapshots


def _keeper(provider: Provider, environment: EnvironmentId) -> Snapshots:
    volumes = provider.volumes
    return require(None if volumes is None else volumes.snapshots, f"keep snapshots of volumes of '{environment}'")


def _having(workspace: Workspace, environment: EnvironmentId, names: Collection[str]) -> tuple[str, ...]:
    found = []
    for one in workspace.ledger.instances(environment):
        service = release_of(one, workspace.ledger.get_release(environment, one.release)).service
        if one.started_at is not None and any(volume.name in names for volume in service.volumes):
            found.append(one.id)
    return tuple(found)


def _require_room(keeper: Snapshots, needed_bytes: int, verb: str) -> None:
    free = keeper.free_bytes()
    if free is not None and needed_bytes > free:
        raise HostError(
            f"cannot {verb}: {size_text(needed_bytes)} are copied, {size_text(free)} are free; nothing was begun",
            hint="make room, or remove snapshots that nobody needs: instar volumes snapshots, instar volumes remove "
            "SERVICE/ENV NAME --snapshot N",
        )
