"""What a bake needs from outside, brought into the cache: fetched, copied from beside the definition, or built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from instar.definition import Loaded
from instar.fetch.cache import Cache
from instar.fetch.fetch import Batch, fetch_all
from instar.model.lock import Artifact, Lock
from instar.operations.workspace import Workspace

if TYPE_CHECKING:
    from instar.ecosystems.protocol import OpenSandbox


def fetch_inputs(workspace: Workspace, loaded: Loaded, lock: Lock, open_sandbox: OpenSandbox) -> None:
    """Bring all that a bake needs into the cache; what is there is hashed. Raises FetchError, StepFailed."""
    for locked in (lock, *lock.build.values()):
        bring_own_wheels(locked, loaded, workspace.cache)
    if any(wheel.built for locked in (lock, *lock.build.values()) for wheel in locked.wheels):
        from instar.lock.from_source import build_missing

        build_missing(loaded, lock, workspace.cache, open_sandbox, workspace.report)
    fetch_all(
        lock,
        loaded.definition,
        workspace.cache,
        workspace.report,
        verify=True,
        of_ecosystems=batches_of_ecosystems,
    )


def batches_of_ecosystems(missing: Sequence[Artifact], cache: Cache) -> Iterable[Batch]:
    """Return what fetches the files of other ecosystems."""
    from instar.ecosystems.fetching import batches

    return batches(missing, cache)


def bring_own_wheels(locked: Lock, loaded: Loaded, cache: Cache) -> None:
    """Copy those wheels into the cache that are the author's own. Raises FetchError, HashMismatch."""
    if any(wheel.path for wheel in locked.wheels):
        from instar.fetch.own_wheels import bring_own

        bring_own(locked.wheels, loaded.folder, cache)
