"""The layers that instances stand on, and what keeps them as they were baked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from instar.errors import LedgerError, StoreError
from instar.model.digest import Digest
from instar.model.release import EnvironmentId
from instar.model.status import LayerGuarantee
from instar.operations.installed import installed_providers
from instar.operations.workspace import Workspace
from instar.providers.traits import Traits


def guarantee(workspace: Workspace, environment: EnvironmentId, traits: Traits) -> LayerGuarantee | None:
    """Return what holds for every layer of an image that something in ``environment`` runs; None where
    nothing does, and of a provider that runs nothing from this machine's store: of nodes nobody here knows it."""
    if not traits.of_one_machine:
        return None
    layers: set[Digest] = set()
    for number in {one.release for one in workspace.ledger.instances(environment)}:
        with contextlib.suppress(LedgerError, StoreError):
            image = workspace.store.image(workspace.ledger.get_release(environment, number).image)
            layers |= {layer.diff_id for layer in image.layers}
    if not layers:
        return None
    if all(map(workspace.layers.is_verified, layers)):
        return "verity"
    return "immutable" if all(map(workspace.layers.is_immutable, layers)) else "hashed"


def layers_in_use(workspace: Workspace) -> Iterator[Digest]:
    """Yield the diff ID of every layer that an instance stands on; each image's, and the plates that are in none."""
    for provider in installed_providers(workspace, workspace.ledger.environments()).values():
        yield from provider.layers.layers_in_use() if provider.layers is not None else ()
