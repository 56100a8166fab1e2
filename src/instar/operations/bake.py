"""``instar bake``: definition + lock → image in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from instar.bake import Baked, Planned, require_runnable, service_on
from instar.bake import bake as run_bake
from instar.bake import plan as plan_bake
from instar.definition import Loaded
from instar.errors import BlobDamaged, ImageNotFound
from instar.fetch.needs import Needs
from instar.model.architectures import platform_of
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.image_spec import STAGES
from instar.model.lock import Lock
from instar.model.progress import Progress
from instar.operations.base_finder import base_finder
from instar.operations.bases import bring_bases, with_bases
from instar.operations.inputs import fetch_inputs
from instar.operations.lock import fitting_lock, is_locked, lock_of, note_needs, whole_lock
from instar.operations.locks import hold_store
from instar.operations.privilege import require_root
from instar.operations.stage_sandbox import sandbox_opener
from instar.operations.workspace import Workspace
from instar.store.platforms import index_json


def bake(
    workspace: Workspace,
    loaded: Loaded,
    *,
    platform: str | None = None,
    to_deploy: bool = False,
    held: bool = False,
    explained: bool = False,
    whole: bool = False,
) -> Baked:
    """Bake what isn't baked yet, for this machine, or for one ``platform``; return the image and how each step went.

    Locks first when there is no lock. ``to_deploy``: the caller holds the store, and will mount the layers at once;
    ``held``: it holds it. ``explained``: say of each step, before it is run, why it is. ``whole``: bake stages too that
    nothing new is taken out of. Without a ``platform`` it is the image for all of the definition's, where each of them
    is baked and they were joined.

    Raises ComponentMissing where programs for the platform would have to run, and cannot.
    """
    require_root("bake")
    locked = _locked(workspace, loaded, holding=to_deploy or held)
    lock = lock_of(loaded, locked, platform)
    with contextlib.nullcontext() if to_deploy or held else hold_store(workspace):
        lock = bring_bases(workspace, loaded, lock, lambda base, of: _bake_base(workspace, base, of))
        planned = plan_bake(
            loaded, lock=lock, store=workspace.store, state=workspace.state, explained=explained, whole=whole
        )
        _tell_plan(workspace, planned if explained else None)
        require_runnable(planned, lock)
        needed = note_needs(workspace.state.cache, loaded, locked)
        workspace.cancellation.check()
        if planned.fetches:
            fetch_inputs(workspace, loaded, lock, sandbox_opener(workspace, holding=True))
        workspace.cancellation.check()
        mountable = to_deploy and platform_of(lock.architecture) == workspace.store.platform
        baked = _run(workspace, loaded, lock, planned, mountable=mountable)
        joined = find_joined(workspace, loaded, locked) if platform is None else None
        baked = replace(baked, image=joined or baked.image)
        Needs(workspace.state.cache).write(baked.image.digest.hex, needed)
        workspace.store.tag(service_on(loaded.definition.name, lock, workspace.store), baked.image.digest)
        if not to_deploy and not all(step.cached for step in baked.steps) and not workspace.ledger.instances():
            workspace.layers.unmount_all()
        _tell(workspace, baked, lock)
        _tell_others(workspace, None if platform or joined else locked)
        return baked


def _run(workspace: Workspace, loaded: Loaded, lock: Lock, planned: Planned, *, mountable: bool) -> Baked:
    return run_bake(
        loaded,
        lock=lock,
        store=workspace.store,
        cache=workspace.cache,
        layers=workspace.layers,
        state=workspace.state,
        report=workspace.report,
        planned=planned,
        mountable=mountable,
    )


def _locked(workspace: Workspace, loaded: Loaded, *, holding: bool = False) -> Lock:
    """Return the lock of the definition, made now where there is none. ``holding``: the caller holds the store."""
    return fitting_lock(
        loaded,
        cache=workspace.state.cache,
        report=workspace.report,
        find_base=base_finder(workspace),
        open_sandbox=sandbox_opener(workspace, holding=holding),
    )


def _bake_base(workspace: Workspace, base: Loaded, architecture: str) -> Baked:
    platform = platform_of(architecture)
    return bake(workspace, base, platform=None if platform == workspace.store.platform else platform, to_deploy=True)


def _tell(workspace: Workspace, baked: Baked, lock: Lock) -> None:
    platform = platform_of(lock.architecture)
    where = "" if platform == workspace.store.platform else f"{platform} · "
    known = sum(1 for step in baked.steps if step.cached)
    text = f"{where}{known} of {len(baked.steps)} steps cached · {baked.seconds:.2f} s"
    workspace.report(Progress(stage="bake", text=text, aside=f"sha256:{baked.image.digest.short}"))


def _tell_others(workspace: Workspace, locked: Lock | None) -> None:
    """Say that the image is this machine's alone, where the definition is for others too."""
    names = [platform_of(one.architecture) for one in locked.whole] if locked else []
    others = [name for name in names if name != workspace.store.platform]
    if others:
        text = (
            f"the image is for {workspace.store.platform} alone; with {', '.join(others)}: instar bake --all-platforms"
        )
        workspace.report(Progress(stage="note", text=text))


def find_joined(workspace: Workspace, loaded: Loaded, locked: Lock) -> Image | None:
    """Return the image for all platforms of a definition, where each is baked as definition and lock have it now, and
    they were joined; else None. Nothing is written."""
    if not locked.platforms:
        return None
    found = {}
    for one in locked.whole:
        lock = with_bases(workspace, loaded, one)
        digest = plan_bake(loaded, lock=lock, store=workspace.store, state=workspace.state).image
        if digest is None:
            return None
        found[platform_of(one.architecture)] = digest
    try:
        pairs = [(workspace.store.manifest(digest), name) for name, digest in found.items()]
        return workspace.store.image(Digest.of(index_json(pairs)))
    except (BlobDamaged, ImageNotFound):
        return None


def _tell_plan(workspace: Workspace, planned: Planned | None) -> None:
    for text in _explained(planned) if planned is not None else ():
        workspace.report(Progress(stage="bake", text=text))


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
    locked = whole_lock(loaded)
    joined = find_joined(workspace, loaded, locked)
    digest = joined.digest if joined is not None else _planned(workspace, loaded, lock_of(loaded, locked)).image
    if digest is None or workspace.store.tags().get(loaded.definition.name) != digest:
        return None
    try:
        found = joined or workspace.store.image(digest)
    except ImageNotFound:
        return None
    workspace.report(Progress(stage="bake", text="every step is cached", aside=f"sha256:{digest.short}"))
    return found


def plan(workspace: Workspace, loaded: Loaded, *, explained: bool = False) -> Planned:
    """Return each step and whether its layer is there already, and (``explained``) why one has to run; nothing is
    fetched, run or written. The image is that for all platforms where they were joined."""
    locked = whole_lock(loaded)
    planned = _planned(workspace, loaded, lock_of(loaded, locked), explained=explained)
    joined = find_joined(workspace, loaded, locked) if planned.image is not None else None
    return replace(planned, image=joined.digest) if joined is not None else planned


def _planned(workspace: Workspace, loaded: Loaded, lock: Lock, *, explained: bool = False) -> Planned:
    lock = with_bases(workspace, loaded, lock)
    return plan_bake(loaded, lock=lock, store=workspace.store, state=workspace.state, explained=explained)
