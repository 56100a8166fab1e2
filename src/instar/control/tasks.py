"""The tasks of a release: run one after the other, each once for the release, whatever comes of it. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from instar.control.actions import Action, BeginTask, Create, EndTask, Retire, Start, Wait
from instar.control.endings import words
from instar.control.snapshot import GroupView, Snapshot
from instar.frozen import dataclass
from instar.model.definition import Service, Task
from instar.model.release import Release, TaskRun

DONE = "done"
GIVEN_UP = "given up: nobody waits for its end any more"
GIVEN_UP_WITH = "given up with its rollout"
_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskProgress:
    """What to do next for the tasks, or which failed and how; neither when all are done. ``alone``: the task that it
    is about takes a volume that one release has for itself, so that it cannot run beside another release."""

    actions: tuple[Action, ...] = ()
    failure: str = ""
    culprits: tuple[str, ...] = ()
    alone: bool = False


def run_tasks(snapshot: Snapshot, release: Release, phase: Literal["before", "after"]) -> TaskProgress:
    """Return what brings the tasks of ``release``, of its first role, nearer to their end. A rollback runs none."""
    rollout = snapshot.environment.rollout
    if rollout is not None and rollout.kind == "rollback":
        return TaskProgress()
    begun = {run.name: run for run in snapshot.tasks}
    tasks = release.service.before if phase == "before" else release.service.after
    for position, task in enumerate(tasks, 1):
        name = task_name(phase, position, release.role)
        run = begun.get(name)
        if run is None:
            beginning = BeginTask(release.number, name, release.role)
            return TaskProgress(actions=(beginning,), alone=runs_alone(release.service, task))
        if run.outcome is None:
            return TaskProgress(
                actions=(_go_on(snapshot, release, task, run),), alone=runs_alone(release.service, task)
            )
        if run.outcome != DONE:
            failure = f"task '{name}' ({' '.join(task.command)}): {run.outcome}"
            return TaskProgress(failure=failure, culprits=(run.instance,))
    return TaskProgress()


def task_name(phase: str, position: int, role: str) -> str:
    """Return how a task of a role is called among those of its release."""
    return f"{phase} {position} of {role}" if role else f"{phase} {position}"


def runs_alone(service: Service, task: Task) -> bool:
    """Tell whether a task takes a volume that only one release may have at a time."""
    return any(volume.access == "exclusive" for volume in service.volumes_of(task))


def leftover(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what ends tasks whose rollout is over, and removes what is left of those that ended."""
    target = snapshot.target
    begun = {run.name: run for run in snapshot.tasks}
    for group in snapshot.task_groups:
        if group.state == "ending":
            continue
        if group.instance.ending is not None:  # it was decided, and is seen through
            return (Retire((group.id,), group.instance.ending.why),)
        name = group.instance.task or ""
        if group.instance.command is not None:
            run = next((one for one in snapshot.given_tasks if one.instance == group.id), None)
            why = _why_over(snapshot, group, run)
        else:
            run = begun.get(name) if target is not None and target.number == group.release else None
            why = GIVEN_UP_WITH if run is None else None
        if run is not None and run.outcome is not None:  # whoever wrote that has told it
            return (Retire((group.id,), f"its task: {run.outcome}"),)
        if why is not None:
            return (EndTask(group.release, name, group.id, why),)
    return ()


def _why_over(snapshot: Snapshot, group: GroupView, run: TaskRun | None) -> str | None:
    """Return why what somebody runs has to go; None while it goes on."""
    if run is None:
        return "it was not written down that it began"
    if snapshot.environment.destroying:
        return "the environment is destroyed"
    return None if not group.instance.attended or group.id in snapshot.attended else GIVEN_UP


def _go_on(snapshot: Snapshot, release: Release, task: Task, run: TaskRun) -> Action:
    group = next((group for group in snapshot.task_groups if group.id == run.instance), None)
    if group is None:
        return EndTask(release.number, run.name, run.instance, "its instance is gone")
    if group.state == "planned":
        return Create((group.id,), start=True)
    if group.state == "created":
        return Start((group.id,))
    if group.state == "dead":
        return EndTask(release.number, run.name, group.id, _outcome(group))
    if (outcome := _never_began(snapshot, release, group)) is not None:
        return EndTask(release.number, run.name, group.id, outcome)
    left = (group.began_at + timedelta(milliseconds=task.timeout_ms) - snapshot.now).total_seconds()
    if left <= 0:
        return EndTask(release.number, run.name, group.id, f"it did not end within {task.timeout_ms / 1000:g} s")
    return Wait(min(_PAUSE_S, left))


def _never_began(snapshot: Snapshot, release: Release, group: GroupView) -> str | None:
    """Return why a task does not begin, once that has been so for as long as its release's groups have to be well."""
    seen, limit_ms = group.observed, release.service.health.deadline_ms
    if seen.ready != 0 or seen.reason is None or snapshot.now < group.began_at + timedelta(milliseconds=limit_ms):
        return None
    return f"it had not begun after {limit_ms / 1000:g} s: {seen.reason}"


def _outcome(group: GroupView) -> str:
    if group.observed.exit_status == 0:
        return DONE
    known = group.observed.reason is not None or group.observed.exit_status is not None
    return words(group.observed) if known else "nobody saw how"
