"""What a provider's package brings, by the entry point that names it: what is known of it before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from instar.frozen import dataclass
from instar.providers.traits import Traits

if TYPE_CHECKING:
    from instar.host.filesystems.layers import LayerImages
    from instar.model.component import Component
    from instar.model.definition import Service
    from instar.model.environment import Settings
    from instar.model.image import Image
    from instar.model.lease import HeldLease
    from instar.model.machine import MachineSettings
    from instar.model.progress import Progress
    from instar.model.reference import Reference
    from instar.model.release import EnvironmentId, Instance, Release
    from instar.model.state import StateDirectory
    from instar.providers.base import Provider
    from instar.providers.unfit import Unfit
    from instar.registry.registries import Registries
    from instar.store import Store


class Site(Protocol):
    """What a provider is opened with: where it may keep what is its own, and where images are."""

    state: StateDirectory

    @property
    def state_id(self) -> str:
        """Six hexadecimal digits, made at the first call, that mark everything global to this host as this state
        directory's. Raises HostError when they were lost."""

    @property
    def machine_settings(self) -> MachineSettings | None:
        """What the machine's own file says, None where there is none. Raises MachineFileError, HostError."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables that Instar was started with."""

    @property
    def store(self) -> Store: ...

    @property
    def registries(self) -> Registries: ...

    @property
    def layers(self) -> LayerImages: ...

    def provider_records(self, provider: str) -> Sequence[tuple[Instance, Mapping[str, Any]]]:
        """Return what an older Instar kept in the ledger of what is ``provider``'s own, of its instances on this
        machine: their address and first process. Whoever keeps such takes it over when it is opened."""

    def environments(self) -> Mapping[EnvironmentId, Settings]:
        """Return the environments that the ledger has, and how each is set now: what a group, or the traffic, of one
        is made by. The settings of a deploy are there before anything of it is made."""

    def left_settings(self, environment: EnvironmentId) -> Settings | None:
        """Return the settings before those of a deploy, for as long as the release has the traffic that they are of:
        what it is reached by stays until then. None where no rollout changes them, or its traffic has moved."""

    def ledger_name(self) -> str:
        """Return eight hexadecimal digits that mark what is made for this ledger where others make things too, the
        same whoever shares it; "" before its first event."""

    def signing_key(self, *, make: bool = False) -> bytes | None:
        """Return the ledger's key, by which a provider signs what it makes where others can make things too, and by
        which it knows it again: the same for whoever shares the ledger, and made by the first call that says ``make``.
        None before that."""

    def report(self, progress: Progress) -> None:
        """Tell whoever asked what is being done."""

    def held_lease(self, environment: EnvironmentId) -> HeldLease | None:
        """Return the lease on ``environment`` that this process has of a shared ledger: its number goes along with what
        an engine is told, which refuses an older one. None where the ledger is one machine's own."""

    def find_state_id(self) -> str | None:
        """Return the same digits, None where none were made yet. Raises HostError when they are damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedEnvironment:
    """An environment as its definition has it. ``given`` is the image, in a registry, that was named for a document
    that is about one. ``release`` is the one that a deploy would come to, of ``image``, with ``groups``;
    None, and none, where a document is about the environment alone."""

    environment: EnvironmentId
    settings: Settings
    release: Release | None = None
    image: Image | None = None
    groups: tuple[Instance, ...] = ()
    given: Reference | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What a provider can print of an environment, by ``instar PROVIDER NAME ENV``. ``make`` returns texts by the names
    of their files, and changes nothing; ``of_release``: it is about the release that a deploy would come to;
    ``of_given``: about an image in a registry, which has to be named."""

    about: str
    make: Callable[[Site, PlannedEnvironment], Mapping[str, str]]
    of_release: bool = False
    of_given: bool = False


class ProviderPackage(Protocol):
    """A provider that may not be opened yet. Importing it is cheap, and touches nothing."""

    @property
    def traits(self) -> Traits:
        """As its provider has them."""

    @property
    def settings(self) -> type[Any] | None:
        """The dataclass whose fields declare the keys of its own section of an environment (``model.declaration``);
        None: it has none. What is written there is ``Settings.provider_settings``, in JSON's terms."""

    def release_settings(self, settings: Settings) -> Mapping[str, Any]:
        """Return what of an environment's settings its instances are made from, in JSON's terms: part of a release,
        which is another one where this is. Nothing that is as it is by default. A package of whose settings nothing
        is may lack this."""

    def unfit(
        self,
        environment: EnvironmentId,
        settings: Settings,
        services: Mapping[str, Service],
        known: Mapping[EnvironmentId, Settings],
    ) -> Iterator[Unfit]:
        """Yield all that a definition asks for in ``environment`` and this provider cannot give, by its words alone:
        nothing is asked, and nothing made. ``services`` are how instances run, by role ("" where there are none), the
        first one first; ``known`` the environments that there are, as far as that is known. Raises Refused for settings
        that no definition could have said. A package that refuses nothing so may lack this."""

    def address_inside(
        self, own: Settings, environment: EnvironmentId, settings: Settings, role: str | None = None
    ) -> str:
        """Return by which name and port ("api-dev.shop.svc:80") instances of an environment that is set as ``own`` find
        ``environment``, which is set as ``settings``, or another ``role`` of it than the first; Raises Refused where
        there is none. A package whose provider names it to instances itself may lack this."""

    @property
    def documents(self) -> Mapping[str, Document]:
        """What it can print, by name. A package without any may lack this."""

    def components(self) -> tuple[Component, ...]:
        """Return what it needs of this machine, for ``doctor``. Changes nothing."""

    def warnings(self, site: Site) -> tuple[str, ...]:
        """Return what on this machine will get in its instances' way, for ``doctor``. Makes nothing."""

    def open(self, site: Site) -> Provider:
        """Return the provider that works for the ledger of ``site``."""


def release_settings_of(package: ProviderPackage, settings: Settings) -> Mapping[str, Any]:
    """Return what a package says of it; nothing where it says nothing."""
    found: Callable[[Settings], Mapping[str, Any]] | None = getattr(package, "release_settings", None)
    return {} if found is None else found(settings)


def address_inside_of(
    package: ProviderPackage, own: Settings, environment: EnvironmentId, settings: Settings, role: str | None = None
) -> str | None:
    """Return what a package says of it; None where it says nothing."""
    found: Callable[..., str] | None = getattr(package, "address_inside", None)
    return None if found is None else found(own, environment, settings, role)
