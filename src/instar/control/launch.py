"""How a release comes to have all its groups running and healthy, whoever asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from instar.control.actions import Action, Create, Plan, Retire, Route, Start, Wait
from instar.control.snapshot import GroupView, Snapshot, alone, role_prefix, routed
from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.release import Release

STEADY_S = 2.0  # a service without a health check is well when it has lived so long
EAGER_S = 2.0  # for so long after its start an instance is asked again at once, then at its health interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """Where a release stands: which of its ``groups`` are well, the ``actions`` that bring it nearer, or why it will
    never have all (``cause``, and whose log tells more: ``culprits``)."""

    actions: tuple[Action, ...] = ()
    groups: tuple[GroupView, ...] = ()
    cause: str = ""
    culprits: tuple[str, ...] = ()


def launch(
    snapshot: Snapshot,
    release: Release,
    *,
    count: int | None = None,
    replacing: str | None = None,
    without: tuple[GroupView, ...] = (),
    first: tuple[Action, ...] = (),
    first_alone: bool = False,
) -> Readiness:
    """Return the next actions towards ``count`` (all that are wanted: None) healthy groups of ``release``.

    Dead groups don't count, nor those in ``without``. ``first`` comes before any group is planned, or, ``first_alone``,
    after other releases have stopped and before this one starts. ``replacing``: why groups are needed at all.
    """
    if first and not first_alone:
        return Readiness(actions=first)
    left_out = {group.id for group in without}
    there = sorted(
        (group for group in snapshot.of(release) if group.lives and group.id not in left_out),
        key=lambda group: group.state != "running",
    )
    live, missing = fill(snapshot.layout(release)[:count], there)
    well = tuple(group for group in live if is_well(snapshot, release, group))
    if missing:
        return Readiness(groups=well, actions=(Plan(release.number, missing, replacing, release.role),))
    if any(group.state in ("planned", "created") for group in live) and held_volumes(snapshot, release):
        return Readiness(groups=well, actions=(Wait(snapshot.traits.poll_s),))
    standing = in_the_way(snapshot, release)
    planned = tuple(group.id for group in live if group.state == "planned")
    if planned and not snapshot.traits.waits_to_begin:
        actions = _clear_the_way(snapshot, standing) or first or (Create(planned, start=True),)
        return Readiness(groups=well, actions=actions)
    if planned:
        return Readiness(groups=well, actions=(Create(planned, start=not standing and not first),))
    created = tuple(group.id for group in live if group.state == "created")
    if created:
        return Readiness(groups=well, actions=_clear_the_way(snapshot, standing) or first or (Start(created),))
    begun = tuple(group.id for group in live if group.state == "running" and not group.was_made)
    if begun:  # whoever had it made was killed before that was written down
        return Readiness(groups=well, actions=(Start(begun),))
    return _until_healthy(snapshot, release, tuple(live), well)


def made(snapshot: Snapshot, release: Release) -> Readiness:
    """Return the next actions until all groups of ``release`` are made, and begin as soon as they may: as far as that
    goes where a provider makes nothing without beginning it."""
    groups, missing = fill(snapshot.layout(release), [group for group in snapshot.of(release) if group.lives])
    planned = tuple(group.id for group in groups if group.state == "planned")
    if missing:
        return Readiness(actions=(Plan(release.number, missing, role=release.role),))
    if planned and snapshot.traits.waits_to_begin:
        return Readiness(actions=(Create(planned, start=False),))
    return Readiness()


def fill(layout: Sequence[int], groups: Sequence[GroupView]) -> tuple[tuple[GroupView, ...], tuple[int, ...]]:
    """Return which of ``groups`` make up ``layout``, the first ones first, and the sizes of those that are missing."""
    left = Counter(layout)
    found = []
    for group in groups:
        if left[group.instance.members]:
            left[group.instance.members] -= 1
            found.append(group)
    return tuple(found), tuple(left.elements())


def in_the_way(snapshot: Snapshot, release: Release) -> tuple[GroupView, ...]:
    """Return the running groups of other releases that must stop before ``release`` may start, and those of its own
    that are on their way to their end; also those whose end was written down and not carried out."""
    beside = tuple(
        group
        for group in snapshot.others(release)
        if group.is_there and (alone(release) or alone(snapshot.releases[group.release]))
    )
    if snapshot.whole is not None:
        beside += _holding(snapshot.whole, release, {group.id for group in beside})
    own = (*snapshot.of(release), *snapshot.task_groups) if alone(release) else ()
    return beside + tuple(group for group in own if group.state == "ending")


def _holding(whole: Snapshot, release: Release, known: Collection[str]) -> tuple[GroupView, ...]:
    """Return the running groups of other releases' other roles that have a volume of this one, which is exclusive for
    either: it has changed hands."""
    return tuple(
        group
        for group in whole.others(release)
        if group.is_there and group.id not in known and _share(whole.service_of(group), release.service)
    )


def _share(one: Service, other: Service) -> bool:
    """Tell whether two services must not run at once for a volume that both have."""
    wanted = {volume.name: volume for volume in other.volumes}
    both = ((volume, wanted[volume.name]) for volume in one.volumes if volume.name in wanted)
    return any("exclusive" in (volume.access, another.access) for volume, another in both)


def held_volumes(snapshot: Snapshot, release: Release) -> tuple[GroupView, ...]:
    """Return those that run somebody's command in another release than ``release``, and have a volume of it which only
    one release may have at a time."""
    own = {one.name: one for service in release.services.values() for one in service.volumes}
    whole = snapshot if snapshot.whole is None else snapshot.whole

    def holds(group: GroupView) -> bool:
        for one in whole.service_of(group).volumes:
            if one.name in own and "exclusive" in (one.access, own[one.name].access):
                return True
        return False

    given = (one for one in whole.task_groups if one.instance.command is not None and one.release != release.number)
    return tuple(one for one in given if one.is_there and holds(one))


def _clear_the_way(snapshot: Snapshot, standing: tuple[GroupView, ...]) -> tuple[Action, ...]:
    if any(group.weight for group in standing):
        return (Route(()),)
    if not all(snapshot.drained(group) for group in standing):
        return (Wait(snapshot.traits.poll_s),)
    names = tuple(group.id for group in standing if group.state != "ending")
    if names:
        return (Retire(names, "it holds a volume for itself"),)
    return (Wait(snapshot.traits.poll_s, ends=True),) if standing else ()


def _until_healthy(
    snapshot: Snapshot, release: Release, live: tuple[GroupView, ...], well: tuple[GroupView, ...]
) -> Readiness:
    proven = {group.id for group in well}
    waiting = tuple(group for group in live if group.id not in proven)
    if not waiting:
        return Readiness(groups=well)
    late = tuple(group for group in waiting if snapshot.now >= deadline(release, group))
    if late:
        seconds = release.service.health.deadline_ms / 1000
        known = late[0].probe is not None or late[0].observed.ready is not None
        cause = late[0].cause if known else "it never answered"
        cause = cause or f"it did not stay well for {release.service.health.steady_ms / 1000:g} s"
        members, there = (sum(one.instance.members for one in some) for some in (live, well))
        there += sum(one.answering for one in late if one.observed.ready is not None)
        return Readiness(
            groups=well,
            cause=f"{role_prefix(snapshot, release)}{there} of {members} healthy after {seconds:g} s: {cause}",
            culprits=tuple(group.id for group in late),
        )
    launches = not all(group.healthy for group in waiting)  # else they have to stay so for a while
    return Readiness(groups=well, actions=(Wait(_pause_s(snapshot, release, waiting), launches=launches),))


def is_well(snapshot: Snapshot, release: Release, group: GroupView) -> bool:
    """Tell whether a group has proven itself: the router watches it (it has traffic), or it answers and has lasted."""
    if group.weight > 0 and group.up:
        return True
    steady = release.service.health.kind != "none" or (snapshot.now - group.began_at).total_seconds() >= STEADY_S
    return group.healthy and steady and (not is_tried(snapshot, release) or has_stayed_well(snapshot, group))


def is_tried(snapshot: Snapshot, release: Release) -> bool:
    """Tell whether ``release`` is a candidate that has to show that it stays well before it gets traffic."""
    rollout = snapshot.environment.rollout
    if rollout is None or rollout.target != release.number or snapshot.environment.active == release.number:
        return False
    return not alone(release) and not (rollout.kind == "rollback" and release.ran_well)


def has_stayed_well(snapshot: Snapshot, group: GroupView) -> bool:
    """Tell whether a group has answered for as long as its release's ``health`` asks for, as far as it was seen."""
    steady_ms = snapshot.releases[group.release].service.health.steady_ms
    since = snapshot.well_since.get(group.id, snapshot.now)
    return not steady_ms or snapshot.now >= since + timedelta(milliseconds=steady_ms)


def deadline(release: Release, group: GroupView) -> datetime:
    """Return until when a group must be well; one that answers has the time that it must stay so besides."""
    health = release.service.health
    return group.began_at + timedelta(milliseconds=health.deadline_ms + (health.steady_ms if group.healthy else 0))


def _pause_s(snapshot: Snapshot, release: Release, waiting: tuple[GroupView, ...]) -> float:
    health = release.service.health
    youngest = max(group.began_at for group in waiting)
    if health.kind != "command" and (snapshot.now - youngest).total_seconds() < EAGER_S:
        return snapshot.traits.poll_s
    return health.interval_ms / 1000


def starts_s(snapshot: Snapshot) -> float:
    """Return for how many seconds the active release may yet get well where nothing of it serves and it was begun not
    long ago, or is to be, as after a restore; 0 in any other case."""
    active = snapshot.active
    if active is None or snapshot.environment.destroying:
        return 0.0
    with_port = routed(active)
    groups = [
        one for one in snapshot.of(active) if one.lives and (snapshot.service_of(one).port is not None) == with_port
    ]
    if not groups or any(one.weight if with_port else one.healthy for one in groups):
        return 0.0
    deadline_s = active.service.health.deadline_ms / 1000
    begun = [one.began_at for one in groups if one.state == "running"]
    return max(0.0, deadline_s - (snapshot.now - max(begun)).total_seconds()) if begun else deadline_s
