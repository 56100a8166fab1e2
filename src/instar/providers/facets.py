"""What a provider may have or not. What it hasn't is None, and one clear sentence for whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from instar.errors import Refused
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.drift import Finding, TakenNames
from instar.model.log_stream import LogStream
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.usage import Measured
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.base import NetworkPlan, Shell, StoredVolume, Streams, Subject
from instar.providers.doors import Ports
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Counters, RouterState, Target

F = TypeVar("F")


def require(facet: F | None, what: str) -> F:
    """Return a facet. Raises Refused where the provider has it not; ``what`` can't be done without it."""
    if facet is None:
        raise Refused(
            f"cannot {what}: its provider does not do that",
            hint="what one may lack is in docs/providers.md; what does not work on a cluster, in docs/kubernetes.md",
        )
    return facet


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One of a group's, as its engine has it. ``own``: the engine counts it, and makes another when it goes.
    ``serves``: requests of the group's get to it while it is ``ready``. One that neither counts nor serves is set
    aside: kept until ``until``. ``tainted``: it says so itself. ``began_at``: when it was made; ``wanted``: how many
    the engine wants of its group."""

    name: str
    group: str
    wanted: int
    own: bool
    serves: bool
    ready: bool
    tainted: bool
    began_at: datetime
    until: datetime | None = None


class Inspects(Protocol):
    """Tells whether what runs is what was made."""

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        """Return everything about these instances that is not as it was made; of one that does not run, nothing.

        ``deep``: read every byte of their layers too, and look for code that was changed in memory. May be asked while
        anything else goes on; what is only so for a moment is not found.
        """

    def inspect_router(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        """Return what of the router is not as this provider made it; nothing where none runs. With it, what
        ``taken_names`` says."""

    def taken_names(self, environment: EnvironmentId) -> TakenNames:
        """Return who else's rules take requests for names of the environment, where an engine lets others have such:
        they are found, and never touched."""

    def router(self, environment: EnvironmentId) -> RouterState:
        """Return what the router does now, by the addresses of its targets."""

    def targets(self, groups: Sequence[Instance], ports: Mapping[tuple[int, str], Ports]) -> tuple[Target, ...]:
        """Return where requests to ``groups`` go, as a router has to know it; ``ports`` are of their releases."""

    def restore_router(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        active: Release | None = None,
        groups: Sequence[Instance] = (),
    ) -> bool:
        """Make the router as it was made again, without losing a request: ``plan``, and of ``targets`` those that it
        has, with their weights. ``groups`` of the ``active`` release have the requests of what was lost as a whole.
        Return False where none runs, which is not started by this."""

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        """Return what is known of the processes of an instance, for people who look into what happened."""


class Ends(Protocol):
    """Says at once when an instance has ended, without being asked again and again."""

    def end_of(self, instance: Instance) -> int | None:
        """Return a descriptor, the caller's to close, that can be read from as soon as a running instance has ended;
        None when it has. Raises OSError."""


class Changes(Protocol):
    """Says when groups have come to where they were on their way to, without being asked again and again."""

    def await_change(self, environment: EnvironmentId, groups: Sequence[Instance], within_s: float) -> bool:
        """Return True as soon as one of ``groups``, as they were last observed, answers with all its members, or is
        gone; False when ``within_s`` is over, or it cannot be told. What it says decides nothing: whoever waited
        observes."""


class Shells(Protocol):
    """Lets people into running instances."""

    def open_shell(self, instance: Instance, release: Release, *, toolbox: bool, member: Member | None = None) -> Shell:
        """Find the way into a running instance, or that ``member`` of a group: to the shell of its image, or to one
        that is shown inside for it.

        Raises ProviderError when there is none (it does not run; no shell in the image), ComponentMissing.
        """


class Attachment(Protocol):
    """A command that runs in an instance of its own, with the streams of whoever gave it."""

    def resized(self) -> None:
        """Have it know that the terminal, which has its new size already, has another one."""

    def wait(self) -> int:
        """Return its exit status (128 + signal) once it has ended. Raises ProviderError where it could not begin, or
        nobody knows how it ended."""

    def end(self) -> None:
        """Ask it to end, as its service is asked; it has that one's grace, and no more. Nothing where it has ended."""

    def close(self) -> None:
        """Let go of it, whatever it does."""


class Runs(Protocol):
    """Runs commands for people, each in an instance of its own, which was created and started for that."""

    def attach(self, instance: Instance, release: Release, streams: Streams) -> Attachment:
        """Begin the command of a started instance, with ``streams``, which are one terminal where it asks for one.

        Raises ProviderError, HostError where it cannot begin; it is begun once, and never by anything else.
        """


class Members(Protocol):
    """Has single members of a group replaced by the engine that runs it. Nothing else of the group is touched."""

    def members(self, environment: EnvironmentId) -> tuple[Member, ...]:
        """Return all members of an environment's groups, and those that were set aside."""

    def mark(self, environment: EnvironmentId, member: Member) -> None:
        """Have the member itself say that it is tainted."""

    def replace(self, environment: EnvironmentId, member: Member) -> None:
        """Have the engine make another in a member's place, which has its share of the requests still."""

    def set_aside(self, environment: EnvironmentId, member: Member, at: datetime) -> None:
        """Take a member out of its group: the engine makes another, and no new request gets to it. It is kept as it is,
        for people to look at, for as long as the environment says from ``at`` on."""

    def end(self, environment: EnvironmentId, member: Member) -> None:
        """End a member that was set aside; what it printed is kept with what its group did."""


class Previews(Protocol):
    """Sends requests for a release that has no traffic yet to it."""

    def preview(
        self,
        environment: EnvironmentId,
        targets: Mapping[int, str],
        beside: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Send requests that ask for a release by its number (header ``X-Instar-Release``) to the attached target
        that ``targets`` names, and those to the preview address to that of the highest number; no others.

        ``beside`` are targets of other roles of a release, one of each: requests that ask for it by the door of such a
        role get there. A provider that leads them there by itself needs no word of it. A target that is not there any
        more is as if it were not named. Does nothing without ``plan.preview``.
        """


class Counts(Protocol):
    """Counts requests."""

    def counters(self, environment: EnvironmentId) -> Counters:
        """Return the totals; zeros when it does not run."""


class Measures(Protocol):
    """Tells what instances use: processor, memory, network."""

    def measure(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Measured:
        """Return what each member of ``groups``, which are of ``environment``, uses now: of one that does not run,
        nothing. Changes nothing, and asks no member. What nobody can tell is None, and why is said."""


class LogFiles(Protocol):
    """Keeps logs in files of this machine: what instances print, and the requests of environments whose settings say
    so (``access_log``)."""

    def streams(self) -> tuple[LogStream, ...]:
        """Return all logs that are kept, of instances that are gone too."""

    def has_access_log(self, environment: EnvironmentId) -> bool:
        """Tell whether anything of that is kept."""

    def access_lines(
        self, environment: EnvironmentId, *, last: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield a line for each request, ``TIME access JSON``: client, instance, method, host, path, protocol, status,
        bytes, ms. What is told of the log itself is ``TIME instar TEXT``."""

    def requests_lost(self, environment: EnvironmentId) -> Mapping[str, int]:
        """Return how many requests could not be written down, by who lost them: each counts since it began, and is
        missing where it does not say."""


class Maintains(Protocol):
    """Answers requests with a page while a service is worked on."""

    def maintenance(self, environment: EnvironmentId) -> bool:
        """Tell whether that is so now, and will be after the machine is started anew."""

    def maintenance_page(self, environment: EnvironmentId) -> str | None:
        """Return the page that is, or would be shown; None for the usual one."""

    def set_maintenance(self, environment: EnvironmentId, *, on: bool, page: str | None) -> None:
        """Answer new requests with ``page`` (None: with the usual one), or no longer; what is in flight finishes.

        Checks of the service's health and requests for a preview are answered as ever. Raises RouterError where there
        is no router, or it does not speak http.
        """


class Layers(Protocol):
    """Holds layers of images on this machine."""

    def layers_in_use(self) -> Collection[Digest]:
        """Return the diff IDs of all layers that instances stand on, also those that are only just being made."""


class Sweeps(Protocol):
    """Removes what carries this ledger's mark and nobody owns."""

    def sweep(
        self, groups: Callable[[], Sequence[Instance]], environments: Callable[[], Sequence[EnvironmentId]]
    ) -> tuple[str, ...]:
        """Remove whatever belongs to none of ``groups()`` and of ``environments()``; return the names.

        Both are asked after the provider has looked: whatever is made was written down before.
        """


class Networks(Protocol):
    """Gives instances addresses of a network of this machine, and says what they may reach."""

    def network_plan(self, environment: EnvironmentId) -> NetworkPlan | None:
        """Return the plan in force for what the instances of ``environment`` may reach; None where none is (any
        more)."""

    def set_network(self, plan: NetworkPlan) -> bool:
        """Let the instances of an environment, those that run and those to come, reach what ``plan`` says and nothing
        else of what it is about. Returns whether somebody had taken away what was in force, for everybody.

        Raises HostError, and what was in force stays.
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


class Snapshots(Protocol):
    """Keeps what volumes held at a time. Who asks acts alone on the environment of the volume."""

    def snapshots(self, environment: EnvironmentId | None = None) -> Iterable[VolumeSnapshot]:
        """Return every one, or those of volumes of ``environment``, also of volumes that are gone, the oldest of each
        volume first. Raises HostError for one whose record is damaged."""

    def shown(self, environment: EnvironmentId, name: str) -> AbstractContextManager[Path]:
        """Give the folder in which a volume's data is read inside. Raises NotFound, HostError."""

    def copied_bytes(self, environment: EnvironmentId, name: str) -> int | None:
        """Return how many bytes a snapshot of a volume copies; None where it shares them, or nobody can tell. Raises
        NotFound; Refused, ComponentMissing where none can be taken of it."""

    def free_bytes(self) -> int | None:
        """Return how many bytes snapshots may take of the disk yet; None where a storage of its own keeps them."""

    def take_snapshot(
        self, environment: EnvironmentId, name: str, *, running: bool, cause: SnapshotCause | None = None
    ) -> VolumeSnapshot:
        """Keep what a volume holds now, all of it or nothing. ``running``: instances have it, which may write. Its
        number was never given to another of the volume. Who is told "not now", and asks for the very same again, goes
        on with what was begun.

        Raises NotFound, HostError, ProviderError.
        """

    def restore_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        """Have a volume, which no instance has and which may be gone, hold what it did then. Killed at any point, it
        holds that or what it held before. Raises NotFound, HostError and ProviderError where it holds what it held
        before, and HalfDone where it may hold either."""

    def remove_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        """Raises NotFound, HostError."""

    def copy_volume(self, source: EnvironmentId, name: str, to: EnvironmentId, as_name: str) -> None:
        """Make a volume of what another holds, all of it or nothing. Raises NotFound, Refused where there is one,
        HostError."""


class Volumes(Protocol):
    """Keeps data on this machine that outlives releases."""

    @property
    def snapshots(self) -> Snapshots | None: ...

    def volumes(self) -> Iterable[StoredVolume]:
        """Return every volume that is kept, also those of environments that are gone."""

    def kept_of(self, environment: EnvironmentId) -> Iterable[StoredVolume]:
        """Return those of one that is there, without looking at how much they hold."""

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        """Remove a volume, which no instance has, with all that is in it. Raises NotFound when there is none."""
