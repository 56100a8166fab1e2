"""The port: what runs groups of instances and routes traffic to them, and what is said about it.

No call decides anything: what to do comes from ``control/``, what a group is from the ledger, before it is created.
Nothing here changes an instance: one is created, started, destroyed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.environment import Check, Network, Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release, Served
from instar.model.survey import Survey
from instar.providers.router_plan import RouterPlan
from instar.providers.traits import Traits

if TYPE_CHECKING:
    from instar.providers.edge import Edge
    from instar.providers.facets import (
        Changes,
        Counts,
        Ends,
        Inspects,
        Layers,
        LogFiles,
        Maintains,
        Measures,
        Members,
        Networks,
        Previews,
        Runs,
        Shells,
        Sweeps,
        Volumes,
    )

Roles: TypeAlias = "Mapping[str, Service] | None"
RESTARTED = "the machine was restarted"  # the reason of an instance that ended with the boot it was of


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """A group as it is. ``created``: everything is made, its first process has not begun. ``ending``: it was told to
    end, and there is nothing to do but to wait. ``ready``: so many of its members answer, where the engine itself
    knows.

    ``address``: where it is on this machine's network, if it is. ``exit_status`` is of a stopped one where it is known
    (128 + signal for one that a signal ended), ``signal`` that signal's name; ``out_of_memory``: killed so.
    ``reason`` says more for people. ``altered`` says who has changed it since it was made: it gets no more traffic.
    """

    id: str
    state: Literal["absent", "created", "running", "ending", "stopped"]
    address: str | None = None
    ready: int | None = None
    exit_status: int | None = None
    reason: str | None = None
    signal: str | None = None
    out_of_memory: bool = False
    altered: str | None = None


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
    """Data that outlives releases. ``where`` it is kept, for people; ``used_bytes`` is None where nobody can tell.
    ``removed_by``: the command that removes it where Instar may not find it any more once its environment is gone."""

    environment: EnvironmentId
    name: str
    where: str
    used_bytes: int | None
    removed_by: str | None = None


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
    def of(cls, environment: EnvironmentId, settings: Settings, releases: Iterable[Release] = ()) -> NetworkPlan:
        """Return the plan of ``settings``, with what ``releases``, which have instances or are to, use by name."""
        uses = {(one.environment, one.port): one for release in releases for one in release.configuration.uses}
        more = tuple(uses[known].allow for known in sorted(uses))
        network = replace(settings.network, allow=(*settings.network.allow, *more))
        return cls(environment=environment, network=network, listen=settings.all_listen)


class Routed(Protocol):
    """A group as whatever routes the traffic has it. ``weight`` 0 takes no new requests; ``up``: one that came now
    would be answered. ``sessions`` are in flight now, ``served`` is what it has answered since it was exposed or since
    the counters began anew: each None where that isn't known."""

    @property
    def weight(self) -> int: ...
    @property
    def sessions(self) -> int | None: ...
    @property
    def up(self) -> bool: ...
    @property
    def served(self) -> Served | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Where an environment's requests go. ``running``: something takes them. ``plan`` is the fingerprint of the plan in
    force, as :meth:`Provider.expose` was given it; None: it does not work, whatever is there of it. ``groups`` are
    those that are exposed, by id; ``previewed``: release → the group that requests for that very release go to, and
    ``previewed_beside`` those of its other roles, by their doors; None where the provider sees to these by itself.
    ``settled``: no request goes by older weights any more; where it is False some may, for a while yet.
    ``counts``: somebody counts requests here; ``uncounted``: and why it cannot be told just now how many there were.
    ``unmade``: what is to be there too and is yet to be made, a sentence each: all that is there works as it should.
    ``unfound``: of roles, "" the first, that nobody finds by name, though they are to be found so: why."""

    running: bool = False
    plan: str | None = None
    groups: Mapping[str, Routed] = field(default_factory=dict)
    previewed: Mapping[int, str] = field(default_factory=dict)
    previewed_beside: Mapping[int, tuple[str, ...]] | None = None
    settled: bool = True
    counts: bool = True
    uncounted: str | None = None
    unmade: tuple[str, ...] = ()
    unfound: Mapping[str, str] = field(default_factory=dict)
    unanswered: frozenset[str] = frozenset()  # groups that are up, but for a further port


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One look: the groups that were asked about, in their order, and the environment's traffic."""

    groups: tuple[Observed, ...]
    traffic: Traffic


class Provider(Protocol):
    """What runs groups and routes traffic. It says its traits and does what it is told; it decides nothing.

    Every call is idempotent: asked twice, it does it once. None waits longer than one answer of the engine: what takes
    longer goes on by itself, and :meth:`observe` says how far it is. But that a call which asks for many things (to
    create a group of many objects, to look beforehand) may ask again for each that is not answered, for 10 s at most:
    meanwhile nobody looks whether the lease is still held, and what keeps an older holder out is the engine's own
    (a fence), or that it has one machine. None is made inside a transaction of the ledger.
    Each may raise an error that says when to try again (``retry_after_s``); any other is permanent.

    What a provider may have or not, its facets, is None where it hasn't (``facets.py``).
    """

    @property
    def traits(self) -> Traits: ...
    @property
    def inspects(self) -> Inspects | None: ...
    @property
    def ends(self) -> Ends | None: ...
    @property
    def changes(self) -> Changes | None: ...
    @property
    def shells(self) -> Shells | None: ...
    @property
    def runs(self) -> Runs | None: ...
    @property
    def previews(self) -> Previews | None: ...
    @property
    def counts(self) -> Counts | None: ...
    @property
    def maintains(self) -> Maintains | None: ...
    @property
    def measures(self) -> Measures | None: ...
    @property
    def log_files(self) -> LogFiles | None: ...
    @property
    def members(self) -> Members | None: ...
    @property
    def edge(self) -> Edge | None: ...
    @property
    def layers(self) -> Layers | None: ...
    @property
    def sweeps(self) -> Sweeps | None: ...
    @property
    def networks(self) -> Networks | None: ...
    @property
    def volumes(self) -> Volumes | None: ...

    def preflight(
        self, environment: EnvironmentId, settings: Settings, service: Service, *, launching: bool, others: Roles = None
    ) -> tuple[str, ...]:
        """Return what is worth knowing before ``service`` is rolled out with these ``settings``, a sentence each.

        ``others``: the roles that run beside it and take no requests, by name, as many of each as ``settings`` say.
        ``launching``: new members will be started beside those that run. Raises Refused or RouterError when it can't be
        done: the port is taken, there is no room, the provider has not what the settings ask for.
        """

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        """Return of how many groups an environment consists, and of how many members each. Changes nothing."""

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        """Have the image where groups of ``environment`` can be made from it."""

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        """Return how each of ``groups`` is now, and where the traffic goes."""

    def create(self, group: Instance, release: Release, image: Image) -> None:
        """Have a group made: of the service's command or, with a ``task``, of the command of that task of its release.

        It waits to begin where the traits say so.
        Raises ProviderError (its message is for people: a command that is not in the image is named here) and leaves
        nothing behind when it can't be made.
        """

    def start(self, group: Instance) -> None:
        """Let a created group begin. Does nothing to one that runs."""

    def destroy(self, group: Instance, release: Release) -> bool:
        """Begin to end a group (signal, grace, kill) and to remove every trace but its log and its volumes.

        A half-made or half-removed one is fine. Returns whether nothing of it is left by now; if not, it is observed as
        ``ending`` for as long as the engine goes on by itself. One that is neither that nor absent is destroyed again.
        """

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        """Have ``plan`` in force, if there is one, for ``release`` with all of its roles, without losing a request;
        make ``groups`` of ``release`` known with weight 0. Those that were exposed stay as they are.

        Raises RouterError when requests can't get to them; nothing that has traffic is touched.
        """

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float | None:
        """Give new requests to exposed groups by id and weight, and none to any other.

        A weight is from 1 to the traits' heaviest, and of the group as a whole. Those not named stay exposed, draining.
        Returns the seconds in which the traffic moved, None where that isn't known.
        """

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> int | None:
        """Take groups away from the traffic, cutting what is still in flight; return how many requests were cut."""

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        """Answer one question about a running group, within its time: a check, or whether it is healthy (None)."""

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a member printed, each ``TIME STREAM TEXT``; of destroyed ones too, while kept."""

    def has_log(self, instance_id: str) -> bool:
        """Tell whether anything that a member printed is kept."""

    def forget_logs(self, names: Sequence[str]) -> None:
        """Remove the logs of members that are gone; the environment that they were of may go on."""

    def close(self, environment: EnvironmentId) -> None:
        """Stop taking requests, and remove all that did."""

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        """Remove what is kept of a destroyed environment: the logs of all members that it ever had (``names``), what
        they might reach, and its volumes when ``volumes``."""
