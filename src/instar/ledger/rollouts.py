"""Rollouts: an environment on its way from one release to another, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from instar.errors import NotFound, Refused
from instar.ledger import chain
from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.releases import Releases
from instar.ledger.rows import rollout_value
from instar.ledger.session import Session
from instar.ledger.tables import settings_digest
from instar.model.codec import to_json
from instar.model.environment import Settings
from instar.model.release import EnvironmentId, Release, Rollout, RolloutKind, Stage
from instar.model.rollout_happenings import RolloutBegun, RolloutDone, RolloutFailed, StageChanged
from instar.model.stages import stage_after

_ONE = """
    SELECT r.*, r.id AS rollout_id, e.service || '/' || e.environment AS place
      FROM rollouts r JOIN environments e ON e.id = r.environment WHERE r.id = :id"""
_LAST = """
    SELECT r.*, r.id AS rollout_id FROM rollouts r
     WHERE r.environment = :environment AND r.state <> 'running' ORDER BY r.id DESC LIMIT 1"""
_BACK = """
    SELECT r.*, r.id AS rollout_id FROM rollouts r
     WHERE r.environment = :environment AND r.state = 'done' AND r.kind = 'rollback' ORDER BY r.id DESC"""
_BEGIN = """
    INSERT INTO rollouts (id, environment, kind, source, target, actor, started_at, stage)
    VALUES ((SELECT coalesce(max(id), 0) + 1 FROM rollouts),
            :environment, :kind, :source, :target, :actor, :now, :stage) RETURNING id"""
_END = "UPDATE rollouts SET state = :state, ended_at = :now, detail = :detail WHERE id = :id"
_SET_STAGE = "UPDATE rollouts SET stage = :stage WHERE id = :id"
_RAN_WELL = """
    UPDATE releases SET ran_well = 1
     WHERE (environment, number) = (SELECT environment, target FROM rollouts WHERE id = :id)"""


class Rollouts:
    """Where an environment is going."""

    def __init__(self, session: Session, events: Events, environments: Environments, releases: Releases) -> None:
        self._session = session
        self._events = events
        self._environments = environments
        self._releases = releases

    def get_rollout(self, number: int) -> Rollout:
        row = self._session.row(_ONE, id=number)
        if row is None:
            raise NotFound(f"cannot find rollout {number}: there is no such rollout")
        return rollout_value(row)

    def last_rollout(self, environment: EnvironmentId) -> Rollout | None:
        """Return the rollout that ended last; None of an environment that isn't there, or had none."""
        present = self._environments.find_row(environment)
        row = self._session.row(_LAST, environment=present["id"]) if present is not None else None
        return None if row is None else rollout_value(row, environment)

    def last_data_back(self, environment: EnvironmentId) -> Rollout | None:
        """Return the last rollback that has brought older data back; None where there was none."""
        present = self._environments.find_row(environment)
        rows = self._session.rows(_BACK, environment=present["id"]) if present is not None else ()
        return next((one for row in rows if (one := rollout_value(row, environment)).stage.data), None)

    def begin_rollout(
        self,
        environment_id: EnvironmentId,
        kind: RolloutKind,
        target: int,
        detail: Mapping[str, Any] | None = None,
        *,
        settings_before: Settings | None = None,
        data: Mapping[str, int] | None = None,
    ) -> Rollout:
        """Write that ``environment_id`` shall move to release ``target``; ``detail`` is for the event that tells of it.

        ``settings_before`` are what it falls back to if that fails; ``data`` are the snapshots that volumes are to hold
        again, by their names.

        Raises Refused while it is moving already.
        """
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            state = self._environments.get_environment(environment_id)
            if state.rollout is not None:
                raise _under_way(state.rollout)
            release = self._releases.get_release(environment_id, target)
            added = self._session.write(
                _BEGIN,
                environment=environment,
                kind=kind,
                source=state.active,
                target=target,
                actor=self._events.actor,
                now=self._events.clock.text(),
                stage=_stage_text(Stage(settings_before=settings_before, data=data or {})),
            )
            begins_with = {"settings_before": settings_digest(settings_before), **({"data": data} if data else {})}
            begun = RolloutBegun(
                rollout=added,
                kind=kind,
                source=state.active,
                stage=begins_with,
                secrets=self._other_secrets(environment_id, state.active, release),
                **(detail or {}),
            )
            self._events.record(begun, environment_id, target, release.image)
            return self.get_rollout(added)

    def _other_secrets(self, environment: EnvironmentId, active: int | None, target: Release) -> tuple[str, ...] | None:
        if active is None:
            return None
        before = self._releases.get_release(environment, active)
        return target.configuration.other_secrets(before.configuration) or None

    def change_stage(self, what: StageChanged) -> Rollout:
        """Write what happened to a running rollout, and where it is by that.

        What others changed meanwhile stays. Raises Refused when it has ended.
        """
        with self._events.transaction():
            found = self.get_rollout(what.rollout)
            if found.state != "running":
                raise Refused(f"cannot change rollout {found.id} of '{found.environment}': it is {found.state} already")
            stage = stage_after(found.stage, what, self._events.clock.now())
            self._session.write(_SET_STAGE, id=found.id, stage=_stage_text(stage))
            image = self._releases.get_release(found.environment, found.target).image
            self._events.record(what, found.environment, found.target, image)
            return self.get_rollout(found.id)

    def end_rollout(
        self, rollout: Rollout, state: Literal["done", "failed"], detail: Mapping[str, Any] | None = None
    ) -> Rollout:
        """Write how ``rollout`` ended. A release whose rollout is done has run well.

        Raises Refused when it has ended already.
        """
        with self._events.transaction():
            found = self.get_rollout(rollout.id)
            if found.state != "running":
                raise Refused(f"cannot end rollout {found.id} of '{found.environment}': it is {found.state} already")
            detail = detail or {}
            self._session.write(
                _END, id=found.id, state=state, now=self._events.clock.text(), detail=chain.detail_text(detail)
            )
            if state == "done":
                self._session.write(_RAN_WELL, id=found.id)
            image = self._releases.get_release(found.environment, found.target).image
            ended = (RolloutDone if state == "done" else RolloutFailed)(rollout=found.id, measured=detail)
            self._events.record(ended, found.environment, found.target, image)
            return self.get_rollout(found.id)


def _stage_text(stage: Stage) -> str:
    return chain.detail_text(to_json(stage))


def _under_way(rollout: Rollout) -> Refused:
    return Refused(
        f"cannot begin a rollout of '{rollout.environment}': "
        f"the {rollout.kind} to release {rollout.target} has not ended",
        hint=f"see where it is with: instar status {rollout.environment}",
    )
