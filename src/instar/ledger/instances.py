"""Instances: what was meant to run, written down before it is made, until nothing of it is left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from instar.errors import NotFound
from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.releases import Releases
from instar.ledger.rows import (
    INSTANCE,
    ending_value,
    environment_value,
    instance_id_value,
    instance_value,
    instance_values,
    record_value,
    time_text,
    time_value,
)
from instar.ledger.session import Row, Session
from instar.model.codec import to_json
from instar.model.digest import Digest
from instar.model.instance_happenings import (
    InstanceCreated,
    InstanceDestroyed,
    InstanceEnded,
    InstancesPlanned,
    InstanceStarted,
    InstanceStopping,
    InstanceTainted,
    OfInstance,
)
from instar.model.release import BY_ITSELF, Command, Ending, EnvironmentId, Instance, Taint, TaintKind
from instar.model.roles import UNNAMED_ROLE

_SELECT = f"SELECT {INSTANCE}"
_SELECT_PLACED = f"{_SELECT}, e.service || '/' || e.environment AS place"
# The plus keeps SQLite from walking through all instances there ever were in the order of their serials.
_PRESENT = f"""
    {_SELECT_PLACED} FROM instances i JOIN environments e ON e.id = i.environment
     WHERE i.removed_at IS NULL ORDER BY +i.serial"""
_PRESENT_OF = f"""
    {_SELECT} FROM instances i
     WHERE i.environment = :environment AND i.removed_at IS NULL ORDER BY i.serial"""
_ONE = f"""
    {_SELECT_PLACED}, i.removed_at, r.image
      FROM instances i JOIN environments e ON e.id = i.environment
      JOIN releases r ON r.environment = i.environment AND r.number = i.release
     WHERE i.id = :id"""
_EVER = """
    SELECT i.id FROM instances i JOIN environments e ON e.id = i.environment
     WHERE e.service = :service AND e.environment = :environment ORDER BY i.serial"""
_ROLE_OF = "SELECT id, role FROM instances WHERE environment = :environment ORDER BY serial"
_RELEASE_OF = "SELECT id, release FROM instances WHERE environment = :environment ORDER BY serial"
_OF_REMOVED = """
    SELECT i.id, e.service, e.environment, s.value ->> 'provider' AS provider
      FROM instances i JOIN environments e ON e.id = i.environment
      JOIN settings s ON s.environment = e.id
                     AND s.version = (SELECT max(version) FROM settings WHERE environment = e.id)
     WHERE e.removed_at IS NOT NULL ORDER BY i.serial"""
_PROVIDER_RECORDS = f"""
    {_SELECT_PLACED}, p.value
      FROM provider_records p JOIN instances i ON i.id = p.instance JOIN environments e ON e.id = i.environment
      JOIN settings s ON s.environment = e.id
                     AND s.version = (SELECT max(version) FROM settings WHERE environment = e.id)
     WHERE i.removed_at IS NULL AND s.value ->> 'provider' = :provider
           AND coalesce(e.machine, :machine) = :machine ORDER BY i.serial"""  # noqa: S608  all of it stands here
_LAST_K = "SELECT coalesce(max(k), 0) AS k FROM instances WHERE stem = :stem"
_ADD = """
    INSERT INTO instances (serial, id, environment, release, role, stem, k, created_at, task, replacing, members,
                           command)
    VALUES ((SELECT coalesce(max(serial), 0) + 1 FROM instances),
            :id, :environment, :release, :role, :stem, :k, :now, :task, :replacing, :members, :command)"""
_REPLACED = """
    SELECT created_at, removed_at, replacing FROM instances
     WHERE environment = :environment AND release = :release AND created_at > :since AND replacing IS NOT NULL
     ORDER BY created_at"""
_SET_MADE = "UPDATE instances SET made = 1 WHERE id = :id"
_SET_STARTED = "UPDATE instances SET started_at = :now WHERE id = :id"
_TAINT = "UPDATE instances SET taint = :taint WHERE id = :id"
_DRIFTED = "UPDATE instances SET drifted_at = coalesce(drifted_at, :now) WHERE id = :id"
_DRIFTED_SINCE = """
    SELECT count(*) AS number FROM instances WHERE environment = :environment AND drifted_at > :since"""
_END = "UPDATE instances SET ending = :ending, ended_at = :now WHERE id = :id"
_ENDINGS = """
    SELECT ending, ended_at FROM instances
     WHERE environment = :environment AND release = :release AND ended_at > :since AND task IS NULL ORDER BY ended_at"""
_ENDING_OF = "SELECT ending, ended_at FROM instances WHERE id = :id AND ending IS NOT NULL"
# Whenever copies are planned, all that are missing are: those that ended later have no successor yet.
_OWED = """
    SELECT count(*) AS number FROM instances
     WHERE environment = :environment AND release = :release AND role = :role AND task IS NULL
       AND ending ->> 'reason' <> 'instar'
       AND ended_at > (SELECT max(created_at) FROM instances
                        WHERE environment = :environment AND release = :release AND role = :role AND task IS NULL)"""
_REMOVE = "UPDATE instances SET removed_at = :now WHERE id = :id"


class Instances:
    """What is meant to run."""

    def __init__(self, session: Session, events: Events, environments: Environments, releases: Releases) -> None:
        self._session = session
        self._events = events
        self._environments = environments
        self._releases = releases
        self._read: dict[EnvironmentId, tuple[object, tuple[Instance, ...]]] = {}  # what was read last, and as of when

    def add_instances(
        self,
        environment_id: EnvironmentId,
        release: int,
        count: int,
        *,
        role: str = UNNAMED_ROLE,
        task: str | None = None,
        replacing: str | None = None,
        members: Sequence[int] = (),
        command: Command | None = None,
    ) -> tuple[Instance, ...]:
        """Write ``count`` new groups of a role of a release, each with an id and a serial that nothing else has.

        ``task``: they run that task of it, by ``command`` where it is none of its own. ``replacing``: why they are made
        outside a rollout; ``members``: of how many members each consists, one if nothing is said.
        """
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            of = self._releases.get_release(environment_id, release)
            sizes = dict(enumerate(members))
            if not count:
                return ()
            stem = f"{environment_id.service}-{environment_id.name}-{release}"
            before = self._session.row(_LAST_K, stem=stem)
            first = 1 + (before["k"] if before else 0)
            now = self._events.clock.text()
            for k in range(first, first + count):
                values = {"id": f"{stem}-{k}", "environment": environment, "release": release, "role": role}
                values |= {"stem": stem, "k": k, "task": task, "replacing": replacing}
                values |= {"command": None if command is None else json.dumps(to_json(command))}
                self._session.write(_ADD, **values, now=now, members=sizes.get(k - first, 1))
            added = tuple(f"{stem}-{k}" for k in range(first, first + count))
            each = dict(zip(added, members, strict=True)) if any(size != 1 for size in members) else None
            planned = InstancesPlanned(
                instances=added,
                role=role or None,
                task=task or None,
                replacing=replacing or None,
                members=each,
                command=command,
            )
            self._events.record(planned, environment_id, release, of.image)
            return tuple(self._get_instance(name) for name in added)

    def instances(self, environment: EnvironmentId | None = None) -> tuple[Instance, ...]:
        """Return the instances (of ``environment``) that are not removed, by serial; none of an environment that isn't
        there."""
        if environment is None:
            return tuple(instance_value(row) for row in self._session.rows(_PRESENT))
        mark = self._session.change_mark()
        known_mark, known = self._read.get(environment, (None, ()))
        if mark is not None and mark == known_mark:  # there can be thousands, and a loop looks again and again
            return known
        present = self._environments.find_row(environment)
        if present is None:
            return ()
        found = instance_values(self._session.rows(_PRESENT_OF, environment=present["id"]), environment)
        self._read[environment] = (mark, found)
        return found

    def replacements(
        self, environment: EnvironmentId, release: int, since: datetime, max_age_ms: int | None = None
    ) -> tuple[datetime, ...]:
        """Return when replacements of a release's instances were needed after ``since``, oldest first.

        Nothing has failed where an instance had reached ``max_age_ms``; that its successor did not, counts.
        """
        present = self._environments.find_row(environment)
        if present is None:
            return ()
        rows = self._session.rows(_REPLACED, environment=present["id"], release=release, since=time_text(since))
        failed = dict.fromkeys(row["created_at"] for row in rows if _has_failed(row, max_age_ms))
        return tuple(time_value(created_at) for created_at in failed)

    def instance_names(self, environment: EnvironmentId) -> tuple[str, ...]:
        """Return the ids of all instances that ``environment`` ever had, oldest first; of removed ones too."""
        rows = self._session.rows(_EVER, service=environment.service, environment=environment.name)
        return tuple(instance_id_value(row, environment) for row in rows)

    def instance_releases(self, environment: EnvironmentId) -> tuple[tuple[str, int], ...]:
        """Return (id, release) of all instances of the present ``environment`` there ever were."""
        present = self._environments.find_row(environment)
        if present is None:
            return ()
        rows = self._session.rows(_RELEASE_OF, environment=present["id"])
        return tuple((instance_id_value(row, environment), row["release"]) for row in rows)

    def instance_roles(self, environment: EnvironmentId) -> Mapping[str, str]:
        """Return the role of each instance of the present ``environment`` that there ever was, by its id."""
        present = self._environments.find_row(environment)
        if present is None:
            return {}
        rows = self._session.rows(_ROLE_OF, environment=present["id"])
        return {instance_id_value(row, environment): row["role"] for row in rows}

    def instances_of_removed(self) -> tuple[tuple[str, EnvironmentId, str], ...]:
        """Return (provider, environment, id) of all instances of environments that are removed."""
        found = ((row, environment_value(row)) for row in self._session.rows(_OF_REMOVED))
        return tuple((row["provider"], of, instance_id_value(row, of)) for row, of in found)

    def provider_records(self, provider: str, machine: str) -> tuple[tuple[Instance, Mapping[str, Any]], ...]:
        """Return what an older Instar wrote here of ``provider``'s instances on ``machine``, for it to take over: of
        those that are not removed, in the order in which they were planned."""
        rows = self._session.rows(_PROVIDER_RECORDS, provider=provider, machine=machine)
        return tuple((instance_value(row), record_value(row)) for row in rows)

    def set_made(self, instance_id: str) -> Instance:
        """Write that an instance is made, and waits to begin. Nothing when that was written already."""
        with self._events.transaction():
            row = self.live_row(instance_id)
            if not instance_value(row).made:
                self._session.write(_SET_MADE, id=instance_id)
                self._record(InstanceCreated(instance=instance_id), row)
            return self._get_instance(instance_id)

    def set_started(self, instance_id: str) -> Instance:
        """Write that an instance's process has begun. Once: the first time stays."""
        with self._events.transaction():
            row = self.live_row(instance_id)
            if row["started_at"] is None:
                self._session.write(_SET_STARTED, id=instance_id, now=self._events.clock.text())
                self._record(InstanceStarted(instance=instance_id), row)
            return self._get_instance(instance_id)

    def taint(
        self,
        instance_id: str,
        kind: TaintKind,
        why: str,
        *,
        after_ms: int = 0,
        isolated: bool = False,
        recording: str | None = None,
        command: str | None = None,
    ) -> Taint:
        """Write that an instance is to be replaced in ``after_ms``; without traffic until then when ``isolated``.

        Of several taints the first says why, and the earliest when. ``recording`` and ``command`` of a shell go into
        the event. Raises NotFound for one that isn't there any more.
        """
        with self._events.transaction():
            row = self.live_row(instance_id)
            known, now = instance_value(row).taint, self._events.clock.now()
            due_at = now + timedelta(milliseconds=after_ms)
            wanted = Taint(kind=kind, why=why, actor=self._events.actor, at=now, due_at=due_at, isolated=isolated)
            if known is not None:
                wanted = replace(known, due_at=min(known.due_at, due_at), isolated=known.isolated or isolated)
            if wanted != known:
                self._session.write(_TAINT, id=instance_id, taint=json.dumps(to_json(wanted)))
            if kind == "drift":
                self._session.write(_DRIFTED, id=instance_id, now=time_text(now))
            tainted = InstanceTainted(
                instance=instance_id,
                taint=kind,
                why=why,
                due_at=time_text(wanted.due_at),
                isolated=wanted.isolated,
                recording=recording,
                command=command,
            )
            self._record(tainted, row)
            return wanted

    def drifted(self, environment: EnvironmentId, since: datetime) -> int:
        """Return how many instances were found after ``since`` to be no longer what was baked, and are replaced."""
        values = {"environment": self._environments.row_id(environment), "since": time_text(since)}
        row = self._session.row(_DRIFTED_SINCE, **values)
        return int(row["number"]) if row is not None else 0

    def set_ending(self, instance_id: str, ending: Ending) -> None:
        """Write how an instance ended, or why it is ended now. Once: the first time stays."""
        with self._events.transaction():
            row = self.live_row(instance_id)
            if row["ending"] is not None:
                return
            told = {name: value for name, value in to_json(ending).items() if name != "at" and value is not None}
            self._session.write(_END, id=instance_id, ending=json.dumps(told), now=self._events.clock.text())
            kind = InstanceEnded if ending.reason in BY_ITSELF else InstanceStopping
            self._record(kind(instance=instance_id, **told), row)

    def endings(self, environment: EnvironmentId, release: int, since: datetime) -> tuple[Ending, ...]:
        """Return how instances of a release ended after ``since``, oldest first; those of tasks are not among them."""
        present = self._environments.find_row(environment)
        if present is None:
            return ()
        rows = self._session.rows(_ENDINGS, environment=present["id"], release=release, since=time_text(since))
        return tuple(ending_value(row) for row in rows)

    def owed(self, environment: EnvironmentId, release: int, role: str = UNNAMED_ROLE) -> int:
        """Return how many instances of a role of a release ended, or were given up, and have no successor yet."""
        values = {"environment": self._environments.row_id(environment), "release": release, "role": role}
        row = self._session.row(_OWED, **values)
        return int(row["number"]) if row is not None else 0

    def find_ending(self, instance_id: str) -> Ending | None:
        """Return how an instance ended, also one that is removed; None where it hasn't, or nobody knows."""
        row = self._session.row(_ENDING_OF, id=instance_id)
        return None if row is None else ending_value(row)

    def remove_instance(self, instance_id: str, reason: str) -> None:
        """Write that nothing is left of an instance. Does nothing to a removed one."""
        with self._events.transaction():
            row = self._row(instance_id)
            if row["removed_at"] is None:
                self._session.write(_REMOVE, id=instance_id, now=self._events.clock.text())
                self._record(InstanceDestroyed(instance=instance_id, reason=reason), row)

    def _record(self, what: OfInstance, row: Row) -> None:
        self._events.record(what, instance_value(row).environment, row["release"], Digest(row["image"]))

    def _get_instance(self, instance_id: str) -> Instance:
        return instance_value(self._row(instance_id))

    def live_row(self, instance_id: str) -> Row:
        """Return the row of an instance that is there. Raises NotFound."""
        row = self._row(instance_id)
        if row["removed_at"] is not None:
            raise NotFound(f"cannot find '{instance_id}': this instance was destroyed at {row['removed_at']}")
        return row

    def _row(self, instance_id: str) -> Row:
        row = self._session.row(_ONE, id=instance_id)
        if row is None:
            raise NotFound(f"cannot find '{instance_id}': there is no such instance", hint="instar status shows all")
        return row


def _has_failed(row: Row, max_age_ms: int | None) -> bool:
    """Tell whether an instance had to replace one that failed. Copies made together count once; one that took an old
    one's place, only when it did not grow old itself; one that took a tainted one's, only when it is gone again."""
    if row["replacing"] in ("ended", "unwell", "drifted"):
        return True
    if row["removed_at"] is None:
        return False
    if row["replacing"] == "old" and max_age_ms is not None:
        age = time_value(row["removed_at"]) - time_value(row["created_at"])
        return age < timedelta(milliseconds=max_age_ms)
    return bool(row["replacing"] == "tainted")
