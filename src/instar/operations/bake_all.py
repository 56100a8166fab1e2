"""``instar bake --all-on BASE``: a definition, and all that stand on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from instar.bake import Baked
from instar.definition import load
from instar.definition.standing import standing_on
from instar.model.progress import Progress
from instar.operations.bake import bake
from instar.operations.workspace import Workspace


def bake_all_on(workspace: Workspace, base: Path, folder: Path) -> Iterator[tuple[Path, Baked]]:
    """Bake ``base``, then each definition below ``folder`` that stands on it; yield each with what came of it.

    Raises what a bake raises, of the first that cannot be baked.
    """
    yield base, bake(workspace, load(base))
    found = standing_on(base, folder)
    for number, file in enumerate(found, 1):
        text = f"{file} · {number} of {len(found)} that stand on '{base}'"
        workspace.report(Progress(stage="bake", text=text))
        yield file, bake(workspace, load(file))
