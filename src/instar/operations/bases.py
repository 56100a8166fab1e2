"""What images stand on where that is an image itself: brought to the store, and baked, for a bake.

An image of others is in the lock, by its digest. One of another definition is baked by that one's own lock; what it
gives is found out anew at each bake, so that a base that changed is another input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from instar.bake import of_the_image
from instar.bake import plan as plan_bake
from instar.bake.image import environment
from instar.definition import Loaded
from instar.definition.base_definition import load_base
from instar.definition.parts import ImagePart, needed_parts_of, parts_of
from instar.errors import (
    LockError,
    LockStale,
)
from instar.model.base import find_definition, find_oci
from instar.model.lock import BaseImage, Lock
from instar.operations.base_finder import KnownBases, NotYet, lock_of_base
from instar.operations.lock import lock_path
from instar.operations.oci_bases import bring, placed
from instar.operations.workspace import Workspace

_SHOWN = 12


def with_bases(workspace: Workspace, loaded: Loaded, lock: Lock, above: tuple[Loaded, ...] = ()) -> Lock:
    """Return the lock of a definition with what it stands on of other definitions, as far as that is baked.

    ``above`` are the definitions that stand on it. Nothing is written. Raises DefinitionError, LockError, BakeError.
    """
    locked = {part.stage: _with_base(workspace, part, lock.of(part.stage), above) for part in parts_of(loaded)}
    return replace(locked.pop(None), build={stage: one for stage, one in locked.items() if stage is not None})


def bring_bases(workspace: Workspace, loaded: Loaded, lock: Lock, bake: Callable[[Loaded, str], object]) -> Lock:
    """Have in the store what a definition stands on: images of others, pulled or taken from their archive, and those of
    other definitions, which ``bake`` bakes for an architecture. Return the lock as :func:`with_bases` does.

    Raises what a pull, an import and a bake raise.
    """
    lock = with_bases(workspace, loaded, lock)
    for part in needed_parts_of(loaded):
        locked, path = lock.of(part.stage), find_definition(part.made.base)
        if wanted := find_oci(part.made.base):
            with placed(part):
                bring(workspace, part, wanted, locked)
        elif path is not None and locked.base is not None and None in locked.base.layers:
            bake(load_base(part, path, ()), locked.architecture)
    return with_bases(workspace, loaded, lock)


def bring_stage_base(workspace: Workspace, part: ImagePart, lock: Lock) -> None:
    """Have in the store the image of others that a stage stands on. Raises as :func:`bring_bases` does."""
    if find_definition(part.made.base) is not None:
        raise LockError(
            f"{part.place('base')}: cannot run anything here while locking: it stands on another definition",
            hint="let this stage stand on a suite of Debian, or on an image of others",
        )
    if wanted := find_oci(part.made.base):
        with placed(part):
            bring(workspace, part, wanted, lock)


def _with_base(workspace: Workspace, part: ImagePart, lock: Lock, above: tuple[Loaded, ...]) -> Lock:
    path = find_definition(part.made.base)
    if path is None:
        return lock
    base = load_base(part, path, above)
    base_lock = with_bases(workspace, base, lock_of_base(part, base, lock.architecture), (*above, part.loaded))
    planned = plan_bake(base, lock=base_lock, store=workspace.store, state=workspace.state)
    steps = planned.parts[-1].steps
    _require_same_beneath(workspace, part, lock, above)
    found = BaseImage(
        key=steps[-1].work.key,
        epoch=base_lock.epoch,
        env=environment(base.definition.image, base_lock),
        layers=tuple(step.layer for step in of_the_image(steps, lambda step: step.work.kind)),
    )
    return replace(lock, base=found)


def _require_same_beneath(workspace: Workspace, part: ImagePart, lock: Lock, above: tuple[Loaded, ...]) -> None:
    """Return when a base of another definition has installed what it had when the part was locked. Raises LockStale."""
    if lock.installed is None:
        return
    from instar.lock.beneath import for_part, moved

    try:
        now = for_part(KnownBases(workspace).whole_beneath(part, None, lock.architecture, above), part)
    except NotYet:
        return
    lines = list(moved(lock.installed, now.installed))
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        text = "\n".join((*lines[:_SHOWN], *more))
        raise LockStale(
            f"{part.place('base')}: cannot use '{lock_path(part.loaded).name}': its base has moved since\n{text}",
            hint=f"instar lock -f {part.loaded.file} resolves what moved and keeps the rest",
        )
