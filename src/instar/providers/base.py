"""What runs instances and routes traffic, as two protocols. Each provider is one of each.

Every call is idempotent: asked twice, it does it once. No call decides anything: what to do comes from
``control/``, what an instance is from the ledger, before it is created. Nothing here changes an instance:
one is created, started, destroyed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Final, Literal, Protocol

from instar.model.definition import Check, Headers, Network, Service
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Process, Release, Served, Settings
from instar.model.survey import Survey

RESTARTED = "the machine was restarted"  # the reason of an instance that ended with the boot it was of


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """An instance as it is. ``created``: everything is made, its first process has not begun.

    ``process`` is None unless created or running. ``exit_status`` is of a stopped one where it is known
    (128 + signal for one that a signal ended), ``signal`` that signal's name; ``out_of_memory``: it, or a process of
    it, was killed for that. ``reason`` says more for people ("killed: out of memory").
    """

    id: str
    state: Literal["absent", "created", "running", "stopped"]
    process: Process | None = None
    exit_status: int | None = None
    reason: str | None = None
    signal: str | None = None
    out_of_memory: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One health check: ``cause`` says what came instead ("GET /healthz answered 500", "connection refused").
    ``refused``: nothing listens at its port."""

    healthy: bool
    cause: str = ""
    refused: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An instance to be looked at, with all that it follows from. ``image`` is None where nobody can read it any more:
    that is told of already, and what it would say is taken from what was written down when the instance was made."""

    instance: Instance
    release: Release
    image: Image | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """The descriptors that a shell reads and writes; all the same terminal where it is to have one."""

    stdin: int
    stdout: int
    stderr: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVolume:
    """Data that outlives releases. ``where`` it is kept, for people; ``used_bytes`` is None where nobody can tell."""

    environment: EnvironmentId
    name: str
    where: str
    used_bytes: int | None


class Shell(Protocol):
    """A way into one running instance, for one use. Until it is begun, nothing is done in there but looking."""

    def survey(self) -> Survey | None:
        """Return what is in its writable places now, and its processes; None when it has ended."""

    def begin(self, command: str | None, streams: Streams, *, term: str) -> None:
        """Run ``command`` with sh, as the instance's user; None: a shell on the terminal that ``streams`` are, which
        is a ``term`` and no one's inside. Raises ProviderError, HostError."""

    def ended(self) -> int | None:
        """Return a descriptor that can be read from when the shell on a terminal has ended, though others that it
        started hold the terminal still; None where there is none."""

    def wait(self) -> int | None:
        """Return its exit status (128 + signal) once it has ended; None when it could not even begin."""

    def close(self) -> None:
        """End it if it runs, and take away what was shown inside for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkPlan:
    """What an environment's instances may reach. ``listen``: where its router does, for instances of others that may
    reach this place."""

    environment: EnvironmentId
    network: Network
    listen: tuple[str, ...]

    @classmethod
    def of(cls, environment: EnvironmentId, settings: Settings) -> NetworkPlan:
        return cls(environment=environment, network=settings.network, listen=settings.listen)


class Runtime(Protocol):
    """Where instances run."""

    def network(self) -> IPv4Network:
        """Return the network that instance addresses are taken from; its first host is the provider's own.

        Decides it and writes it down at the first call. Raises HostError when every candidate is taken.
        """

    def network_plan(self, environment: EnvironmentId) -> NetworkPlan | None:
        """Return the plan in force for what the instances of ``environment`` may reach; None where none is (any
        more)."""

    def set_network(self, plan: NetworkPlan) -> bool:
        """Let the instances of an environment, those that run and those to come, reach what ``plan`` says and nothing
        else of what it is about. Returns whether somebody had taken away what was in force, for everybody.

        Raises HostError, and what was in force stays.
        """

    def room_bytes(self) -> int:
        """Return how much memory this machine can still give to new instances."""

    def create(self, instance: Instance, release: Release, image: Image) -> Process:
        """Make everything that ``instance`` needs and its first process, which waits to begin.

        That is the service's command or, of an instance with a ``task``, the command of that task of its release.

        Returns that process. Raises ProviderError (its message is for people: a command that is not in the image
        is named here) and leaves nothing behind when it fails.
        """

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

    def cut(self, plan: NetworkPlan, instances: Sequence[Instance]) -> Mapping[str, tuple[str, ...]]:
        """Return what of ``instances``' open connections could not be begun under ``plan``: by instance, for people.

        Those of a provider's older instances go on until they are replaced, others end when it comes into force.
        """

    def inspect_network(self) -> tuple[Finding, ...]:
        """Return what is not as it was made of what all instances share of their network."""

    def restore_network(self) -> bool:
        """Make that as it was made, for all instances that run, again; return whether there was anything to be put
        right. Raises HostError."""

    def layers_in_use(self) -> Collection[Digest]:
        """Return the diff IDs of all layers that instances stand on, also those that are only just being made."""

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        """Return what is known of the processes of an instance, for people who look into what happened."""

    def destroy(self, instance: Instance, release: Release) -> None:
        """Stop it (signal, grace, kill) and remove every trace but its log and its volumes.

        A half-made or half-removed instance is fine. Returns when nothing of it is left.
        """

    def clear_orphans(self, known: Callable[[], Sequence[Instance]]) -> tuple[str, ...]:
        """Remove whatever carries this state directory's id and belongs to none of ``known()``; return their names.

        ``known`` is asked after the machine was looked at: whatever is made was written down before.
        """

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

    def volumes(self) -> Iterable[StoredVolume]:
        """Return every volume that is kept, also those of environments that are gone."""

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        """Remove a volume, which no instance has, with all that is in it. Raises NotFound when there is none."""

    def open_shell(self, instance: Instance, release: Release, *, toolbox: bool) -> Shell:
        """Find the way into a running instance: to the shell of its image, or to one that is shown inside for it.

        Raises ProviderError when there is none (it does not run; no shell in the image), ComponentMissing.
        """

    def warnings(self) -> tuple[str, ...]:
        """Return what on this machine will get in an instance's way (a firewall, an unreachable resolver)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where requests can go. ``name`` is an instance's id."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterPlan:
    """All about an environment's router besides its targets."""

    environment: EnvironmentId
    listen: tuple[str, ...]  # "127.0.0.1:8080", each
    protocol: Literal["http", "tcp"]
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None  # the router's own check: GET this path, or a TCP connection when None
    instances: int  # wanted; the router makes room for several times as many targets
    preview: str | None = None  # where the previewed target is reached: an address of its own, "header", or nowhere
    health_host: str = "localhost"  # what the router's own check calls the service
    headers: Headers = Headers()
    wait_ms: int = 0  # how long a request waits while no target can take it; 0: it is refused at once
    accept_proxy: tuple[str, ...] = ()  # from these addresses, connections begin with the PROXY protocol's header

    @classmethod
    def of(
        cls, environment: EnvironmentId, settings: Settings, service: Service, others: Iterable[Service] = ()
    ) -> RouterPlan:
        """Return the plan of a router that serves ``service``, and ``others`` that run beside it.

        A router has one health check for all: where they ask different paths it only connects, so that no release is
        judged by a path that it doesn't know.
        """
        http = service.protocol == "http"
        asked = {_asked_by_router(one) for one in (service, *others)}
        path, host = asked.pop() if len(asked) == 1 else _ONLY_CONNECTS
        return cls(
            environment=environment,
            listen=settings.listen,
            protocol=service.protocol,
            request_timeout_ms=service.timeouts.request_ms,
            tunnel_timeout_ms=service.timeouts.tunnel_ms,
            health_path=path,
            instances=settings.instances,
            preview=settings.preview if http else None,
            health_host=host,
            headers=service.headers if http else Headers(),
            wait_ms=service.timeouts.wait_ms or 0,
            accept_proxy=settings.accept_proxy,
        )


_ONLY_CONNECTS: Final = (None, "localhost")


def _asked_by_router(service: Service) -> tuple[str | None, str]:
    """Return the path and the host of a service's health check, as far as they are the router's business."""
    health = service.health
    return (health.path, health.host) if health.kind == "http" else _ONLY_CONNECTS


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedTarget:
    """A target as the router has it. ``weight`` 0 takes no new requests. ``sessions`` are in flight now.

    ``served`` counts since the target was attached, or since the router began anew; failed are answers of 5xx, and
    requests that got none.
    """

    target: Target
    weight: int
    sessions: int
    up: bool
    served: Served = Served()


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterState:
    """``plan`` is the one in force, None when the router does not run. ``previewed``: release → the target that a
    request for that very release goes to."""

    running: bool
    plan: RouterPlan | None = None
    targets: tuple[RoutedTarget, ...] = ()
    previewed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Totals since the router started."""

    requests: int
    failed: int  # answered 5xx or not at all


class Router(Protocol):
    """Where traffic goes. One per environment; a place is made known to it by ``ensure``."""

    def check(self, plan: RouterPlan) -> None:
        """Raise RouterError when ``plan.listen`` cannot be had (the port is taken: by which process)."""

    def ensure(self, plan: RouterPlan) -> None:
        """Make the router run as ``plan`` says, without losing a request when it runs already."""

    def attach(self, environment: EnvironmentId, targets: Sequence[Target]) -> None:
        """Make ``targets`` known with weight 0, and return when the router's own checks have found each well.

        Raises RouterError when they are not within five seconds; nothing that has traffic is touched.
        """

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        """Give new requests to attached targets by name and weight (1–256), and none to any other target.

        Those not named stay attached, draining. Written to the router's file before it returns, so that it
        holds after a restart. Returns the seconds in which the traffic moved.
        """

    def preview(self, environment: EnvironmentId, targets: Mapping[int, str]) -> None:
        """Send requests that ask for a release by its number (header ``X-Instar-Release``) to the attached target
        that ``targets`` names, and those to the preview address to that of the highest number; no others.

        A target that is not there any more is as if it were not named. Does nothing without ``plan.preview``.
        """

    def detach(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        """Take targets away, cutting what is still in flight; return how many sessions were cut.

        When it returns, no router file names their addresses.
        """

    def observe(self, environment: EnvironmentId) -> RouterState:
        """Return what the router does now."""

    def inspect(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        """Return what of the router is not as this provider made it; nothing where none runs."""

    def restore(self, plan: RouterPlan, targets: Sequence[Target]) -> None:
        """Make the router as it was made again, without losing a request: ``plan``, and of ``targets`` those that it
        has, with their weights."""

    def counters(self, environment: EnvironmentId) -> Counters:
        """Return the totals; zeros when it does not run."""

    def remove(self, environment: EnvironmentId) -> None:
        """Stop the router and remove everything of it."""

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Stop routers that belong to this state directory and to none of ``known``; return their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """One of each."""

    runtime: Runtime
    router: Router
