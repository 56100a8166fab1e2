"""What the verbs work with, on a simulated machine: a real ledger, a real image store, real locks, and no root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from instar.cancellation import Cancellation
from instar.errors import ProviderMissing
from instar.fetch.cache import Cache
from instar.host.filesystems.layers import LayerImages
from instar.ledger import Ledger
from instar.model.component import Component
from instar.model.image import Image, ImageConfig
from instar.model.progress import Progress
from instar.model.state import StateDirectory
from instar.providers.base import Provider
from instar.providers.traits import Traits
from instar.registry.registries import Registries
from instar.store import Store
from instar.store.hashed_files import HashedFiles
from simulated.effects import CrashableLedger
from simulated.values import Simulation


class SimulatedWorkspace:
    """Implements ``operations.workspace.Workspace``. Waiting lets the simulated time pass, and ``meanwhile`` happen.

    ``told`` is all progress that was reported.
    """

    def __init__(
        self, path: Path, simulation: Simulation | None = None, *, ledger: Ledger | None = None, actor: str = "ann"
    ) -> None:
        self.simulation = simulation or Simulation()
        self.state = StateDirectory.from_environment({"INSTAR_HOME": str(path)})
        self.actor = actor
        self.environ = {"INSTAR_HOME": str(path)}
        self.machine_settings = None
        self.has_ledger = True
        self.told: list[Progress] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.cancellation = Cancellation(sleep=self._sleep)
        self.ledger = ledger or CrashableLedger(self.state.ledger, actor=actor, clock=self.simulation.clock.now)
        self.store = Store(self.state.store)
        self.cache = Cache(self.state.cache)
        self.hashed_files = HashedFiles(self.state.sealed)
        self.registries = Registries({}, {}, self.cancellation, self.report)
        self.layers = LayerImages(self.store, self.state.layers, self.state.mounts, self.hashed_files)

    def report(self, progress: Progress) -> None:
        self.told.append(progress)

    def provider_package(self, name: str) -> Any:
        """Nothing here needs root."""
        return SimpleNamespace(traits=Traits(needs_root=False, finds_names=True, finds_roles=True))

    @property
    def machine(self) -> str:
        return "here"

    def machine_of(self, provider: str) -> str | None:
        return self.machine

    def provider(self, name: str) -> Provider:
        if name != "local":
            raise ProviderMissing(f"cannot find provider '{name}'")
        return self.simulation.provider

    def components(self) -> tuple[Component, ...]:
        return ()

    def warnings(self) -> tuple[str, ...]:
        return ()

    def bake(self, word: str) -> Image:
        """Put an image that has ``word`` in it into the store."""
        tree = self.state.root / "tree"
        tree.mkdir(parents=True, exist_ok=True)
        (tree / "word").write_text(word)
        layer = self.store.add_layer(tree, step="files", epoch=0)
        config = ImageConfig(architecture="amd64", user="10001:10001", command=("serve",))
        return self.store.add_image(config, [layer], created=0)

    def _sleep(self, seconds: float) -> None:
        self.simulation.clock.sleep(seconds)
        self.meanwhile()
