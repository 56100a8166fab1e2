"""The port on one machine: a runtime and a router make a provider whose groups have one instance each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from instar.errors import ProviderError, Refused
from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.drift import Finding, TakenNames
from instar.model.environment import Check, Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Observation, Observed, Probe, RouterPlan, RouterState, Subject, Target, Traffic
from instar.providers.doors import Ports
from instar.providers.facets import (
    Counts,
    Edge,
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
from instar.providers.traits import Traits


class Runtime(Networks, Volumes, Layers, Shells, Runs, Ends, Measures, Protocol):
    """Where instances run."""

    def room_bytes(self) -> int:
        """Return how much memory this machine can still give to new instances."""

    def room_addresses(self) -> int:
        """Return how many more instances can have an address of this machine's network."""

    def find_address(self, instance: Instance) -> str | None:
        """Return the address of an instance: the same for as long as anything of it is left. None of one that has none
        yet, or where it is lost."""

    def name(self, environment: EnvironmentId, port: int) -> str:
        """Have instances find ``environment`` at an address of its own, at ``port`` too, where the router that they are
        led to is to listen; return where that is ("10.210.0.9:1"): the same for as long as the environment is there."""

    def find_name(self, environment: EnvironmentId) -> str | None:
        """Return where the router listens for instances that find ``environment`` by name; None before that is said."""

    def let_go_of_names(self, known: Collection[EnvironmentId]) -> None:
        """Have others get the addresses of environments that are none of ``known``, unless instances know them."""

    def create(self, instance: Instance, release: Release, image: Image) -> None:
        """Make all that ``instance`` needs, an address too, and its first process, which waits to begin: the service's
        command or, of an instance with a ``task``, that task's. Raises ProviderError (its message is for people: a
        command that is not in the image is named here) and leaves nothing behind when it fails."""

    def start(self, instance: Instance) -> None:
        """Let the first process of a created instance begin. Does nothing to one that runs."""

    def observe(self, instances: Sequence[Instance]) -> tuple[Observed, ...]:
        """Return how each of ``instances`` is now, in their order."""

    def probe(self, instance: Instance, release: Release) -> Probe:
        """Check its health once, as its release's ``health`` says, within ``health.timeout_ms``. Never raises."""

    def check(self, instance: Instance, release: Release, check: Check) -> Probe:
        """Answer one question about a running instance, within ``check.timeout_ms``. Never raises."""

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        """Return everything about these instances that is not as it was made; of one that does not run, nothing.

        ``deep``: read every byte of their layers too, and look for code that was changed in memory. May be asked while
        anything else goes on; what is only so for a moment is not found.
        """

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        """Return what is known of the processes of an instance, for people who look into what happened."""

    def destroy(self, instance: Instance, release: Release) -> bool:
        """Begin to stop it (signal, grace, kill), and once it has ended remove every trace but its log and its volumes.

        A half-made or half-removed instance is fine. Returns whether nothing of it is left by now; if not, it is
        observed as ``ending`` for as long as its grace lasts, and is to be asked for again when it no longer is.
        """

    def release(self, instances: Sequence[str]) -> None:
        """Let others have the addresses of those of ``instances`` of which nothing is left. No router names them."""

    def clear_orphans(self, known: Callable[[], Sequence[Instance]]) -> tuple[str, ...]:
        """Remove whatever carries this state directory's id and belongs to none of ``known()``; return their names.
        ``known`` is asked after the machine was looked at: whatever is made was written down before."""

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines that an instance printed, each ``TIME STREAM TEXT``; of destroyed ones too, while kept."""

    def has_log(self, instance_id: str) -> bool:
        """Tell whether anything that an instance printed is kept."""

    def forget_logs(self, names: Sequence[str]) -> None:
        """Remove the logs of instances that are gone; the environment that they were of may go on."""

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        """Remove the logs of a destroyed environment's instances, what they might reach, and its volumes when
        ``volumes``.

        ``names`` are the ids of all instances that it ever had: another place's may look the same.
        """

    def warnings(self) -> tuple[str, ...]:
        """Return what on this machine will get in an instance's way (a firewall, an unreachable resolver)."""


class MachineEdge(Edge, Protocol):
    """Passes requests to routers by name. One for all environments; it is there as long as one has names."""

    def check(self) -> None:
        """Raise RouterError when its addresses cannot be had (the port is taken: by which process)."""

    def ensure(self, plan: RouterPlan) -> bool:
        """Pass requests for the plan's names to its environment's router, and no others; return whether some are
        passed to it still that another expects. No request is lost."""

    def restore(self, plan: RouterPlan) -> None:
        """Make the edge as it was made again, without losing a request, with what ``plan`` passes on."""

    def remove(self, environment: EnvironmentId) -> None:
        """Pass nothing to an environment any more."""

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Pass nothing to environments that are none of ``known()``; return what of it went."""


class Router(Previews, Counts, Maintains, Protocol):
    """Where traffic goes. One per environment; a place is made known to it by ``ensure``."""

    def check(self, plan: RouterPlan) -> None:
        """Raise RouterError when ``plan.listen`` cannot be had (the port is taken: by which process)."""

    def ensure(self, plan: RouterPlan, *, door: bool = False, inside: tuple[str, ...] = ()) -> None:
        """Make the router run as ``plan`` says, without losing a request when it runs already. ``door``: the edge asks
        it though the plan has no names. ``inside``: where it listens for instances that find it by name."""

    def attach(self, environment: EnvironmentId, targets: Sequence[Target]) -> None:
        """Make ``targets`` known with weight 0, and return when the router's own checks have found each well.

        Raises RouterError when they are not within five seconds; nothing that has traffic is touched.
        """

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        """Give new requests to attached targets by name and weight (1–256), and none to any other target.

        Those not named stay attached, draining. Written to the router's file before it returns, so that it
        holds after a restart. Returns the seconds in which the traffic moved.
        """

    def detach(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        """Take targets away, cutting what is still in flight; return how many sessions were cut.

        When it returns, no router file names their addresses.
        """

    def observe(self, environment: EnvironmentId) -> RouterState:
        """Return what the router does now."""

    def inspect(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        """Return what of the router is not as this provider made it; nothing where none runs."""

    def restore(self, plan: RouterPlan, targets: Sequence[Target], *, inside: tuple[str, ...] = ()) -> None:
        """Make the router as it was made again, without losing a request: ``plan``, and of ``targets`` those that it
        has, with their weights; listening ``inside`` too."""

    def remove(self, environment: EnvironmentId) -> None:
        """Stop the router and remove everything of it."""

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Stop routers that belong to this state directory and to none of ``known``; return their names."""


_WITHOUT_NAME: Final = "without a name for instances"  # in the place of a plan that is in force but for that


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineProvider:
    """Implements :class:`instar.providers.base.Provider`, with every facet. Its groups have one member each."""

    runtime: Runtime
    router: Router
    edge: MachineEdge | None = None
    log_files: LogFiles | None = None
    traits: Traits = Traits(finds_names=True)

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
            self._ensure(plan, inside)
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

    def _ensure(self, plan: RouterPlan, inside: tuple[str, ...] = ()) -> None:
        """What comes by name finds a router that takes it, before it comes and as long as it does."""
        if self.edge is None:
            self.router.ensure(plan, inside=inside)
        elif plan.names.sites or plan.expected:
            self.router.ensure(plan, inside=inside)
            self.edge.ensure(plan)
        else:
            self.router.ensure(plan, door=self.edge.ensure(plan), inside=inside)

    def _is_named(self, environment: EnvironmentId, router: RouterState) -> bool:
        """Tell whether instances that find the environment by name get to its router: that of an older Instar listens
        for none."""
        return bool(router.inside) and router.inside == (self.runtime.find_name(environment),)

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

    def restore_router(self, plan: RouterPlan, targets: Sequence[Target]) -> None:
        name = self.runtime.find_name(plan.environment)
        self.routes.restore(plan, targets, inside=() if name is None else (name,))
        if self.edge is not None and (plan.names.sites or plan.expected):
            self.edge.restore(plan)

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
