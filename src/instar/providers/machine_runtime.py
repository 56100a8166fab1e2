"""What a machine has to run instances with: a provider of one machine is made of it and of a router."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from instar.model.drift import Finding
from instar.model.environment import Check
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.roles import FIRST_DOOR
from instar.providers.base import Observed, Probe, Subject
from instar.providers.facets import (
    Ends,
    Layers,
    Measures,
    Networks,
    Runs,
    Shells,
    Volumes,
)


class Runtime(Networks, Volumes, Layers, Shells, Runs, Ends, Measures, Protocol):
    """Where instances run."""

    def room_bytes(self) -> int:
        """Return how much memory this machine can still give to new instances."""

    def room_addresses(self) -> int:
        """Return how many more instances can have an address of this machine's network."""

    def find_address(self, instance: Instance) -> str | None:
        """Return the address of an instance: the same for as long as anything of it is left. None of one that has none
        yet, or where it is lost."""

    def name(self, environment: EnvironmentId, port: int | None, door: str = FIRST_DOOR) -> str:
        """Have instances find ``environment`` at an address of its own, at ``port`` too, where the router that they are
        led to is to listen; return where that is ("10.210.0.9:1"): the same for as long as the environment is there.
        ``door``: that of another role than its first, which has an address of its own."""

    def find_name(self, environment: EnvironmentId, door: str = FIRST_DOOR) -> str | None:
        """Return where the router listens for instances that find ``environment``, or by a ``door`` another role of
        it, by name; None before that is said."""

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
