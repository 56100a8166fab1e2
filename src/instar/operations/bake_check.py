"""``instar bake --check``: bake twice, the second time elsewhere and from nothing, and compare."""

from __future__ import annotations

from instar.bake.checking import BakeCheck, baked_elsewhere, differences
from instar.definition import Loaded
from instar.model.progress import Progress
from instar.operations.bake import bake
from instar.operations.bases import with_bases
from instar.operations.inputs import fetch_inputs
from instar.operations.lock import existing_lock
from instar.operations.locks import hold_store
from instar.operations.stage_sandbox import sandbox_opener
from instar.operations.workspace import Workspace


def check_bake(workspace: Workspace, loaded: Loaded) -> BakeCheck:
    """Bake what isn't baked yet, then everything once more in a place of its own, and say what differs.

    Raises what a bake raises.
    """
    baked = bake(workspace, loaded, platform=workspace.store.platform, whole=True)
    lock = with_bases(workspace, loaded, existing_lock(loaded))
    with hold_store(workspace):
        fetch_inputs(workspace, loaded, lock, sandbox_opener(workspace, holding=True))
        workspace.report(
            Progress(stage="check", text="everything once more, elsewhere and from nothing", kind="running")
        )
        elsewhere = baked_elsewhere(
            loaded,
            lock=lock,
            cache=workspace.cache,
            state=workspace.state,
            report=workspace.report,
            bases=workspace.store,
        )
        with elsewhere as (store, again):
            found = tuple(differences(workspace.store, baked, store, again))
    told = f"{len(found)} files differ" if found else "the same bytes"
    workspace.report(Progress(stage="check", text=told, kind="failed" if found else "done"))
    return BakeCheck(baked=baked, differences=found)
