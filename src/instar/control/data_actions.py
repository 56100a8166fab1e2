"""Carries out what is decided of the data in volumes: taken, brought back, and each written down.

A snapshot is written down after it is there. Killed between, the next one finds it by its rollout, and takes no other.
That a volume gets other data is written down before it does, and after it: killed between, it may hold either, and who
goes on does it again, while who gives up gives back what was kept. Nobody has the volume meanwhile.
"""

from __future__ import annotations

from instar.control.actions import Fail, KeepData, RestoreData
from instar.control.report import RolloutReport
from instar.errors import HalfDone, HostError, InstarError
from instar.ledger import Ledger
from instar.model.release import EnvironmentId, Rollout
from instar.model.rollout_happenings import DataBegun, DataKept, DataRestored, RolloutAborted
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.base import Provider
from instar.providers.facets import Snapshots, require


class DataActions:
    """One per run of the loop."""

    def __init__(self, *, ledger: Ledger, provider: Provider, report: RolloutReport) -> None:
        self._ledger = ledger
        self._provider = provider
        self._report = report
        self._own: set[tuple[int, str]] = set()  # rollouts and volumes of which "not yet" was all that came so far

    def keep(self, rollout: Rollout, action: KeepData) -> None:
        """Have a snapshot of a volume, for ``rollout``. Raises NotFound, HostError, Refused."""
        environment, source = rollout.environment, rollout.source
        assert source is not None
        keeper = self._keeper(environment)
        found = _of_rollout(keeper, rollout, action.volume)
        if found is None:
            self._report.keeping(action.volume)
            cause = SnapshotCause(rollout=rollout.id, release=source, before=rollout.target)
            found = keeper.take_snapshot(environment, action.volume, running=action.running, cause=cause)
        kept = DataKept(
            rollout=rollout.id, volume=action.volume, snapshot=found.number, running=found.running, of=source
        )
        self._ledger.change_stage(kept)
        self._report.kept(found)

    def restore(self, rollout: Rollout, action: RestoreData) -> None:
        """Have a volume hold what it did in a snapshot. Raises NotFound, HostError, Refused."""
        keeper, own = self._keeper(rollout.environment), (rollout.id, action.volume)
        self._report.restoring(action.volume, action.snapshot)
        changed = action.volume in rollout.stage.changed
        if not changed:
            begun = DataBegun(rollout=rollout.id, volume=action.volume, snapshot=action.snapshot)
            self._ledger.change_stage(begun)
        is_own = not changed or own in self._own  # else who was killed before may have done it
        self._own.discard(own)
        try:
            keeper.restore_snapshot(rollout.environment, action.volume, action.snapshot)
        except HalfDone:
            raise
        except InstarError as error:
            if is_own and error.retry_after_s is not None:
                self._own.add(own)
            elif is_own:
                self._unchanged(rollout, action.volume)
            raise
        self._restored(rollout, action.volume, action.snapshot, back=action.back)
        self._report.restored(action.volume, action.snapshot)

    def _unchanged(self, rollout: Rollout, volume: str) -> None:
        self._restored(rollout, volume, rollout.stage.kept[volume], back=True)

    def _restored(self, rollout: Rollout, volume: str, snapshot: int, *, back: bool) -> None:
        self._ledger.change_stage(DataRestored(rollout=rollout.id, volume=volume, snapshot=snapshot, back=back))

    def give_up(self, rollout: Rollout, action: Fail) -> bool:
        """Have volumes that ``rollout`` changed hold again what they did, before it ends; False where none are.

        Raises HostError where that was begun already, and can't be done.
        """
        stage = rollout.stage
        own = {volume for volume in stage.changed if (rollout.id, volume) in self._own}
        for volume in own:
            self._unchanged(rollout, volume)
        if own >= set(stage.changed):
            return False
        if stage.abort is not None:
            where = "; ".join(
                f"'{name}' holds, or may hold, what snapshot {stage.data[name]} does, and "
                f"what release {rollout.source} left is snapshot {stage.kept[name]}"
                for name in stage.changed
            )
            raise HostError(
                f"cannot give the volumes of '{rollout.environment}' back what they held: {action.reason}",
                hint=f"{where}. Nothing runs that has them; put that right, and ask again: instar rollout abort "
                f"{rollout.environment}",
            )
        self._ledger.change_stage(RolloutAborted(rollout=rollout.id, reason=action.reason))
        return True

    def _keeper(self, environment: EnvironmentId) -> Snapshots:
        volumes = self._provider.volumes
        return require(None if volumes is None else volumes.snapshots, f"keep snapshots of volumes of '{environment}'")


def _of_rollout(keeper: Snapshots, rollout: Rollout, volume: str) -> VolumeSnapshot | None:
    """Return the snapshot that was taken for ``rollout`` by who was killed before it was written down."""
    for one in keeper.snapshots(rollout.environment):
        mine = one.cause is not None and one.cause.rollout == rollout.id and one.cause.before == rollout.target
        if mine and one.volume == volume and one.at >= rollout.started_at:
            return one
    return None
