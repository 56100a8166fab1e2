"""The right to act on an environment, as a shared ledger gives it."""

from __future__ import annotations

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldLease:
    """``number`` only grows: an engine that knows a higher one is told things by somebody else by now. ``holder`` is
    who has it, for people."""

    number: int
    holder: str
