"""What the verbs work with: one state directory with its ledger, images and providers.

``instar/workspace.py`` puts it together; nothing here names a concrete provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from instar.cancellation import Cancellation
    from instar.fetch.cache import Cache
    from instar.ledger import Ledger
    from instar.model.component import Component
    from instar.model.machine import MachineSettings
    from instar.model.progress import Report
    from instar.model.state import StateDirectory
    from instar.providers.base import Provider
    from instar.providers.package import ProviderPackage
    from instar.registry.registries import Registries
    from instar.store import Store
    from instar.store.hashed_files import HashedFiles
    from instar.store.mountable import MountableLayers


class Workspace(Protocol):
    """Each part is made when it is first asked for: a verb pays for what it uses."""

    state: StateDirectory
    report: Report
    actor: str
    cancellation: Cancellation

    @property
    def ledger(self) -> Ledger: ...

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger already, which is not opened to tell."""

    def named_ledger(self) -> str | None:
        """Return where the ledger is that this machine shares, as it is named now, None where none is."""

    def find_state_id(self) -> str | None:
        """Return the six digits that mark what is the state directory's, None where there are none yet."""

    @property
    def is_ledger_lost(self) -> bool:
        """Whether the machine had a ledger of its own, and has none now."""

    def begin_ledger_anew(self) -> None:
        """Work by an empty ledger from now on, in place of one that is lost."""

    def remove_state(self, *, keep: Collection[str]) -> tuple[Path, ...]:
        """Remove what is Instar's of the state directory, but for what has one of the names in ``keep``; the ledger
        goes last. Return what stays. Nothing else of this workspace is of use then. Raises HostError."""

    def make_state(self) -> None:
        """Make the state directory, with nothing in it, where there is none. Raises NotRoot, HostError."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables of whoever called."""

    @property
    def machine_settings(self) -> MachineSettings | None: ...

    @property
    def store(self) -> Store: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def registries(self) -> Registries: ...

    @property
    def hashed_files(self) -> HashedFiles: ...

    @property
    def layers(self) -> MountableLayers: ...

    @property
    def machine(self) -> str:
        """Which this is, for those who share a ledger."""

    def machine_of(self, provider: str) -> str | None:
        """Return this machine where that provider runs its instances on it; None where any machine can ask it."""

    def provider(self, name: str) -> Provider: ...

    def provider_package(self, name: str) -> ProviderPackage: ...

    def components(self) -> tuple[Component, ...]: ...

    def warnings(self) -> tuple[str, ...]: ...
