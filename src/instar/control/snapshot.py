"""One environment as wanted and as observed, at one moment: all that a decision is made from."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta

from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.environment import Settings
from instar.model.occurrence import Missed, Occurrence
from instar.model.release import Ending, EnvironmentState, Instance, Release, TaskRun
from instar.providers.base import Observed, Probe, Routed
from instar.providers.router_plan import RouterPlan, router_plan
from instar.providers.traits import Traits


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupView:
    """A group of a release as intended (ledger), as it is (provider), as it answers (probe) and as it is routed.

    ``probe`` is None where nobody asked; ``routed`` is None where the router doesn't know it.
    """

    instance: Instance
    observed: Observed
    probe: Probe | None = None
    routed: Routed | None = None
    id: str = field(init=False)
    release: int = field(init=False)
    role: str = field(init=False)
    weight: int = field(init=False)
    up: bool = field(init=False)
    """A request that it got now would be answered."""
    state: str = field(init=False)
    """planned (in the ledger only), created, running, or dead: it was there and is gone or has ended, or it was decided
    to end it; while that goes on, ending. (There can be thousands, each asked a dozen times: so this stands here, and
    what is before it.)"""

    def __post_init__(self) -> None:
        put, routed = object.__setattr__, self.routed
        put(self, "id", self.instance.id)
        put(self, "release", self.instance.release)
        put(self, "role", self.instance.role)
        put(self, "weight", routed.weight if routed else 0)
        put(self, "up", routed is not None and routed.up)
        put(self, "state", self._state())

    def _state(self) -> str:
        observed = self.observed.state
        if self.instance.ending is not None:
            return "ending" if observed == "ending" else "dead"
        if observed == "absent":
            return "dead" if self.was_made else "planned"
        return "dead" if observed in ("stopped", "ending") else observed

    @property
    def lives(self) -> bool:
        """It is there or to come."""
        return self.state not in ("dead", "ending")

    @property
    def was_made(self) -> bool:
        return self.instance.was_made

    @property
    def is_there(self) -> bool:
        """Something of it runs, whatever was decided."""
        return self.observed.state in ("running", "ending")

    @property
    def began_at(self) -> datetime:
        return self.instance.started_at or self.instance.created_at

    @property
    def healthy(self) -> bool:
        """Every member of it answers."""
        if self.state != "running":
            return False
        if self.observed.ready is not None:
            return self.observed.ready >= self.instance.members
        return self.probe is not None and self.probe.healthy

    @property
    def silent(self) -> bool:
        """It runs, and was asked in vain."""
        if self.state != "running":
            return False
        if self.observed.ready is not None:
            return self.observed.ready == 0
        return self.probe is not None and not self.probe.healthy

    @property
    def answering(self) -> int:
        """How many of its members answer."""
        if self.observed.ready is not None:
            return self.observed.ready if self.state == "running" else 0
        return self.instance.members if self.healthy or (self.weight and self.up) else 0

    @property
    def cause(self) -> str:
        """Why not all of it is well, where that is known."""
        if self.probe is not None:
            return self.probe.cause
        if self.observed.ready is None:
            return ""
        return self.observed.reason or f"{self.observed.ready} of {self.instance.members} are ready"

    @property
    def sessions(self) -> int | None:
        """Requests in flight; None where nobody knows."""
        return self.routed.sessions if self.routed else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Probation:
    """The active release is watched ``until`` then; ``source`` is the one before, ``endings`` are of those of its
    instances that ended by themselves since its rollout, which ``restored`` these volumes."""

    source: int
    until: datetime
    endings: tuple[Ending, ...] = ()
    restored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An environment at ``now``. ``releases`` has at least the active one, the target, and all with instances.

    ``groups`` are those that serve, ``task_groups`` those that run a task; ``tasks`` are the target's that were begun.
    ``given_tasks`` are those, not of a release's own, whose instances are there still; ``attended``: of which instances
    somebody waits for the end. ``due``: what the clock says is to be begun; ``missed``: what it said, and nobody has
    begun; ``scheduled``: what was begun of each entry last.
    ``tried``: what was replaced in this run already, each as (release, "ended" or "hot"). ``failures``: when
    replacements of the active release were needed lately, or None where a person asked for it just now: then each
    release gets one at once. ``unwell``: groups that have not answered for so long that they are to be replaced; where
    the engine heals them, ``lost`` are those that it has not brought back either.
    ``counts``: somebody counts requests; ``uncounted``: and why it can't be told just now how many there were.
    ``network_is_set``: instances reach what the settings say.
    ``rollout_ended_at``: when the last rollout ended, where nobody knows of a group whether requests are still with it.
    ``quiet_since``: when groups were first seen without traffic; ``well_since``: since when each answers. ``owed``:
    how many groups of the active release ended or were given up and have no successor, of several roles those of the
    first; None: nobody counted, all that are missing. ``endings``: how groups of it ended lately. ``probation``: its
    rollout is over, and it is still watched. ``layouts``: the sizes of the groups that are wanted of each release, as
    the provider says; ``role_layouts`` and ``role_owed``: the same by role, of releases that have several.

    ``whole`` is None but where this is one role alone (``roles.py``): then it is what this is a part of.
    """

    now: datetime
    environment: EnvironmentState
    releases: Mapping[int, Release]
    groups: tuple[GroupView, ...] = ()
    task_groups: tuple[GroupView, ...] = ()
    tasks: tuple[TaskRun, ...] = ()
    given_tasks: tuple[TaskRun, ...] = ()
    attended: frozenset[str] = frozenset()
    due: tuple[Occurrence, ...] = ()
    missed: tuple[Missed, ...] = ()
    scheduled: Mapping[str, TaskRun] = field(default_factory=dict)
    router_running: bool = False
    router_plan: str | None = None  # its fingerprint
    unmade: tuple[str, ...] = ()  # what of it is yet to be made, a sentence each; all else of it works
    settled: bool = True  # no request goes by older weights any more
    network_is_set: bool = True
    previewed: Mapping[int, str] = field(default_factory=dict)
    previewed_beside: Mapping[int, tuple[str, ...]] | None = None
    counts: bool = True
    uncounted: str | None = None
    tried: frozenset[tuple[int, str]] = field(default_factory=frozenset)
    failures: tuple[datetime, ...] | None = None
    unwell: frozenset[str] = field(default_factory=frozenset)
    lost: frozenset[str] = field(default_factory=frozenset)
    rollout_ended_at: datetime | None = None
    quiet_since: Mapping[str, datetime] = field(default_factory=dict)
    well_since: Mapping[str, datetime] = field(default_factory=dict)
    owed: int | None = None
    endings: tuple[Ending, ...] = ()
    probation: Probation | None = None
    traits: Traits = Traits()
    layouts: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    role_layouts: Mapping[tuple[int, str], tuple[int, ...]] = field(default_factory=dict)
    role_owed: Mapping[str, int | None] = field(default_factory=dict)
    whole: Snapshot | None = None

    @property
    def active(self) -> Release | None:
        number = self.environment.active
        return None if number is None else self.releases[number]

    @property
    def target(self) -> Release | None:
        rollout = self.environment.rollout
        return None if rollout is None else self.releases[rollout.target]

    def layout(self, release: Release) -> tuple[int, ...]:
        """Return how many members each of the groups has that are wanted of ``release``.

        Of one that a rollout leaves, those that were wanted when the rollout began.
        """
        known = self.layouts.get(release.number)
        return (1,) * self.settings_of(release).of_role(release.role).instances if known is None else known

    def settings_of(self, release: Release) -> Settings:
        return settings_for(self.environment, release.number)

    @property
    def source(self) -> Release | None:
        """The release that a rollout leaves."""
        rollout = self.environment.rollout
        return None if rollout is None or rollout.source is None else self.releases.get(rollout.source)

    def tried_for(self, release: Release, why: str) -> bool:
        """Tell whether groups of the first role of ``release`` were replaced for that in this run already."""
        return tried_word(release.number, release.role, why) in self.tried

    def service_of(self, group: GroupView) -> Service:
        """Return how instances of a group run."""
        return self.releases[group.release].of_role(group.role).service

    def of(self, release: Release | None) -> tuple[GroupView, ...]:
        """Return the groups of ``release``, oldest first."""
        return self._by_release.get(release.number, ()) if release is not None else ()

    def named(self, names: Collection[str]) -> list[GroupView]:
        """Return the groups that have one of these ids, tasks' too."""
        return [group for group in (*self.groups, *self.task_groups) if group.id in names]

    def others(self, release: Release | None) -> tuple[GroupView, ...]:
        number = None if release is None else release.number
        if not self._by_release.keys() - {number}:
            return ()
        return tuple(group for group in self.groups if group.release != number)

    @property
    def with_instances(self) -> tuple[Release, ...]:
        """The releases that have instances of any role, or are to have them."""
        whole, rollout = self.whole or self, self.environment.rollout
        numbers = {group.release for group in (*whole.groups, *whole.task_groups)}
        numbers |= {self.environment.active, rollout.target if rollout else None} - {None}  # type: ignore[arg-type]
        return tuple(self.releases[number] for number in sorted(numbers))

    @functools.cached_property
    def _by_release(self) -> Mapping[int, tuple[GroupView, ...]]:
        found: dict[int, list[GroupView]] = {}
        for group in self.groups:
            found.setdefault(group.release, []).append(group)
        return {number: tuple(groups) for number, groups in found.items()}

    def drained(self, group: GroupView) -> bool:
        """It has no request in flight, or its time to finish them is over: that decides alone where nobody knows. What
        may get new ones by older weights yet has not, unless another waits for its end to begin."""
        if not self.settled and group.sessions is None and not alone(self.releases[group.release]):
            return False
        return group.sessions == 0 or self.now >= self.drain_deadline(group)

    def drain_deadline(self, group: GroupView) -> datetime:
        release = self.releases[group.release]
        alone = group.release == self.environment.active  # it loses its traffic alone, not with its release
        if alone or group.sessions is None:
            since = self.quiet_since.get(group.id, self.now)
        else:
            since = release.last_active_at or group.instance.created_at
        return since + timedelta(milliseconds=self.service_of(group).stop.drain_ms)


def role_prefix(snapshot: Snapshot, release: Release) -> str:
    """Return the beginning of what is said of one role of ``release``; "" where it has but one."""
    return f"role '{release.role}': " if snapshot.whole is not None and release.role else ""


def tried_word(release: int, role: str, why: str) -> tuple[int, str]:
    """Return how it is noted that groups of a role of a release were replaced."""
    return (release, f"{role}: {why}" if role else why)


def settings_for(environment: EnvironmentState, release: int) -> Settings:
    """Return the settings that the groups of a release follow: the one that a rollout leaves keeps those before."""
    rollout = environment.rollout
    before = rollout.stage.settings_before if rollout is not None else None
    left = rollout is not None and release == rollout.source and release == environment.active
    return before if left and before is not None else environment.settings


def wanted_plan(snapshot: Snapshot, release: Release) -> RouterPlan:
    """Return the plan of a router that serves ``release``, with all its roles, and whatever else has groups."""
    whole = snapshot.whole or snapshot
    served, state = whole.releases[release.number], whole.environment
    serving = (one for one in whole.groups if one.role == whole.releases[one.release].role)
    beside = [whole.releases[number] for number in dict.fromkeys(one.release for one in serving)]
    settings = with_left_doors(state, by_name=snapshot.traits.passes_names)
    return router_plan(state.id, settings, served, beside, state.names)


def with_left_doors(environment: EnvironmentState, *, by_name: bool = False) -> Settings:
    """Return its settings, with the doors that a rollout takes away: those stay open as long as the release has the
    traffic that they are of, where nothing else listens there. ``by_name``: the provider has requests come by names
    without a machine's edge, which gives each to one environment."""
    settings, before = environment.settings, environment.left_settings
    if before is None:
        return settings
    taken = {_port(one) for one in (*settings.all_listen, settings.preview or "")}
    left = {
        key: replace(door, sites=sites)
        for key, door in before.doors.items()
        for sites in (tuple(one for one in door.sites if by_name and one not in settings.names.sites),)
        if key not in settings.doors
        and (door.listen or sites or door.internal)
        and not taken & {_port(one) for one in door.listen}
    }
    return replace(settings, doors={**left, **settings.doors}) if left else settings


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def is_open_for(snapshot: Snapshot, release: Release) -> bool:
    """Tell whether requests are taken as ``release`` needs it."""
    return snapshot.router_plan == wanted_plan(snapshot, release).fingerprint


def in_flight(groups: Iterable[Routed]) -> int | None:
    """Return how many requests ``groups`` have to finish together; None where nobody knows of one of them."""
    sessions = [one.sessions for one in groups]
    return None if None in sessions else sum(one or 0 for one in sessions)


def routed(release: Release) -> bool:
    """Requests go to it: it has a port."""
    return release.service.port is not None


def alone(release: Release) -> bool:
    """It must not run beside another release: it, or a role of it, holds a volume for itself."""
    return any(service.exclusive for service in release.services.values())


def sleeps_when_hot(snapshot: Snapshot, release: Release) -> bool:
    """Hot means created but not started: it must not run beside another, would work though it has no traffic, or
    there is no room for twice the instances (a rolling environment)."""
    rolling = snapshot.environment.settings.rollout.strategy == "rolling"
    return rolling or alone(release) or not routed(release)


def hot_releases(snapshot: Snapshot) -> tuple[Release, ...]:
    """Return the releases to keep ready: those that ran well and had the traffic last, without the active one."""
    candidates = [
        release
        for release in snapshot.releases.values()
        if release.number != snapshot.environment.active and release.ran_well and release.last_active_at
    ]
    candidates.sort(key=lambda release: (release.last_active_at, release.number), reverse=True)
    return tuple(candidates[: snapshot.environment.settings.keep.hot])
