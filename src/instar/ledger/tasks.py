"""Tasks: the commands that a release's rollouts run once, written down before they begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instar.errors import NotFound, Refused
from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.instances import Instances
from instar.ledger.releases import Releases
from instar.ledger.rows import task_value
from instar.ledger.session import Session
from instar.model.release import RUN, Command, EnvironmentId, Instance, TaskRun
from instar.model.roles import UNNAMED_ROLE
from instar.model.rollout_happenings import TaskEnded

_OF = "SELECT * FROM tasks WHERE environment = :environment AND release = :release ORDER BY began_at, name"
_ONE = "SELECT * FROM tasks WHERE environment = :environment AND release = :release AND name = :name"
_PRESENT = """
    SELECT t.* FROM tasks t JOIN instances i ON i.id = t.instance
     WHERE i.environment = :environment AND i.removed_at IS NULL AND i.command IS NOT NULL
     ORDER BY t.began_at, t.name"""
_RUNS = "SELECT count(*) AS number FROM tasks WHERE environment = :environment AND name LIKE 'run %'"
_BEGIN = """
    INSERT INTO tasks (environment, release, name, instance, began_at)
    VALUES (:environment, :release, :name, :instance, :now)"""
_END = """
    UPDATE tasks SET outcome = :outcome, ended_at = :now
     WHERE environment = :environment AND release = :release AND name = :name"""
_WROTE = """
    SELECT r.last_active_at IS NOT NULL
           OR EXISTS (SELECT 1 FROM tasks t WHERE t.environment = r.environment AND t.release = r.number)
           OR EXISTS (SELECT 1 FROM rollouts o WHERE o.environment = r.environment AND o.target = r.number
                                                 AND CAST(o.stage ->> 'step' AS INTEGER) > 0) AS wrote
      FROM releases r WHERE r.environment = :environment AND r.number = :number"""


class Tasks:
    """Which tasks were begun."""

    def __init__(
        self, session: Session, events: Events, environments: Environments, releases: Releases, instances: Instances
    ) -> None:
        self._session = session
        self._events = events
        self._environments = environments
        self._releases = releases
        self._instances = instances

    def tasks(self, environment: EnvironmentId, release: int) -> tuple[TaskRun, ...]:
        """Return the tasks of a release that were begun, in the order in which they were."""
        row = self._environments.find_row(environment)
        if row is None:
            return ()
        rows = self._session.rows(_OF, environment=row["id"], release=release)
        return tuple(task_value(found) for found in rows)

    def may_have_written(self, environment: EnvironmentId, number: int) -> bool:
        """Tell whether a release had any traffic, or a task of it was begun."""
        row = self._session.row(_WROTE, environment=self._environments.row_id(environment), number=number)
        return row is not None and bool(row["wrote"])

    def given_tasks(self, environment: EnvironmentId) -> tuple[TaskRun, ...]:
        """Return the tasks of commands that somebody, or the clock, gave, whose instances are not removed yet."""
        row = self._environments.find_row(environment)
        if row is None:
            return ()
        return tuple(task_value(found) for found in self._session.rows(_PRESENT, environment=row["id"]))

    def begin_run(
        self, environment_id: EnvironmentId, release: int, command: Command, *, role: str = UNNAMED_ROLE
    ) -> Instance:
        """Write that somebody's ``command`` begins as a task of its own, and the instance that runs it."""
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            before = self._session.row(_RUNS, environment=environment)
            number = 1 + (before["number"] if before else 0)
            return self.begin_task(environment_id, release, f"{RUN} {number}", role=role, command=command)

    def begin_task(
        self,
        environment_id: EnvironmentId,
        release: int,
        name: str,
        *,
        role: str = UNNAMED_ROLE,
        command: Command | None = None,
    ) -> Instance:
        """Write that task ``name`` of a role begins, and the instance that runs it: ``command``, where it is none of
        the release's own. Raises Refused when it was begun before."""
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            if self._session.row(_ONE, environment=environment, release=release, name=name):
                raise Refused(
                    f"cannot run task '{name}' of release {release} of '{environment_id}': it was begun before"
                )
            (instance,) = self._instances.add_instances(
                environment_id, release, 1, role=role, task=name, command=command
            )
            self._session.write(
                _BEGIN,
                environment=environment,
                release=release,
                name=name,
                instance=instance.id,
                now=self._events.clock.text(),
            )
            return instance

    def end_task(
        self, environment_id: EnvironmentId, release: int, name: str, outcome: str, detail: Mapping[str, Any]
    ) -> None:
        """Write how a task ended: "done", or why it isn't. Nothing when that was written already."""
        with self._events.transaction():
            environment = self._environments.row_id(environment_id)
            row = self._session.row(_ONE, environment=environment, release=release, name=name)
            if row is None:
                raise NotFound(
                    f"cannot end task '{name}' of release {release} of '{environment_id}': it was never begun"
                )
            if row["outcome"] is not None:
                return
            values = {"environment": environment, "release": release, "name": name}
            self._session.write(_END, **values, outcome=outcome, now=self._events.clock.text())
            image = self._releases.get_release(environment_id, release).image
            self._events.record(TaskEnded(task=name, outcome=outcome, **detail), environment_id, release, image)
