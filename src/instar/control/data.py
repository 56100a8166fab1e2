"""What volumes hold, kept before a rollout can change it, and brought back by one that is asked to. Pure.

A rollback with data is done when its target has the traffic: what fails afterwards is put right as at any other time.
Before that, a failure gives the volumes back what they held, and then the traffic to the release that had it: nobody
runs with another release's data.
"""

from __future__ import annotations

from instar.control.actions import Action, EndTask, KeepData, RestoreData, Retire, Route, Wait
from instar.control.snapshot import GroupView, Snapshot
from instar.control.tasks import GIVEN_UP_WITH
from instar.model.configuration import Configuration
from instar.model.definition import Service, Volume
from instar.model.release import Release

_PAUSED_S = 0.25


def kept_volumes(active: Release | None, wanted: Configuration) -> tuple[Volume, ...]:
    """Return the volumes that are kept before a release as it is ``wanted`` takes over from ``active``: those that say
    so and that both have, where it has tasks to run before, or data of another version. An exclusive one is so for
    either."""
    services = wanted.services.values()
    if active is None or not (any(one.before for one in services) or _version(wanted) != _version(active)):
        return ()
    known = {one.name: one for service in active.services.values() for one in service.volumes}
    found: dict[str, Volume] = {}
    for volume in (one for service in services for one in service.volumes):
        if volume.snapshot and volume.name in known:
            several = (volume, known[volume.name], found.get(volume.name, volume))
            found[volume.name] = next((one for one in several if one.access == "exclusive"), volume)
    return tuple(found.values())


def keep_shared(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what keeps the volumes that running instances have, before anything of the target begins."""
    return _keep(snapshot, [one for one in _not_kept(snapshot) if one.access == "shared"])


def keep_held(snapshot: Snapshot, service: Service) -> tuple[Action, ...]:
    """Return what keeps the volumes of ``service`` that one release has at a time, once nobody has them."""
    names = {one.name for one in service.volumes}
    return _keep(snapshot, [one for one in _not_kept(snapshot) if one.access == "exclusive" and one.name in names])


def swap_data(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what brings a rollback's data back, or gives it up again; () where nothing is left of that to do."""
    rollout, target = snapshot.environment.rollout, snapshot.target
    if rollout is None or target is None or not rollout.stage.data or snapshot.environment.active == target.number:
        return ()
    stage = rollout.stage
    if stage.abort is not None:
        changed = stage.changed
        if not changed:
            return ()
        restore = RestoreData(changed[0], stage.kept[changed[0]], back=True)
        return _tasks_given_up(snapshot) or _stopped(snapshot, set(changed)) or (restore,)
    left = {name: number for name, number in stage.data.items() if name not in stage.restored}
    if not left:
        return ()
    if stage.paused and not stage.kept:
        return (Wait(_PAUSED_S),)
    stopping = _stopped(snapshot, set(left))
    if stopping:
        return stopping
    name, number = next(iter(left.items()))
    return (RestoreData(name, number),) if name in stage.kept else (KeepData(name, running=False),)


def _tasks_given_up(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what ends the rollout's own tasks, whichever has not ended: they have its volumes, and nobody begins or
    waits for one any more."""
    groups = (snapshot.whole or snapshot).task_groups
    own = [group for group in groups if group.instance.command is None and group.state != "ending"]
    return tuple(EndTask(one.release, one.instance.task or "", one.id, GIVEN_UP_WITH) for one in own[:1])


def _stopped(snapshot: Snapshot, names: set[str]) -> tuple[Action, ...]:
    """Return what ends all that have one of these volumes, or were made with it, perhaps half, and wait to begin: they
    would have what it held before. A command that somebody runs is waited for."""
    there = _with_volumes(snapshot, names)
    having = [group for group in there if group.instance.task is None]
    if any(group.weight for group in having):
        return (Route(()),)
    if not all(snapshot.drained(group) for group in having):
        return (Wait(snapshot.traits.poll_s),)
    ending = tuple(group.id for group in having if group.state != "ending")
    if ending:
        return (Retire(ending, "what its volume holds is replaced"),)
    return (Wait(snapshot.traits.poll_s, ends=True),) if there else ()


def _not_kept(snapshot: Snapshot) -> list[Volume]:
    whole = snapshot.whole or snapshot
    rollout, target = whole.environment.rollout, whole.target
    if rollout is None or target is None or rollout.kind == "rollback" or whole.environment.active == target.number:
        return []
    wanted = kept_volumes(whole.source, target.configuration)
    return [one for one in wanted if one.name not in rollout.stage.kept]


def _keep(snapshot: Snapshot, volumes: list[Volume]) -> tuple[Action, ...]:
    return tuple(KeepData(one.name, running=_is_had(snapshot, one.name)) for one in volumes[:1])


def _is_had(snapshot: Snapshot, name: str) -> bool:
    return any(group.is_there for group in _with_volumes(snapshot, {name}))


def _with_volumes(snapshot: Snapshot, names: set[str]) -> list[GroupView]:
    whole = snapshot.whole or snapshot
    return [
        group
        for group in (*whole.groups, *whole.task_groups)
        if any(one.name in names for one in whole.service_of(group).volumes)
    ]


def _version(of: Release | Configuration) -> int | None:
    return next((one.data.version for one in of.services.values() if one.data is not None), None)
