"""The runtime of this machine: instances under runc and conmon, on EROFS layers, in namespaces of their own.

Instances run without Instar: this class holds nothing that they need, and any process of the same state directory can
go on where another stopped. What there is, is what ``names.py`` can find. Calls may come from several threads.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

from instar import locks
from instar.errors import CommandFailed, EnvironmentBusy, HostError, InstarError, ProviderError
from instar.host.filesystems.layers import LayerImages
from instar.host.isolation import runc
from instar.host.kernel import memory
from instar.host.kernel.namespaces import Unsupported
from instar.host.network.firewall import Reach
from instar.host.processes import processes
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.environment import Check
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.roles import FIRST_DOOR
from instar.model.state import StateDirectory
from instar.model.usage import Measured
from instar.providers.base import NetworkPlan, Observed, Probe, Shell, StoredVolume, Streams, Subject
from instar.providers.facets import Attachment, Member
from instar.providers.local import (
    allocations,
    health,
    internal_record,
    logs,
    observation,
    record,
    removal,
    usage,
    volumes,
)
from instar.providers.local.names import InstanceNames, Names
from instar.providers.local.subnet import Subnet

if TYPE_CHECKING:
    from instar.providers.local.creation import CreationOrder
    from instar.providers.local.snapshots import LocalSnapshots

_MACHINE_PATIENCE_S = 60.0


class LocalRuntime:
    """Implements :class:`instar.providers.machine_runtime.Runtime`."""

    def __init__(self, state: StateDirectory, state_id: str, layers: LayerImages) -> None:
        self._names = Names(state, state_id)
        self._layers = layers
        self._subnet = Subnet(self._names)
        self._addresses: dict[int, str] = {}  # by serial: they never change
        self.owners_stay: str | None = None
        """Why an instance was made without a user namespace; None as long as each got one."""

    def network(self) -> IPv4Network:
        return self._subnet.network()

    def room_bytes(self) -> int:
        return memory.available_bytes()

    def room_addresses(self) -> int:
        return allocations.count_free(self._names, self._subnet.network())

    def find_address(self, instance: Instance) -> str | None:
        if instance.serial not in self._addresses:
            found = allocations.find_address(self._instance(instance))
            if found is None:
                return None
            self._addresses[instance.serial] = str(found)
        return self._addresses[instance.serial]

    def create(self, instance: Instance, release: Release, image: Image) -> None:
        names = self._instance(instance)
        if observation.observe(names).state in ("created", "running"):
            allocations.set_process(names, allocations.process_of(names))  # its maker was killed before
            return
        try:
            if names.folder.exists():
                removal.remove(names)
            self._create(names, instance, release, image)
        except BaseException as error:
            with contextlib.suppress(InstarError):
                removal.remove(names)
            raise _explained(instance, error) from error

    def start(self, instance: Instance) -> None:
        names = self._instance(instance)
        if observation.observe(names).state == "running":
            return
        allocations.set_process(names, allocations.process_of(names))  # its maker was killed before
        try:
            runc.start(names.of.state.runc, names.name)
        except HostError as error:
            observed = observation.observe(names)
            if observed.state != "running":
                cause = observed.reason or error.message
                raise ProviderError(f"cannot start '{instance.id}': {cause}") from error

    def observe(self, instances: Sequence[Instance]) -> tuple[Observed, ...]:
        return tuple(observation.observe(self._instance(one), self.find_address(one)) for one in instances)

    def end_of(self, instance: Instance) -> int | None:
        process = allocations.process_of(self._instance(instance))
        return None if process is None else processes.open_process(process)

    def probe(self, instance: Instance, release: Release) -> Probe:
        try:
            return self._probe(self._instance(instance), instance, release)
        except (InstarError, OSError) as error:
            return health.ill(str(error))

    def check(self, instance: Instance, release: Release, check: Check) -> Probe:
        try:
            return self._check(self._instance(instance), instance, release, check)
        except (InstarError, OSError, ValueError, RuntimeError) as error:  # a thread or a program cannot be started
            return health.ill(str(error))

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        from instar.providers.local.inspection.inspect import inspect
        from instar.providers.local.inspection.unread import unaddressed, with_image

        orders: list[CreationOrder] = []
        lost: list[Finding] = []
        for subject in subjects:
            names = self._instance(subject.instance)
            address = allocations.find_address(names)
            if address is None:
                lost += unaddressed(names)
            else:
                orders.append(self._order(with_image(subject, names), address))
        return (*lost, *inspect(orders, self._layers, deep=deep))

    def cut(self, plan: NetworkPlan, instances: Sequence[Instance]) -> Mapping[str, tuple[str, ...]]:
        from instar.providers.local import cuts

        network = self._subnet.find()
        if network is None:
            return {}
        where = cuts.look(self._names, network, self._subnet.tables.doors())
        reach = Reach(network=plan.network, doors=plan.listen)
        found = {one.id: cuts.cut(self._instance(one), reach, where) for one in instances}
        return {name: lines for name, lines in found.items() if lines}

    def inspect_network(self) -> tuple[Finding, ...]:
        return tuple(
            Finding(instance=None, kind="network", path=path, expected=expected, observed=observed)
            for path, expected, observed in self._subnet.tables.differences()
        )

    def restore_network(self) -> bool:
        return self._subnet.restore()

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        from instar.providers.local.inspection.evidence import processes

        return processes(self._instance(instance).group)

    def measure(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Measured:
        return usage.measure([self._instance(one) for one in groups])

    def destroy(self, instance: Instance, release: Release) -> bool:
        names = self._instance(instance)
        if not instance.attended and not removal.stop(names, release.service.stop):  # its first process only waits
            return False
        removal.remove(names)
        return True

    def release(self, instances: Sequence[str]) -> None:
        for name in instances:
            allocations.release(self._names.instance(name, -1))

    def clear_orphans(self, known: Callable[[], Sequence[Instance]]) -> tuple[str, ...]:
        with locks.hold(self._names.machine_lock, "this machine", wait_s=_MACHINE_PATIENCE_S):
            found = tuple(removal.clear_orphans(self._names, known))
            if not self._needed(known()):
                removal.remove_shared(self._names)
                self._unmount_layers()
                self._subnet.remove()
            else:
                logs.ensure_keeper(self._names)
        return found

    def _needed(self, known: Sequence[Instance]) -> bool:
        """Tell whether there are instances here, or may be in a moment: what was made on another machine of those that
        share a ledger has left nothing here."""
        here = allocations.all_allocations(self._names)
        return bool(record.all_intents(self._names)) or any(not one.was_made or one.id in here for one in known)

    def _unmount_layers(self) -> None:
        """Unmount what no instance stands on, unless a bake does just now: then the next time does it."""
        with contextlib.suppress(EnvironmentBusy), locks.hold(self._names.state.locks / "store", "the image store"):
            self._layers.unmount_all()

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        log = self._names.log(instance_id)
        if not follow:
            return logs.read(log, last)
        return logs.follow(log, last, (self._names.state.instances / instance_id).exists)

    def layers_in_use(self) -> Collection[Digest]:
        intents = record.all_intents(self._names)
        for name, intent in intents.items():
            if intent is None and self._names.instance(name, 0).intent.exists():  # not one that just goes
                raise record.damaged_intent(self._names, name)
        return {layer for intent in intents.values() if intent is not None for layer in intent.layers}

    def has_log(self, instance_id: str) -> bool:
        return self._names.log(instance_id).exists()

    def network_plan(self, environment: EnvironmentId) -> NetworkPlan | None:
        reach = self._subnet.tables.reach(environment)
        return NetworkPlan(environment=environment, network=reach.network, listen=reach.doors) if reach else None

    def set_network(self, plan: NetworkPlan) -> bool:
        reach = Reach(network=plan.network, doors=plan.listen)
        return self._subnet.tables.set(self._subnet.network(), plan.environment, reach)

    def name(self, environment: EnvironmentId, port: int | None, door: str = FIRST_DOOR) -> str:
        return self._subnet.name(environment, () if port is None else (port,), door).listener

    def find_name(self, environment: EnvironmentId, door: str = FIRST_DOOR) -> str | None:
        found = internal_record.find(self._names, environment, door)
        return None if found is None or not (found.ports or door) else found.listener

    def let_go_of_names(self, known: Collection[EnvironmentId]) -> None:
        self._subnet.let_go(known)

    def forget_logs(self, names: Sequence[str]) -> None:
        for name in names:
            logs.forget(self._names.log(name))

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        self._subnet.tables.forget(environment)
        self.forget_logs(names)
        if volumes:
            from instar.providers.local import root

            root.remove_volumes(self._names, environment)

    def volumes(self) -> Iterable[StoredVolume]:
        return volumes.stored(self._names)

    def kept_of(self, environment: EnvironmentId) -> Iterable[StoredVolume]:
        return volumes.stored_of(self._names, environment)

    @property
    def snapshots(self) -> LocalSnapshots:
        from instar.providers.local.snapshots import LocalSnapshots

        return LocalSnapshots(self._names)

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        volumes.remove(self._names, environment, name)

    def open_shell(self, instance: Instance, release: Release, *, toolbox: bool, member: Member | None = None) -> Shell:
        from instar.providers.local.shell import open_shell

        return open_shell(self._instance(instance), release, with_tools=toolbox)

    def attach(self, instance: Instance, release: Release, streams: Streams) -> Attachment:
        from instar.providers.local.attachment import attach

        return attach(self._instance(instance), instance, release, streams)

    def warnings(self) -> tuple[str, ...]:
        from instar.providers.local import warnings

        return warnings.warnings(self._names, self._subnet.find(), self.owners_stay)

    def _create(self, names: InstanceNames, instance: Instance, release: Release, image: Image) -> None:
        from instar.providers.local import creation

        subnet = self._subnet.ensure(instance.environment)
        logs.ensure_keeper(self._names)
        uses = [(EnvironmentId(service=one.service, name=one.name), one) for one in release.configuration.uses]
        named = {one.host: self._subnet.name(used, [one.port], one.role or FIRST_DOOR).address for used, one in uses}
        address = allocations.allocate(names, instance.environment, subnet)
        order = replace(self._order(Subject(instance=instance, release=release, image=image), address), named=named)
        try:
            creation.create(order, subnet, shift_owners=True)
        except Unsupported as error:
            removal.remove(names)
            creation.create(order, subnet, shift_owners=False)
            self.owners_stay = str(error)

    def _order(self, subject: Subject, address: IPv4Address) -> CreationOrder:
        from instar.providers.local.creation import CreationOrder

        assert subject.image is not None
        return CreationOrder(
            names=self._instance(subject.instance),
            instance=subject.instance,
            address=address,
            release=subject.release,
            image=subject.image,
            images=self._layers,
        )

    def _probe(self, names: InstanceNames, instance: Instance, release: Release) -> Probe:
        service = release.service
        match service.health.kind, service.port:
            case "http", int(port):
                probe = health.ask_http(str(allocations.get_address(names)), port, service.health)
            case "tcp", int(port):
                probe = health.ask_tcp(str(allocations.get_address(names)), port, service.health)
            case "command", _ if observation.observe(names).state == "running":  # runc would run it all the same
                probe = health.ask_command(names, service.health.command or (), service.health.timeout_ms)
            case "command", _:
                probe = health.ill("it is not running")
            case _:
                probe = Probe(healthy=True)
        if not probe.healthy or service.health.kind == "none":
            return self._explained(names, probe, service.port)
        for further in service.ports.values():  # requests come there too
            accepts = health.ask_tcp(str(allocations.get_address(names)), further.port, service.health)
            if not accepts.healthy:
                return self._explained(names, accepts, further.port)
        return probe

    def _check(self, names: InstanceNames, instance: Instance, release: Release, check: Check) -> Probe:
        from instar.providers.local import checks

        port = release.service.port
        match check.kind, port:
            case "url", _:
                return checks.ask_url(check)
            case _ if observation.observe(names).state != "running":  # runc would run a command all the same
                probe = health.ill("it is not running")
            case "http", int():
                probe = checks.ask_http(str(allocations.get_address(names)), port, check, release.service.health.host)
            case "http", None:
                probe = health.ill(f"GET {check.path} was not asked: the service has no port")
            case _:
                probe = health.ask_command(names, check.command or (), check.timeout_ms)
        return probe if probe.healthy else self._explained(names, probe, port)

    def _explained(self, names: InstanceNames, probe: Probe, port: int | None) -> Probe:
        observed, process = observation.observe(names), allocations.process_of(names)
        if observed.state != "running" or process is None:
            how = observed.reason or f"exit status {observed.exit_status}"
            return health.ill(f"it has ended ({how})" if observed.state == "stopped" else "it is not running")
        if port is not None and probe.refused:
            return health.explain(probe, process, port)
        return probe

    def _instance(self, instance: Instance) -> InstanceNames:
        return self._names.instance(instance.id, instance.serial)


def _explained(instance: Instance, error: BaseException) -> BaseException:
    """Say which instance it was; what isn't about it (a missing component, a damaged blob, ^C) stays as it is."""
    if isinstance(error, ProviderError | HostError | CommandFailed):
        return ProviderError(f"cannot create '{instance.id}': {error.message}", hint=error.hint)
    if isinstance(error, OSError):
        where = f" ('{error.filename}')" if error.filename else ""
        hint = "df -h shows which disk" if error.errno == errno.ENOSPC else None
        return ProviderError(f"cannot create '{instance.id}': {error.strerror or error}{where}", hint=hint)
    return error
