"""``instar bake``: definition + lock → image in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from instar.bake import Baked, Planned
from instar.bake import bake as run_bake
from instar.bake import plan as plan_bake
from instar.definition import Loaded
from instar.errors import ImageNotFound
from instar.fetch.needs import Needs
from instar.model.definition import STAGES
from instar.model.image import Image
from instar.model.progress import Progress
from instar.operations.bases import base_finder, bring_bases, with_bases
from instar.operations.bench import bench_opener
from instar.operations.inputs import fetch_inputs
from instar.operations.lock import existing_lock, fitting_lock, is_locked, note_needs
from instar.operations.locks import hold_store
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace


def bake(
    workspace: Workspace, loaded: Loaded, *, to_deploy: bool = False, explained: bool = False, whole: bool = False
) -> Baked:
    """Bake what isn't baked yet; return the image and how each step went.

    Locks first when there is no lock. ``to_deploy``: the caller holds the store, and will mount the layers at once.
    ``explained``: say of each step, before it is run, why it is. ``whole``: bake stages too that nothing new is taken
    out of.
    """
    require_root("bake")
    lock = fitting_lock(
        loaded,
        cache=workspace.state.cache,
        report=workspace.report,
        find_base=base_finder(workspace),
        open_bench=bench_opener(workspace),
    )
    with contextlib.nullcontext() if to_deploy else hold_store(workspace):
        lock = bring_bases(workspace, loaded, lock, lambda base: bake(workspace, base, to_deploy=True))
        planned = plan_bake(
            loaded, lock=lock, store=workspace.store, state=workspace.state, explained=explained, whole=whole
        )
        for text in _explained(planned) if explained else ():
            workspace.report(Progress(stage="bake", text=text))
        needed = note_needs(workspace.state.cache, loaded, lock)
        workspace.cancellation.check()
        if planned.fetches:
            fetch_inputs(workspace, loaded, lock, bench_opener(workspace, holding=True))
        workspace.cancellation.check()
        baked = run_bake(
            loaded,
            lock=lock,
            store=workspace.store,
            cache=workspace.cache,
            layers=workspace.layers,
            state=workspace.state,
            report=workspace.report,
            planned=planned,
            mountable=to_deploy,
        )
        Needs(workspace.state.cache).write(baked.image.digest.hex, needed)
        workspace.store.tag(loaded.definition.name, baked.image.digest)
        if not to_deploy and not all(step.cached for step in baked.steps) and not workspace.ledger.instances():
            workspace.layers.unmount_all()
        known = sum(1 for step in baked.steps if step.cached)
        text = f"{known} of {len(baked.steps)} steps cached · {baked.seconds:.2f} s"
        workspace.report(Progress(stage="bake", text=text, aside=f"sha256:{baked.image.digest.short}"))
        return baked


def _explained(planned: Planned) -> Iterator[str]:
    for part in planned.parts:
        if not part.needed:
            yield f"'{STAGES}{part.stage}' is not needed: what is taken out of it is there"
        for step in part.steps if part.needed else ():
            runs = "runs" if step.work.key else "may run"
            yield f"'{step.step}' " + (f"{runs}: {step.why}" if step.why else "is cached")


def find_baked(workspace: Workspace, loaded: Loaded) -> Image | None:
    """Return the image of the definition where a bake would do nothing and write nothing, else None."""
    if not is_locked(loaded):
        return None
    digest = plan(workspace, loaded).image
    if digest is None or workspace.store.tags().get(loaded.definition.name) != digest:
        return None
    try:
        found = workspace.store.image(digest)
    except ImageNotFound:
        return None
    workspace.report(Progress(stage="bake", text="every step is cached", aside=f"sha256:{digest.short}"))
    return found


def plan(workspace: Workspace, loaded: Loaded) -> Planned:
    """Return each step and whether its layer is there already; nothing is fetched, run or written."""
    lock = with_bases(workspace, loaded, existing_lock(loaded))
    return plan_bake(loaded, lock=lock, store=workspace.store, state=workspace.state)
