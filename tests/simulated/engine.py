"""An engine in memory that runs groups of members somewhere else: it heals itself, takes seconds, shows what was done a
little later, says "try again" one time in ten, knows no sessions and no counters, and weighs whole groups."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from instar.errors import ProviderError, ProviderUnavailable, RouterError
from instar.model.definition import Service
from instar.model.environment import Check, Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Observation, Observed, Probe, Traffic
from instar.providers.router_plan import RouterPlan
from instar.providers.traits import Traits
from simulated.behaviour import Behaviour, judged
from simulated.clock import VirtualClock
from simulated.effects import Effects

T = TypeVar("T")
MOST_MEMBERS = 2  # of a group
BOOT, HEAL, GRACE = timedelta(seconds=2), timedelta(seconds=3), timedelta(seconds=2)
UNSEEN = timedelta(seconds=1.5)
TRY_AGAIN = 0.1  # of all calls; a third of these was carried out, and its answer lost


class Timed(Generic[T]):
    """A value and when it became so: what it was at any time can be asked."""

    def __init__(self, first: T) -> None:
        self._values: list[tuple[datetime, T]] = []
        self._first = first

    def set(self, at: datetime, value: T) -> None:
        self._values.append((at, value))

    def at(self, when: datetime) -> T:
        return next((value for at, value in reversed(self._values) if at <= when), self._first)


@dataclass(kw_only=True)
class Held:
    """A group as the engine has it. ``begun``: of each member, when it was last begun."""

    group: Instance
    release: Release
    created_at: datetime
    behaviour: Timed[Behaviour]
    begun: list[Timed[datetime]]
    destroyed_at: datetime | None = None

    def ended(self, when: datetime) -> bool:
        """Nothing of it is left."""
        return self.destroyed_at is not None and when >= self.destroyed_at + GRACE

    def ready(self, when: datetime) -> int:
        """Return how many members answer."""
        going = self.destroyed_at is not None and self.destroyed_at <= when
        return 0 if going else sum(self._answers(begun.at(when), when) for begun in self.begun)

    def _answers(self, begun_at: datetime, when: datetime) -> bool:
        behaviour, age_s = self.behaviour.at(when), (when - begun_at).total_seconds()
        ill = behaviour.start_fails or behaviour.hangs or behaviour.answers >= 400
        if ill or age_s < 0 or behaviour.healthy_after_probes is None or age_s < behaviour.healthy_after_probes:
            return False
        if behaviour.dies_after_s is None:
            return True
        return age_s % (behaviour.dies_after_s + HEAL.total_seconds()) < behaviour.dies_after_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A group in the traffic. What the engine does not know is None."""

    weight: int
    up: bool
    sessions: None = None
    served: None = None


@dataclass(kw_only=True)
class Door:
    """Where requests of an environment come in."""

    plan: Timed[str | None] = field(default_factory=lambda: Timed(None))
    exposed: Timed[frozenset[str]] = field(default_factory=lambda: Timed(frozenset()))
    weights: Timed[Mapping[str, int]] = field(default_factory=lambda: Timed({}))


class SimulatedEngine:
    """Implements ``providers.base.Provider`` without any facet. What it holds outlives a crash of who asks it."""

    traits = Traits(
        heals=True,
        waits_to_begin=False,
        heaviest_weight=100,
        of_one_machine=False,
        poll_s=1.0,
        unseen_s=UNSEEN.total_seconds(),
        needs_root=False,
        sees_sessions=False,
    )
    inspects = ends = changes = shells = runs = previews = counts = log_files = measures = maintains = members = None
    edge = layers = sweeps = networks = volumes = None

    def __init__(self, *, clock: VirtualClock, effects: Effects, seed: int = 7) -> None:
        self.clock = clock
        self.effects = effects
        self.violations: list[str] = []
        self.tasks_run: list[tuple[int, str]] = []
        self.refuses: set[str] = set()  # calls that fail for good
        self.asked = 0
        self._luck = random.Random(seed)
        self._groups: dict[str, Held] = {}
        self._logs: dict[str, list[str]] = {}
        self._doors: dict[EnvironmentId, Door] = {}
        self._behaviours: dict[int | str | tuple[int, str], Behaviour] = {}
        self._turn = itertools.count()

    # What tests do to it

    def behave(self, what: int | str | tuple[int, str], behaviour: Behaviour) -> None:
        """Have groups of a release (by number), of one of its tasks, or one group (by id) behave so from now on."""
        self._behaviours[what] = behaviour

    def change(self, name: str, **fields: object) -> None:
        """Change how a group that is there behaves from now on."""
        held, now = self._groups[name], self.clock.elsewhere()
        held.behaviour.set(now, dataclasses.replace(held.behaviour.at(now), **fields))  # type: ignore[arg-type]

    def kill(self, name: str) -> None:
        """End all members of a group now. The engine begins others in their place."""
        held, now = self._groups[name], self.clock.elsewhere()
        for begun in held.begun:
            begun.set(now, now + HEAL)

    def traces(self) -> tuple[str, ...]:
        """Return the ids of all groups of which anything is left."""
        now = self.clock.elsewhere()
        return tuple(name for name, held in self._groups.items() if not held.ended(now))

    def serving(self, environment: EnvironmentId) -> tuple[str, ...]:
        """Return the groups where a request that came now could go, and be answered."""
        now, door = self.clock.elsewhere(), self._doors.get(environment)
        weights = door.weights.at(now) if door is not None and door.plan.at(now) else {}
        return tuple(name for name, weight in weights.items() if weight and self._ready(name, now))

    def weights(self, environment: EnvironmentId) -> Mapping[str, int]:
        """Return the weights of those that have any."""
        door = self._doors.get(environment)
        return (
            {} if door is None else {name: one for name, one in door.weights.at(self.clock.elsewhere()).items() if one}
        )

    def request(self, environment: EnvironmentId) -> str | None:
        """Send a request; return the id of the group that answers it, None when nothing answers well."""
        ready = self.serving(environment)
        weights = self.weights(environment)
        chosen = [name for name in ready for _ in range(weights[name])]
        return chosen[next(self._turn) % len(chosen)] if chosen else None

    def states(self, groups: Sequence[Instance]) -> list[str]:
        """Return the state of each of ``groups``, as it is just now."""
        return [self._observed(group, self.clock.elsewhere()).state for group in groups]

    def previewed(self, environment: EnvironmentId) -> Mapping[int, str]:
        return {}

    def reachable(self, environment: EnvironmentId) -> tuple[str, ...]:
        """Return the groups that could have traffic: they are exposed, and answer."""
        now, door = self.clock.elsewhere(), self._doors.get(environment)
        return tuple(name for name in (door.exposed.at(now) if door is not None else ()) if self._ready(name, now))

    # The protocol

    def preflight(
        self,
        environment: EnvironmentId,
        settings: Settings,
        service: Service,
        *,
        launching: bool,
        others: Mapping[str, Service] | None = None,
    ) -> tuple[str, ...]:
        return ()

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        whole, rest = divmod(settings.instances, MOST_MEMBERS)
        return (MOST_MEMBERS,) * whole + ((rest,) if rest else ())

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        with self._answering("publish"):
            pass

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        with self._answering("observe"):
            when = self.clock.elsewhere() - UNSEEN
            return Observation(
                groups=tuple(self._observed(group, when) for group in groups), traffic=self._traffic(environment, when)
            )

    def create(self, group: Instance, release: Release, image: Image) -> None:
        behaviour = self._behaviour_of(group)
        if behaviour.create_fails:
            raise ProviderError(f"cannot create '{group.id}': {behaviour.create_fails}")
        with self._answering(f"create {group.id}"):
            if group.id in self._groups:
                return
            with self.effects.step(f"create {group.id}"):
                now = self.clock.elsewhere()
                begun = [Timed(now + BOOT) for _ in range(group.members)]
                held = Held(group=group, release=release, created_at=now, behaviour=Timed(behaviour), begun=begun)
                self._look_for_clashes(held)
                self._groups[group.id] = held
                self._logs.setdefault(group.id, []).extend(behaviour.says)
                if group.task is not None:
                    self.tasks_run.append((group.release, group.task))

    def start(self, group: Instance) -> None:
        with self._answering(f"start {group.id}"):
            if group.id not in self._groups:
                raise ProviderError(f"cannot start '{group.id}': it was not created")

    def destroy(self, group: Instance, release: Release) -> bool:
        with self._answering(f"destroy {group.id}"):
            held = self._groups.get(group.id)
            if held is None or held.destroyed_at is not None:
                return held is None or held.ended(self.clock.elsewhere())
            if group.id in self.serving(group.environment):
                self.violations.append(f"{group.id} was stopped while it had traffic")
            with self.effects.step(f"destroy {group.id}"):
                held.destroyed_at = self.clock.elsewhere()
            return False

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        environment = release.environment
        with self._answering(f"expose {environment}"):
            door = self._doors.get(environment, Door())
            now = self.clock.elsewhere()
            names = door.exposed.at(now) | {group.id for group in groups}
            mark = door.plan.at(now) if plan is None else plan.fingerprint
            if mark is None:
                raise RouterError(f"cannot expose groups of '{environment}': nothing takes its requests")
            if (names, mark) == (door.exposed.at(now), door.plan.at(now)):
                return
            with self.effects.step(f"expose {environment} {' '.join(sorted(names))}"):
                now = self.clock.elsewhere()
                self._doors[environment] = door
                door.exposed.set(now, names)
                door.plan.set(now, mark)

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float | None:
        with self._answering(f"route {environment}"):
            door, now = self._doors.get(environment), self.clock.elsewhere()
            if door is None or door.plan.at(now) is None:
                if weights:
                    raise RouterError(f"cannot route for '{environment}': nothing takes its requests")
                return None
            unknown = weights.keys() - door.exposed.at(now)
            if unknown:
                raise RouterError(f"cannot route to '{min(unknown)}': it is not exposed")
            if not all(1 <= weight <= self.traits.heaviest_weight for weight in weights.values()):
                raise RouterError(f"cannot route for '{environment}': {weights} are no weights")
            if dict(door.weights.at(now)) != dict(weights):
                with self.effects.step(f"route {environment} {' '.join(weights)}"):
                    door.weights.set(self.clock.elsewhere(), dict(weights))
            return None

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> int | None:
        with self._answering(f"withdraw {environment}"):
            door, now = self._doors.get(environment), self.clock.elsewhere()
            if door is not None and door.exposed.at(now) & set(names):
                with self.effects.step(f"withdraw {environment} {' '.join(names)}"):
                    now = self.clock.elsewhere()
                    kept = {name: one for name, one in door.weights.at(now).items() if name not in names}
                    door.exposed.set(now, door.exposed.at(now) - set(names))
                    door.weights.set(now, kept)
            return None

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        with self._answering(f"ask {group.id}"):
            self.asked += 1
            held, now = self._groups.get(group.id), self.clock.elsewhere()
            if check is not None:
                return judged(check, self._behaviour_of(group))
            well = held is not None and held.ready(now) == group.members
            return Probe(healthy=well, cause="" if well else "not every member is ready")

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        with self._answering(f"logs of {instance_id}"):
            lines = self._logs.get(instance_id, [])
            yield from lines if last is None else lines[len(lines) - min(last, len(lines)) :]

    def has_log(self, instance_id: str) -> bool:
        return instance_id in self._logs

    def forget_logs(self, names: Sequence[str]) -> None:
        self._logs = {name: kept for name, kept in self._logs.items() if name not in names}

    def close(self, environment: EnvironmentId) -> None:
        with self._answering(f"close {environment}"):
            door = self._doors.get(environment)
            if door is not None and door.plan.at(self.clock.elsewhere()) is not None:
                with self.effects.step(f"close {environment}"):
                    now = self.clock.elsewhere()
                    door.plan.set(now, None)
                    door.exposed.set(now, frozenset())
                    door.weights.set(now, {})

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        with self.effects.step(f"forget {environment}"):
            self.forget_logs(names)

    # How it works

    @contextlib.contextmanager
    def _answering(self, call: str) -> Iterator[None]:
        """Refuse for good, say "try again", lose the answer, or do it."""
        verb = call.partition(" ")[0]
        if verb in self.refuses:
            raise ProviderError(f"cannot {call}: the engine refuses")
        luck = self._luck.random()
        if luck < TRY_AGAIN * 2 / 3:
            raise ProviderUnavailable(f"cannot {call}: the engine says: try again")
        yield
        if luck < TRY_AGAIN:
            raise ProviderUnavailable(f"cannot {call}: there was no answer")

    def _observed(self, group: Instance, when: datetime) -> Observed:
        held = self._groups.get(group.id)
        if held is None or held.created_at > when or held.ended(when):
            return Observed(id=group.id, state="absent")
        if held.destroyed_at is not None and held.destroyed_at <= when:
            return Observed(id=group.id, state="ending")
        if group.task is None:
            return Observed(id=group.id, state="running", ready=held.ready(when))
        return self._observed_task(held, when)

    def _observed_task(self, held: Held, when: datetime) -> Observed:
        behaviour = held.behaviour.at(when)
        ends_at = held.created_at + BOOT + timedelta(seconds=behaviour.task_lasts_s)
        if behaviour.task_hangs or when < ends_at:
            return Observed(id=held.group.id, state="running", ready=0)
        return Observed(id=held.group.id, state="stopped", exit_status=behaviour.task_exit_status)

    def _traffic(self, environment: EnvironmentId, when: datetime) -> Traffic:
        door = self._doors.get(environment)
        plan = door.plan.at(when) if door is not None else None
        if door is None or plan is None:
            return Traffic()
        weights = door.weights.at(when)
        groups = {
            name: Share(weight=weights.get(name, 0), up=self._ready(name, when)) for name in door.exposed.at(when)
        }
        return Traffic(running=True, plan=plan, groups=groups)

    def _ready(self, name: str, when: datetime) -> bool:
        held = self._groups.get(name)
        return held is not None and held.created_at <= when and held.ready(when) > 0

    def _behaviour_of(self, group: Instance) -> Behaviour:
        narrower = (group.id, (group.release, group.task or ""), group.release)
        return next((self._behaviours[one] for one in narrower if one in self._behaviours), Behaviour())

    def _look_for_clashes(self, new: Held) -> None:
        if new.group.task is not None:
            return
        now = self.clock.elsewhere()
        for other in self._groups.values():
            beside = other.group.environment == new.group.environment and other.group.task is None
            exclusive = new.release.service.exclusive or other.release.service.exclusive
            if new.group.role != other.group.role:  # roles know only of the volumes that they have
                (one, ones), (another, others) = map(_volumes, (new.release.service, other.release.service))
                exclusive = bool(one & others | ones & another)
            if beside and exclusive and not other.ended(now):
                self.violations.append(f"{new.group.id} and {other.group.id} share an exclusive volume")


def _volumes(service: Service) -> tuple[set[str], set[str]]:
    """Return the names of a service's volumes, and of those that it has for itself."""
    return {one.name for one in service.volumes}, {one.name for one in service.volumes if one.access == "exclusive"}
