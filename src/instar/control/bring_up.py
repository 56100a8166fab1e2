"""How a release comes to have all its copies running and healthy, whoever asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from instar.control.actions import Action, Create, Plan, Retire, Route, Start, Wait
from instar.control.snapshot import Copy, Snapshot, alone
from instar.model.release import Release

STEADY_S = 2.0  # a service without a health check is well when it has lived so long
EAGER_S = 2.0  # for so long after its start an instance is asked again at once, then at its health interval
EAGER_PAUSE_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """Where a release stands: which of its ``copies`` are well, the ``actions`` that bring it nearer, or why it will
    never have all (``cause``, and whose log tells more: ``culprits``)."""

    actions: tuple[Action, ...] = ()
    copies: tuple[Copy, ...] = ()
    cause: str = ""
    culprits: tuple[str, ...] = ()


def bring_up(
    snapshot: Snapshot,
    release: Release,
    *,
    count: int | None = None,
    replacing: str | None = None,
    without: tuple[Copy, ...] = (),
    first: tuple[Action, ...] = (),
    first_alone: bool = False,
) -> Readiness:
    """Return the next actions towards ``count`` (all that are wanted: None) healthy copies of ``release``.

    Dead copies don't count, nor those in ``without``. ``first`` comes before any copy is planned, or, ``first_alone``,
    after other releases have stopped and before this one starts. ``replacing``: why copies are needed at all.
    """
    if first and not first_alone:
        return Readiness(actions=first)
    wanted = snapshot.wanted_copies if count is None else count
    left_out = {copy.id for copy in without}
    live = sorted(
        (copy for copy in snapshot.of(release) if copy.state != "dead" and copy.id not in left_out),
        key=lambda copy: (copy.state != "running", copy.instance.serial),
    )[:wanted]
    well = tuple(copy for copy in live if is_well(snapshot, release, copy))
    missing = wanted - len(live)
    if missing:
        return Readiness(copies=well, actions=(Plan(release.number, missing, replacing),))
    standing = in_the_way(snapshot, release)
    planned = tuple(copy.id for copy in live if copy.state == "planned")
    if planned:
        return Readiness(copies=well, actions=(Create(planned, start=not standing and not first),))
    created = tuple(copy.id for copy in live if copy.state == "created")
    if created:
        return Readiness(copies=well, actions=_clear_the_way(snapshot, standing) or first or (Start(created),))
    return _until_healthy(snapshot, release, tuple(live), well)


def in_the_way(snapshot: Snapshot, release: Release) -> tuple[Copy, ...]:
    """Return the running copies of other releases that must stop before ``release`` may start; also those whose end
    was written down and not carried out."""
    return tuple(
        copy
        for copy in snapshot.others(release)
        if copy.observed.state == "running" and (alone(release) or alone(snapshot.releases[copy.release]))
    )


def _clear_the_way(snapshot: Snapshot, standing: tuple[Copy, ...]) -> tuple[Action, ...]:
    if any(copy.weight for copy in standing):
        return (Route(()),)
    if not all(snapshot.drained(copy) for copy in standing):
        return (Wait(EAGER_PAUSE_S),)
    if standing:
        return (Retire(tuple(copy.id for copy in standing), "it holds a volume for itself"),)
    return ()


def _until_healthy(snapshot: Snapshot, release: Release, live: tuple[Copy, ...], well: tuple[Copy, ...]) -> Readiness:
    proven = {copy.id for copy in well}
    waiting = tuple(copy for copy in live if copy.id not in proven)
    if not waiting:
        return Readiness(copies=well)
    late = tuple(copy for copy in waiting if snapshot.now >= deadline(release, copy))
    if late:
        seconds = release.service.health.deadline_ms / 1000
        cause = late[0].probe.cause if late[0].probe else "it never answered"
        cause = cause or f"it did not stay well for {release.service.health.steady_ms / 1000:g} s"
        return Readiness(
            copies=well,
            cause=f"{len(well)} of {len(live)} healthy after {seconds:g} s: {cause}",
            culprits=tuple(copy.id for copy in late),
        )
    return Readiness(copies=well, actions=(Wait(_pause_s(snapshot, release, waiting)),))


def is_well(snapshot: Snapshot, release: Release, copy: Copy) -> bool:
    """Tell whether a copy has proven itself: the router watches it (it has traffic), or it answers and has lasted."""
    steady = release.service.health.kind != "none" or (snapshot.now - copy.began_at).total_seconds() >= STEADY_S
    watched = copy.routed is not None and copy.routed.weight > 0 and copy.routed.up
    return watched or (copy.healthy and steady and (not is_tried(snapshot, release) or has_stayed_well(snapshot, copy)))


def is_tried(snapshot: Snapshot, release: Release) -> bool:
    """Tell whether ``release`` is a candidate that has to show that it stays well before it gets traffic."""
    rollout = snapshot.environment.rollout
    if rollout is None or rollout.target != release.number or snapshot.environment.active == release.number:
        return False
    return not alone(release) and not (rollout.kind == "rollback" and release.ran_well)


def has_stayed_well(snapshot: Snapshot, copy: Copy) -> bool:
    """Tell whether a copy has answered for as long as its release's ``health`` asks for, as far as it was seen."""
    steady_ms = snapshot.releases[copy.release].service.health.steady_ms
    since = snapshot.well_since.get(copy.id, snapshot.now)
    return not steady_ms or snapshot.now >= since + timedelta(milliseconds=steady_ms)


def deadline(release: Release, copy: Copy) -> datetime:
    """Return until when a copy must be well; one that answers has the time that it must stay so besides."""
    health = release.service.health
    return copy.began_at + timedelta(milliseconds=health.deadline_ms + (health.steady_ms if copy.healthy else 0))


def _pause_s(snapshot: Snapshot, release: Release, waiting: tuple[Copy, ...]) -> float:
    health = release.service.health
    youngest = max(copy.began_at for copy in waiting)
    if health.kind != "command" and (snapshot.now - youngest).total_seconds() < EAGER_S:
        return EAGER_PAUSE_S
    return health.interval_ms / 1000
