"""The port on one machine: a runtime and a router make a provider whose groups have one instance each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.drift import Finding, TakenNames
from instar.model.environment import Check, Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Observation, Probe, Subject, Traffic
from instar.providers.doors import Ports
from instar.providers.facets import (
    Counts,
    Ends,
    Layers,
    LogFiles,
    Maintains,
    Measures,
    Networks,
    Previews,
    Runs,
    Shells,
    Volumes,
)
from instar.providers.machine_router import MachineEdge, Router
from instar.providers.machine_runtime import Runtime
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RouterState, Target
from instar.providers.traits import Traits

_WITHOUT_NAME: Final = "without a name for instances"  # in the place of a plan that is in force but for that


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineProvider:
    """Implements :class:`instar.providers.base.Provider`, with every facet. Its groups have one member each."""

    runtime: Runtime
    router: Router
    edge: MachineEdge | None = None
    log_files: LogFiles | None = None
    traits: Traits = Traits(finds_names=True, finds_roles=True)

    @property
    def inspects(self) -> MachineInspection:
        return MachineInspection(runtime=self.runtime, routes=self.router, edge=self.edge)

    @property
    def ends(self) -> Ends:
        return self.runtime

    @property
    def shells(self) -> Shells:
        return self.runtime

    @property
    def runs(self) -> Runs:
        return self.runtime

    @property
    def previews(self) -> Previews:
        return self.router

    @property
    def counts(self) -> Counts:
        return self.router

    @property
    def maintains(self) -> Maintains:
        return self.router

    @property
    def measures(self) -> Measures:
        return self.runtime

    @property
    def members(self) -> None:
        return None

    @property
    def changes(self) -> None:
        return None

    @property
    def layers(self) -> Layers:
        return self.runtime

    @property
    def sweeps(self) -> MachineProvider:
        return self

    @property
    def networks(self) -> Networks:
        return self.runtime

    @property
    def volumes(self) -> Volumes:
        return self.runtime

    def preflight(
        self,
        environment: EnvironmentId,
        settings: Settings,
        service: Service,
        *,
        launching: bool,
        others: Mapping[str, Service] | None = None,
    ) -> tuple[str, ...]:
        if launching:
            each = [(settings.of_role(role).instances, one) for role, one in (others or {}).items()]
            self._require_room(environment, [(settings.instances, service), *each])
        if service.port is not None and settings.is_reached:
            beside = {role: (one,) for role, one in (others or {}).items()}
            self.router.check(RouterPlan.of(environment, settings, service, roles=beside))
        if service.port is not None and settings.names.sites and self.edge is not None:
            self.edge.check()
        return self.runtime.warnings()

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        return (1,) * settings.instances

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        """It is in the store of this machine already."""

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        observed = self.runtime.observe(groups)
        router = self.router.observe(environment)
        plan = None if router.plan is None else self._with_names(environment, router.plan).fingerprint
        traffic = Traffic(
            running=router.running,
            plan=plan if plan is None or self._is_named(environment, router) else _WITHOUT_NAME,
            groups={item.target.name: item for item in router.targets},
            previewed=router.previewed,
            previewed_beside=router.previewed_beside,
            unanswered=router.unanswered,
        )
        return Observation(groups=observed, traffic=traffic)

    def create(self, group: Instance, release: Release, image: Image) -> None:
        self.runtime.create(group, release, image)

    def start(self, group: Instance) -> None:
        self.runtime.start(group)

    def destroy(self, group: Instance, release: Release) -> bool:
        return self.runtime.destroy(group, release)

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        service = release.service.port
        inside = () if service is None else (self.runtime.name(release.environment, service),)
        if plan is not None:
            roles = [one.key for one in plan.role_doors]
            self._ensure(plan, inside, {role: self.runtime.name(release.environment, None, role) for role in roles})
        if groups:
            targets = _targets(self.runtime, groups, _ports(release, groups))
            if len(targets) < len(groups):
                lost = sorted({one.id for one in groups} - {one.name for one in targets})[0]
                raise ProviderError(
                    f"cannot send requests to '{lost}': what says its address is damaged, or gone",
                    hint=f"have it replaced: instar taint {release.environment} {lost}",
                )
            self.router.attach(release.environment, targets)

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        return self.router.route(environment, weights)

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        cut = self.router.detach(environment, names)
        self.runtime.release(names)
        return cut

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        return self.runtime.probe(group, release) if check is None else self.runtime.check(group, release, check)

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        return self.runtime.log_lines(instance_id, last=last, follow=follow)

    def has_log(self, instance_id: str) -> bool:
        return self.runtime.has_log(instance_id)

    def forget_logs(self, names: Sequence[str]) -> None:
        self.runtime.forget_logs(names)

    def close(self, environment: EnvironmentId) -> None:
        if self.edge is not None:
            self.edge.remove(environment)
        self.router.remove(environment)

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        self.runtime.forget(environment, names, volumes=volumes)

    def sweep(
        self, groups: Callable[[], Sequence[Instance]], environments: Callable[[], Sequence[EnvironmentId]]
    ) -> tuple[str, ...]:
        self.runtime.let_go_of_names(environments())
        return (
            *self.runtime.clear_orphans(groups),
            *(() if self.edge is None else self.edge.clear_orphans(environments)),
            *self.router.clear_orphans(environments),
        )

    def _ensure(
        self, plan: RouterPlan, inside: tuple[str, ...] = (), beside: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """What comes by name finds a router that takes it, before it comes and as long as it does."""
        if self.edge is None:
            self.router.ensure(plan, inside=inside, beside=beside)
        elif plan.names.sites or plan.expected:
            self.router.ensure(plan, inside=inside, beside=beside)
            self.edge.ensure(plan)
        else:
            self.router.ensure(plan, door=self.edge.ensure(plan), inside=inside, beside=beside)

    def _is_named(self, environment: EnvironmentId, router: RouterState) -> bool:
        """Tell whether instances that find the environment by name get to its router: that of an older Instar listens
        for none."""
        doors = router.plan.role_doors if router.plan is not None else ()
        roles = {one.key: self.runtime.find_name(environment, one.key) for one in doors}
        own = bool(router.inside) and router.inside == (self.runtime.find_name(environment),)
        return own and dict(router.inside_beside) == roles

    def _with_names(self, environment: EnvironmentId, plan: RouterPlan) -> RouterPlan:
        passed = None if self.edge is None else self.edge.passed(environment)
        return plan if passed is None else replace(plan, names=passed.names, expected=passed.expected)

    def _require_room(self, environment: EnvironmentId, wanted: Sequence[tuple[int, Service]]) -> None:
        """``wanted``: how many instances, and of what."""
        addresses, count = self.runtime.room_addresses(), sum(number for number, _ in wanted)
        if count > addresses:
            raise Refused(
                f"cannot launch {count} instances of '{environment}': "
                f"this machine's network has {addresses} free addresses",
                hint="destroy environments that are not needed any more: instar status shows all",
            )
        needed = sum(number * service.limits.memory_bytes for number, service in wanted)
        room = self.runtime.room_bytes()
        if needed > room:
            each = " and ".join(f"{number} of {service.limits.memory_bytes >> 20} MiB" for number, service in wanted)
            shown = f"{each} each" if len(wanted) == 1 else each
            raise Refused(
                f"cannot start {shown.replace(' of ', ' instances of ', 1)}: "
                f"this machine has {room >> 20} MiB left beside what runs",
                hint="lower 'limits.memory' or 'instances', or stop something",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineInspection:
    """Implements :class:`instar.providers.facets.Inspects`."""

    runtime: Runtime
    routes: Router
    edge: MachineEdge | None = None

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        return self.runtime.inspect(subjects, deep=deep)

    def inspect_router(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        return self.routes.inspect(environment)

    def taken_names(self, environment: EnvironmentId) -> TakenNames:
        return TakenNames()  # the machine's edge gives a name to one alone

    def router(self, environment: EnvironmentId) -> RouterState:
        return self.routes.observe(environment)

    def targets(self, groups: Sequence[Instance], ports: Mapping[tuple[int, str], Ports]) -> tuple[Target, ...]:
        return _targets(self.runtime, groups, ports)

    def restore_router(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        active: Release | None = None,
        groups: Sequence[Instance] = (),
    ) -> bool:
        name = self.runtime.find_name(plan.environment)
        roles = [one.key for one in plan.role_doors]
        known = {role: self.runtime.find_name(plan.environment, role) for role in roles}
        beside = {role: where for role, where in known.items() if where is not None}
        restored = self.routes.restore(plan, targets, inside=() if name is None else (name,), beside=beside)
        if self.edge is not None and (plan.names.sites or plan.expected):
            return self.edge.restore(plan) and restored
        return restored

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        return self.runtime.processes(instance)


def _ports(release: Release, groups: Sequence[Instance]) -> Mapping[tuple[int, str], Ports]:
    found = {one.role: Ports.of(release, one.role) for one in groups}
    return {(release.number, role): one for role, one in found.items() if one is not None}


def _targets(
    runtime: Runtime, groups: Sequence[Instance], ports: Mapping[tuple[int, str], Ports]
) -> tuple[Target, ...]:
    there = ((one, runtime.find_address(one), ports.get((one.release, one.role))) for one in groups)
    return tuple(
        Target(name=one.id, address=at, port=own.port, door=own.door, ports=own.more)
        for one, at, own in there
        if at is not None and own is not None
    )
