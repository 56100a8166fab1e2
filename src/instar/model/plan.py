"""What a deploy, a promotion or a rollback would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image_diff import ImageDiff
from instar.model.release import EnvironmentId, RolloutKind
from instar.model.volume import DataBack


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedChange:
    """``what`` is a dotted name as a definition has it (service.limits.memory, config.GREETING, rollout.strategy), or
    "image", "certificate"; and of a ``kind`` that is put right, what of it is not as it is wanted."""

    kind: Literal["image", "release", "settings", "certificate", "repair"]
    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRole:
    """A role that ``comes``, or goes, as a whole, and the addresses and names of its doors that open, or close."""

    role: str
    comes: bool
    doors: tuple[str, ...] = ()


def without_roles(changes: Sequence[PlannedChange], roles: Sequence[PlannedRole]) -> tuple[PlannedChange, ...]:
    """Return the changes that are of none of ``roles``, which come or go as a whole."""
    whole = tuple(f"{under}.{one.role}." for one in roles for under in ("roles", "listen"))
    return tuple(one for one in changes if not f"{one.what}.".startswith(whole))


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRollout:
    """A rollout that is under way, has given ``percent`` of the traffic, and what becomes of it: it is gone on with, is
    given up, or refuses the verb, since it waits for a person. ``held_by``: who is at it now, and refuses others."""

    kind: RolloutKind
    release: int
    actor: str
    percent: int
    becomes: Literal["goes on", "is given up", "refuses"]
    held_by: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployPlan:
    """``steps`` are those that a bake would run, each for its one of ``reasons``; where ``locked`` is false, it makes
    the lock first. ``release``: a new release would be made. No changes: nothing would be done. ``warnings``: what is
    worth knowing of the rollout before it begins. ``inside``: what is other in the image than in the active release's,
    as far as both are known.
    ``roles``: those that come or go, of which ``changes`` has each key. ``rollout``: one that is under way."""

    environment: EnvironmentId
    active: int | None
    steps: tuple[str, ...]
    image: Digest | None
    release: bool
    changes: tuple[PlannedChange, ...]
    warnings: tuple[str, ...] = ()
    locked: bool = True
    inside: ImageDiff | None = None
    roles: tuple[PlannedRole, ...] = ()
    rollout: PlannedRollout | None = None
    reasons: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        return not self.changes and self.rollout is None


@dataclass(frozen=True, kw_only=True, slots=True)
class RollbackPlan:
    """``target`` None: a new release, since the secrets are kept. ``under_way``: it is gone on with. ``hot``: its
    instances that are there, of which none is started anew. ``data``: what volumes get back; None: they stay.
    ``inside``: what is other in the image, as far as both are here.
    ``roles``: those that come or go, of which ``changes`` has each key. ``rollout``: one that is under way."""

    environment: EnvironmentId
    active: int | None
    target: int | None
    under_way: bool
    hot: tuple[str, ...]
    changes: tuple[PlannedChange, ...]
    data: DataBack | None = None
    inside: ImageDiff | None = None
    warnings: tuple[str, ...] = ()
    roles: tuple[PlannedRole, ...] = ()
    rollout: PlannedRollout | None = None

    @property
    def is_nothing(self) -> bool:
        return self.target == self.active and self.rollout is None
