"""Which image a deploy would have, as far as that is known before anything is baked or pulled."""

from __future__ import annotations

from instar.definition import Loaded
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.reference import Repository
from instar.operations.bake import plan as plan_bake
from instar.operations.lock import is_locked
from instar.operations.transfers import digest_for_release
from instar.operations.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedImage:
    """``digest`` is None while it can't be known: steps are to be run first, or inputs to be locked. ``pulled_from``:
    it is not here yet. ``steps`` are to be run, each for its one of ``reasons``."""

    digest: Digest | None
    pulled_from: Repository | None = None
    steps: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    locked: bool = True


def planned_image(workspace: Workspace, loaded: Loaded, word: str | None) -> PlannedImage:
    """Return the image of the definition, as far as it is known before it is baked; or that which ``word`` names."""
    if word:
        digest, repository = digest_for_release(workspace, loaded, word)
        return PlannedImage(digest=digest, pulled_from=repository)
    if not is_locked(loaded):
        return PlannedImage(digest=None, locked=False)
    planned = plan_bake(workspace, loaded, explained=True)
    steps = [step for step in planned.steps if not step.cached]
    return PlannedImage(
        digest=planned.image, steps=tuple(step.step for step in steps), reasons=tuple(step.why for step in steps)
    )
