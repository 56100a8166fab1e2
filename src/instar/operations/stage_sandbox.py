"""Sandboxes for what locking runs of others: the stage is fetched and baked, as a bake does, and then stood upon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instar.bake.baking import bake_stage, mark_of
from instar.bake.image import environment
from instar.bake.runnable import require_sandbox
from instar.definition.parts import ImagePart, parts_beneath
from instar.fetch.fetch import fetch_parts
from instar.model.lock import Lock
from instar.operations.bases import bring_stage_base
from instar.operations.inputs import batches_of_ecosystems, bring_own_wheels
from instar.operations.locks import hold_store
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace

if TYPE_CHECKING:
    from instar.ecosystems.protocol import OpenSandbox, StageSandbox


def sandbox_opener(workspace: Workspace, *, holding: bool = False) -> OpenSandbox:
    """Return what makes sandboxes. ``holding``: the caller holds the store."""

    @contextlib.contextmanager
    def opened(part: ImagePart, lock: Lock, verb: str, what: str) -> Iterator[StageSandbox]:
        require_root("lock", f"to {verb} '{what}', code of others is run in a sandbox")
        from instar.bake.stage_sandbox import opened as opened_sandbox

        require_sandbox(lock.of(part.stage), part.place(), verb, what)
        with contextlib.nullcontext() if holding else hold_store(workspace):
            parts = (*parts_beneath(part), part)
            _bring(workspace, parts, lock)
            left = bake_stage(
                part,
                lock=lock,
                store=workspace.store,
                cache=workspace.cache,
                layers=workspace.layers,
                state=workspace.state,
                report=workspace.report,
            )
            with opened_sandbox(
                left,
                steps=workspace.state.steps,
                mark=mark_of(workspace.state),
                lock=lock.of(part.stage),
                cache=workspace.cache,
                layers=workspace.layers,
                report=workspace.report,
                place=part.place(),
                verb=verb,
                what=what,
                env=environment(part.made, lock.of(part.stage)),
            ) as sandbox:
                yield sandbox

    return opened


def _bring(workspace: Workspace, parts: Sequence[ImagePart], lock: Lock) -> None:
    for part in parts:
        bring_stage_base(workspace, part, lock.of(part.stage))
        bring_own_wheels(lock.of(part.stage), part.loaded, workspace.cache)
    needed = [(part.made, lock.of(part.stage)) for part in parts]
    fetch_parts(needed, workspace.cache, workspace.report, verify=True, of_ecosystems=batches_of_ecosystems)
