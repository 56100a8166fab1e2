"""Tasks: the commands that a release's rollouts run once, written down before they begin."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from instar.errors import NotFound, Refused
from instar.ledger.instances import Instances
from instar.ledger.rows import task_value
from instar.model.release import EnvironmentId, Instance, TaskRun

_OF = "SELECT * FROM tasks WHERE environment = :environment AND release = :release ORDER BY began_at, name"
_ONE = "SELECT * FROM tasks WHERE environment = :environment AND release = :release AND name = :name"
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
                                                 AND json_extract(o.stage, '$.step') > 0) AS wrote
      FROM releases r WHERE r.environment = :environment AND r.number = :number"""


class Tasks(Instances):
    """The part of the ledger that knows which tasks were begun."""

    def tasks(self, environment: EnvironmentId, release: int) -> tuple[TaskRun, ...]:
        """Return the tasks of a release that were begun, in the order in which they were."""
        row = self._present(environment)
        if row is None:
            return ()
        rows = self._database.rows(_OF, environment=row["id"], release=release)
        return tuple(task_value(found) for found in rows)

    def may_have_written(self, environment: EnvironmentId, number: int) -> bool:
        """Tell whether a release had any traffic, or a task of it was begun."""
        row = self._database.row(_WROTE, environment=self._row_id(environment), number=number)
        return row is not None and bool(row["wrote"])

    def begin_task(self, environment_id: EnvironmentId, release: int, name: str, network: IPv4Network) -> Instance:
        """Write that task ``name`` begins, and the instance that runs it. Raises Refused when it was begun before."""
        with self.transaction():
            environment = self._changeable(environment_id)
            if self._database.row(_ONE, environment=environment, release=release, name=name):
                raise Refused(
                    f"cannot run task '{name}' of release {release} of '{environment_id}': it was begun before"
                )
            (instance,) = self.add_instances(environment_id, release, 1, network, task=name)
            self._database.write(
                _BEGIN, environment=environment, release=release, name=name, instance=instance.id, now=self._now()
            )
            return instance

    def end_task(
        self, environment_id: EnvironmentId, release: int, name: str, outcome: str, detail: Mapping[str, Any]
    ) -> None:
        """Write how a task ended: "done", or why it isn't. Nothing when that was written already."""
        with self.transaction():
            environment = self._row_id(environment_id)
            row = self._database.row(_ONE, environment=environment, release=release, name=name)
            if row is None:
                raise NotFound(
                    f"cannot end task '{name}' of release {release} of '{environment_id}': it was never begun"
                )
            if row["outcome"] is not None:
                return
            values = {"environment": environment, "release": release, "name": name}
            self._database.write(_END, **values, outcome=outcome, now=self._now())
            image = self.get_release(environment_id, release).image
            self._record("task", environment_id, release, image, {"task": name, "outcome": outcome, **detail})
