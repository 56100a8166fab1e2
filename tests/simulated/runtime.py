"""A runtime whose instances are rows in memory and misbehave as they are told."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from instar.errors import ProviderError
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.environment import Check
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.survey import Seen
from instar.model.usage import Measured, Usage
from instar.providers.base import NetworkPlan, Observed, Probe, Shell, Streams, Subject
from instar.providers.commands import command_of, key_of_command, volumes_of
from instar.providers.facets import Attachment, Member
from simulated.behaviour import Behaviour, asked_for, judged
from simulated.clock import VirtualClock
from simulated.data import SimulatedVolumes
from simulated.effects import Effects
from simulated.names import SimulatedNames
from simulated.shell import SimulatedAttachment, SimulatedShell
from simulated.usage import measured


@dataclass(kw_only=True)
class Simulated:
    """What this machine has of an instance. ``half``: its creation or its removal did not get to its end."""

    instance: Instance
    release: Release
    behaviour: Behaviour
    half: bool = True
    pid: int | None = None
    started_at: datetime | None = None
    told_at: datetime | None = None  # to end
    killed: tuple[datetime, int] | None = None
    starved: bool = False
    probes: int = 0
    seen: Observed | None = None  # what was last said of it
    files: dict[str, Seen] = field(default_factory=dict)  # of its /tmp


class SimulatedRuntime(SimulatedVolumes, SimulatedNames):
    """Implements ``providers.base.Runtime``. What it holds stands for the machine: it outlives a crash.

    Tests give faults with :meth:`behave`, :meth:`kill`, :meth:`reboot`, and look at ``violations``: what must
    never happen (two releases with an exclusive volume at once, one stopped while it answers requests) and did.
    ``has_traffic`` is the router's word on an instance.
    ``tasks_run`` has every task that was begun, as (release, name), ``checked`` every check, as (instance, asked for).
    """

    def __init__(self, *, clock: VirtualClock, effects: Effects, room_bytes: int = 8 << 30) -> None:
        super().__init__(effects)
        self.clock = clock
        self.violations: list[str] = []
        self.has_traffic: Callable[[str], bool] = lambda name: False
        self.keep_volumes(clock, effects)
        self.data.has, self.data.violated = self._having, self.violations.append
        self.warned: tuple[str, ...] = ()
        self.tasks_run: list[tuple[int, str]] = []
        self.checked: list[tuple[str, str]] = []
        self.drifted: dict[str, tuple[Finding, ...]] = {}  # what an inspection of an instance finds
        self._plans: dict[EnvironmentId, NetworkPlan] = {}
        self.network_drifted: tuple[Finding, ...] = ()
        self.uses: dict[str, Usage] = {}
        self._room_bytes = room_bytes
        self._machine: dict[str, Simulated] = {}
        self._at: dict[str, Simulated] = {}  # by address
        self._logs: dict[str, list[str]] = {}
        self._behaviours: dict[int | str | tuple[int, str], Behaviour] = {}
        self._last_pid = 1000
        self._guard = effects.guard  # one for all: a watcher looks at everything

    # What tests do to it

    def behave(self, what: int | str | tuple[int, str], behaviour: Behaviour) -> None:
        """Have instances of a release (by number), of one of its tasks (by number and name), or one instance (by id)
        behave so from their creation on. The narrowest counts."""
        self._behaviours[what] = behaviour

    def change(self, instance_id: str, **fields: object) -> None:
        """Change how an instance that is there behaves from now on: ``change(id, answers=500)``."""
        found = self._machine[instance_id]
        found.behaviour = dataclasses.replace(found.behaviour, **fields)  # type: ignore[arg-type]

    def kill(self, instance_id: str, *, exit_status: int = 137, out_of_memory: bool = False) -> None:
        """End an instance's process now."""
        found = self._machine[instance_id]
        found.killed, found.starved = (self.clock.peek(), exit_status), out_of_memory

    def reboot(self) -> None:
        """The machine starts anew: every instance is gone, logs and volumes are not."""
        self._plans.clear()
        self._machine.clear()
        self._at.clear()

    def found_running(self, instance: Instance, release: Release) -> None:
        """Have an instance there that was created and started before anybody looked."""
        since = instance.started_at or instance.created_at
        self._put(
            Simulated(
                instance=instance,
                release=release,
                behaviour=self._behaviour_of(instance),
                half=False,
                pid=1,
                started_at=since,
            )
        )

    def traces(self) -> tuple[str, ...]:
        """Return the names of all instances of which anything is left on the machine."""
        return tuple(self._machine)

    def well_at(self, address: str, port: int) -> bool:
        """Tell whether something answers well there: what a router's own check finds."""
        found = self._at.get(address)
        if found is None or found.instance.task is not None or found.release.service.port != port:
            return False
        return self._state(found) == "running" and not self._cause(found)

    def behaviour_at(self, address: str) -> Behaviour:
        """Return how what is there answers requests."""
        return self._at[address].behaviour if address in self._at else Behaviour()

    # The protocol

    def find_address(self, instance: Instance) -> str:
        return f"10.99.{instance.serial >> 8 & 255}.{instance.serial & 255}"

    def room_addresses(self) -> int:
        return 65_000

    def release(self, instances: Sequence[str]) -> None:
        pass

    def network_plan(self, environment: EnvironmentId) -> NetworkPlan | None:
        return self._plans.get(environment)

    def set_network(self, plan: NetworkPlan) -> bool:
        with self.effects.step(f"set network of {plan.environment}"):
            self._plans[plan.environment] = plan
        return False

    def cut(self, plan: NetworkPlan, instances: Sequence[Instance]) -> Mapping[str, tuple[str, ...]]:
        return {}

    def inspect_network(self) -> tuple[Finding, ...]:
        return self.network_drifted

    def restore_network(self) -> bool:
        with self.effects.step("restore network"):
            amiss, self.network_drifted = bool(self.network_drifted), ()
            return amiss

    def room_bytes(self) -> int:
        running = (found.release.service.limits.memory_bytes for found in self._machine.values())
        return self._room_bytes - sum(running)

    def create(self, instance: Instance, release: Release, image: Image) -> None:
        with self._guard:
            found = self._machine.get(instance.id)
            if found and not found.half and self._state(found) in ("created", "running"):
                return
            try:
                command_of(instance, release)
            except ProviderError as error:
                raise ProviderError(f"cannot create '{instance.id}': {error.message}") from error
            self._make(instance, release)

    def start(self, instance: Instance) -> None:
        with self._guard:
            found = self._machine.get(instance.id)
            if found is None or found.half:
                raise ProviderError(f"cannot start '{instance.id}': it was not created")
            if found.started_at is not None:
                return
            if found.behaviour.start_fails:
                raise ProviderError(f"cannot start '{instance.id}': {found.behaviour.start_fails}")
            with self.effects.step(f"start {instance.id}"):
                found.started_at, says = self.clock.now(), found.behaviour.says
                if instance.task is not None:
                    self.tasks_run.append((instance.release, instance.task))
                self._logs[instance.id].extend(f"{found.started_at.isoformat()} stdout {text}" for text in says)
                self._look_for_clashes(found)
                for volume in volumes_of(found.instance, found.release):
                    self.data.wrote(instance.environment, volume.name, instance.task or str(instance.release))

    def observe(self, instances: Sequence[Instance]) -> tuple[Observed, ...]:
        with self._guard:
            return tuple(self._observed(instance) for instance in instances)

    def measure(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Measured:
        with self._guard:
            began = {name: one.started_at for name, one in self._machine.items()}
            return measured(self.observe(groups), began, self.clock.peek(), self.uses)

    def end_of(self, instance: Instance) -> int | None:
        return None  # its time is virtual, and nothing waits for it

    def probe(self, instance: Instance, release: Release) -> Probe:
        with self._guard:
            found = self._machine.get(instance.id)
            if found is None or self._state(found) != "running":
                return Probe(healthy=False, cause="connection refused")
            found.probes += 1
            cause = self._cause(found)
        if cause and found.behaviour.hangs:
            self.clock.sleep(release.service.health.timeout_ms / 1000)
        return Probe(healthy=not cause, cause=cause)

    def check(self, instance: Instance, release: Release, check: Check) -> Probe:
        with self._guard:
            self.checked.append((instance.id, asked_for(check)))
            found = self._machine.get(instance.id)
            if check.kind != "url" and (found is None or self._state(found) != "running"):
                return Probe(healthy=False, cause="it is not running")
            behaviour = found.behaviour if found else self._behaviour_of(instance)
        if behaviour.hangs and check.kind != "url":
            self.clock.sleep(check.timeout_ms / 1000)
        return judged(check, behaviour)

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        with self._guard:
            seen = self.observe([subject.instance for subject in subjects])
            running = {one.id for one in seen if one.state in ("created", "running", "ending")}
            return tuple(finding for name in sorted(running) for finding in self.drifted.get(name, ()))

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        found = self._machine.get(instance.id)
        return ({"pid": found.pid},) if found is not None and found.pid is not None else ()

    def first_process(self, instance: Instance) -> object | None:
        """Return what tells its first process from any other's, while it lives."""
        return found.pid if (found := self._machine.get(instance.id)) and self._state(found) != "stopped" else None

    def destroy(self, instance: Instance, release: Release) -> bool:
        with self._guard:
            found = self._machine.get(instance.id)
            if found is None:
                return True
            if not found.half:
                answers = self.well_at(self.find_address(instance), release.service.port or 0)
                if answers and self.has_traffic(instance.id):
                    self.violations.append(f"{instance.id} was stopped while it had traffic")
                if self._takes_its_time(found):
                    return False
                with self.effects.step(f"stop {instance.id}"):
                    found.half, found.pid = True, None
            with self.effects.step(f"remove {instance.id}"):
                self._take(instance.id)
            return True

    def clear_orphans(self, known: Callable[[], Sequence[Instance]]) -> tuple[str, ...]:
        names = {instance.id for instance in known()}
        with self._guard:
            orphans = [found for name, found in self._machine.items() if name not in names]
            for found in orphans:
                found.half = True
                self.destroy(found.instance, found.release)
            return tuple(found.instance.id for found in orphans)

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        lines = self._logs.get(instance_id, [])
        yield from lines if last is None else lines[len(lines) - min(last, len(lines)) :]

    def layers_in_use(self) -> Collection[Digest]:
        return ()

    def has_log(self, instance_id: str) -> bool:
        return instance_id in self._logs

    def forget_logs(self, names: Sequence[str]) -> None:
        self._logs = {name: kept for name, kept in self._logs.items() if name not in names}

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        with self.effects.step(f"forget {environment}"):
            self._plans.pop(environment, None)
            self.forget_logs(names)
            if volumes:
                self.volumes_of = {kept for kept in self.volumes_of if kept[0] != environment}

    def _having(self, environment: EnvironmentId, name: str) -> list[str]:
        return [
            one.instance.id
            for one in self._machine.values()
            if one.instance.environment == environment and any(it.name == name for it in one.release.service.volumes)
        ]

    def open_shell(self, instance: Instance, release: Release, *, toolbox: bool, member: Member | None = None) -> Shell:
        with self._guard:
            found = self._machine.get(instance.id)
            if found is None or self._state(found) != "running":
                raise ProviderError(f"cannot open a shell in '{instance.id}': it does not run")
            if not (found.behaviour.has_shell or toolbox):
                raise ProviderError(f"cannot open a shell in '{instance.id}': no shell", hint="add --toolbox")
            return SimulatedShell(runs=lambda: self._machine.get(instance.id) is found, files=found.files)

    def attach(self, instance: Instance, release: Release, streams: Streams) -> Attachment:
        with self.effects.step(f"attach {instance.id}"), self._guard:
            found = self._machine.get(instance.id)
            if found is None or self._state(found) != "running":
                raise ProviderError(f"cannot run a command in '{instance.id}': it does not run")
            return SimulatedAttachment(status=found.behaviour.task_exit_status)

    def warnings(self) -> tuple[str, ...]:
        return self.warned

    # How it works

    def _put(self, made: Simulated) -> None:
        self._machine[made.instance.id] = self._at[self.find_address(made.instance)] = made

    def _take(self, name: str) -> None:
        if name in self._machine:
            del self._at[self.find_address(self._machine.pop(name).instance)]

    def _make(self, instance: Instance, release: Release) -> None:
        behaviour = self._behaviour_of(instance)
        made = Simulated(instance=instance, release=release, behaviour=behaviour)
        with self.effects.step(f"prepare {instance.id}"):
            self._put(made)
            self._logs.setdefault(instance.id, [])
            self.volumes_of |= {(instance.environment, volume.name) for volume in release.service.volumes}
            self._look_for_clashes(made)
        if behaviour.create_fails:
            with self.effects.step(f"remove {instance.id}"):
                self._take(instance.id)
            hint = f"{key_of_command(instance)} in the definition, or what the image is made of"
            raise ProviderError(f"cannot create '{instance.id}': {behaviour.create_fails}", hint=hint)
        with self.effects.step(f"create {instance.id}"):
            self._last_pid += 1
            made.half, made.pid = False, self._last_pid

    def _behaviour_of(self, instance: Instance) -> Behaviour:
        narrower = (instance.id, (instance.release, instance.task or ""), instance.release)
        return next((self._behaviours[one] for one in narrower if one in self._behaviours), Behaviour())

    def _observed(self, instance: Instance) -> Observed:
        name, address = instance.id, self.find_address(instance)
        found = self._machine.get(name)
        if found is None or found.half:
            return Observed(id=name, state="absent")
        state = "ending" if self._has_time(found) else self._state(found)
        if state != "stopped":
            if found.seen is None or found.seen.state != state:
                found.seen = Observed(id=name, state=state, address=address)
            return found.seen
        behaviour = found.behaviour
        own = behaviour.exit_status if found.instance.task is None else behaviour.task_exit_status
        status = found.killed[1] if found.killed else 143 if found.told_at else own
        number = status - 128
        by_signal = signal.Signals(number).name if number in signal.valid_signals() else None
        return Observed(
            id=name,
            state=state,
            address=address,
            exit_status=status,
            reason="killed: out of memory" if found.starved else f"killed: {by_signal}" if by_signal else None,
            signal=by_signal,
            out_of_memory=found.starved,
        )

    def _state(self, found: Simulated) -> Literal["created", "running", "stopped"]:
        if found.killed and self.clock.peek() >= found.killed[0]:
            return "stopped"
        if found.started_at is None:
            return "created"
        if found.told_at and self.clock.elsewhere() >= found.told_at + timedelta(seconds=found.behaviour.ends_after_s):
            return "stopped"
        life = _life_s(found)
        over = life is not None and self.clock.peek() >= found.started_at + timedelta(seconds=life)
        return "stopped" if over else "running"

    def _takes_its_time(self, found: Simulated) -> bool:
        """Tell it to end, if it runs and nobody has; return whether it has not yet, and has time to."""
        if found.told_at is None and found.behaviour.ends_after_s and self._state(found) == "running":
            with self.effects.step(f"tell {found.instance.id}"):
                found.told_at = self.clock.elsewhere()
        return self._has_time(found)

    def _has_time(self, found: Simulated) -> bool:
        grace = timedelta(milliseconds=found.release.service.stop.grace_ms)
        lasts = found.told_at is not None and self.clock.elsewhere() < found.told_at + grace
        return lasts and self._state(found) == "running"

    def _cause(self, found: Simulated) -> str:
        health, behaviour = found.release.service.health, found.behaviour
        if health.kind == "none":
            return ""
        if found.instance.task is not None:
            return "connection refused"
        asked = f"GET {health.path}" if health.kind == "http" else health.kind
        if behaviour.hangs:
            return f"{asked} did not answer within {health.timeout_ms / 1000:g} s"
        if behaviour.answers >= 400:
            return f"{asked} answered {behaviour.answers}"
        if behaviour.healthy_after_probes is None or found.probes < behaviour.healthy_after_probes:
            return "connection refused"
        return ""

    def _look_for_clashes(self, new: Simulated) -> None:
        for other in self._machine.values():
            if other.instance.environment == new.instance.environment and self._both_run(new, other):
                self.violations.append(f"{new.instance.id} and {other.instance.id} share an exclusive volume")

    def _both_run(self, new: Simulated, other: Simulated) -> bool:
        exclusive = new.release.service.exclusive or other.release.service.exclusive
        another = other is not new
        if new.instance.role != other.instance.role:  # roles know only of the volumes that they have
            exclusive = bool(_exclusive(new) & _volumes(other) | _volumes(new) & _exclusive(other))
        if new.instance.task or other.instance.task:  # that of a release may work beside its service
            exclusive = bool(_exclusive(new) & _exclusive(other))
            another = other.instance.release != new.instance.release
        running = new.started_at is not None and not other.half and self._state(other) == "running"
        return exclusive and running and another


def _volumes(found: Simulated) -> set[str]:
    return {one.name for one in volumes_of(found.instance, found.release)}


def _exclusive(found: Simulated) -> set[str]:
    return {one.name for one in volumes_of(found.instance, found.release) if one.access == "exclusive"}


def _life_s(found: Simulated) -> float | None:
    """Return how long it runs after its start unless somebody ends it; None: for ever."""
    behaviour = found.behaviour
    if found.instance.task is None:
        return behaviour.dies_after_s
    return None if behaviour.task_hangs else behaviour.task_lasts_s
