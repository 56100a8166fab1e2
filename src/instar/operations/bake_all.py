"""``instar bake --all-on BASE``: a definition, and all that stand on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from instar.bake.baking import BakedDefinition
from instar.definition import load
from instar.definition.standing import Standing, standing_on
from instar.errors import BakeError, Cancelled, InstarError
from instar.model.progress import Progress
from instar.operations.bake import bake
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace


def bake_all_on(workspace: Workspace, base: Path, folder: Path) -> Iterator[BakedDefinition]:
    """Bake ``base``, then each definition below ``folder`` that stands on it; yield what came of each.

    One that cannot be baked holds up those that stand on it, and no others. Where that is ``base`` itself, nothing else
    is looked for. Raises NotRoot, Cancelled.
    """
    require_root("bake")
    first = _bake(workspace, base)
    yield first
    if first.failure:
        return
    found, failed = standing_on(base, folder), dict[Path, Path]()
    for number, one in enumerate(found, 1):
        text = f"{one.file} · {number} of {len(found)} that stand on '{base}'"
        workspace.report(Progress(stage="bake", text=text))
        done = _held_up(one, failed) or _bake(workspace, one.file)
        if done.failure:
            failed[one.real] = one.file
            workspace.report(Progress(stage="bake", text=done.failure.message, kind="failed"))
        yield done


def _held_up(one: Standing, failed: dict[Path, Path]) -> BakedDefinition | None:
    below = sorted(failed[real] for real in one.on if real in failed)
    if not below:
        return None
    return BakedDefinition(file=one.file, failure=BakeError(f"cannot bake '{one.file}': it stands on '{below[0]}'"))


def _bake(workspace: Workspace, file: Path) -> BakedDefinition:
    try:
        return BakedDefinition(file=file, baked=bake(workspace, load(file)))
    except Cancelled:
        raise
    except InstarError as error:
        return BakedDefinition(file=file, failure=error)
