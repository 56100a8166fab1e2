"""How a rollout, or a word to one, ended: what verbs answer with."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.release import EnvironmentId, Rollout


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutOutcome:
    """How a deploy, promotion or rollback ended.

    ``unchanged``: that very release was active already. ``failed``: the rollout was undone, or not all copies of the
    active release are healthy; ``reason`` says why and ``last_lines`` what the instance printed last. ``begun``: it is
    written down, and left to the agent. ``touched``: traffic had moved or stopped. Milliseconds are None where nothing
    was measured. ``warning``: what went wrong beside a rollout that is done. ``counted_since``: requests are only those
    since then, as HAProxy had been started anew without a word from the one before. ``given_up``: the release of the
    rollout that was under way, and is undone by a rollback. ``replaced``: the volumes that hold other data by it.
    """

    environment: EnvironmentId
    release: int
    image: Digest
    previous: int | None
    outcome: Literal["done", "unchanged", "failed", "begun"]
    seconds: float
    switch_ms: float | None = None
    gap_ms: float | None = None
    drained: int | None = None
    cut: int | None = None
    reason: str | None = None
    warning: str | None = None
    active: int | None = None
    touched: bool = False
    requests: int | None = None
    failed: int | None = None
    counted_since: datetime | None = None
    culprit: str | None = None
    last_lines: tuple[str, ...] = ()
    given_up: int | None = None
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutChange:
    """What became of a word. ``outcome`` is None where another process (``pid``) carries the rollout on."""

    rollout: Rollout
    pid: int | None = None
    outcome: RolloutOutcome | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceChange:
    """Whether an environment is in maintenance (``on``), and was not so before (``changed``)."""

    environment: EnvironmentId
    on: bool
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a command ended that somebody ran in an instance of its own; ``task`` is how the history calls it."""

    environment: EnvironmentId
    release: int
    task: str
    instance: str
    exit_status: int
    seconds: float
