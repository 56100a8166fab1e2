"""Why an environment is as it is."""

from __future__ import annotations

from datetime import datetime

from instar.frozen import dataclass
from instar.model.events import Event
from instar.model.release import Rollout
from instar.model.status import EnvironmentStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """``decisions``: the last events, oldest first. ``waits``: what is waited for, a sentence each. ``next``: what
    whoever acts next does, in that order; () where nothing is to be done. ``due``: what the agent, and nobody else,
    begins besides, since the clock says so. ``failed``: the last rollout, where it
    failed. ``working``: the process of this machine that acts on it just now. ``scheduled``: what the clock begins
    next, with when; None where nothing is to come."""

    status: EnvironmentStatus
    decisions: tuple[Event, ...]
    waits: tuple[str, ...]
    next: tuple[str, ...]
    due: tuple[str, ...]
    working: int | None
    scheduled: tuple[str, datetime] | None = None
    failed: Rollout | None = None
