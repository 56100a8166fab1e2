"""What a check of an environment answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from instar.drift.check import Checked
from instar.frozen import dataclass
from instar.model.status import LayerGuarantee


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """``seconds``: how long the check took, where that is known. ``layers``: what keeps their bytes as they were baked.
    ``releases``: of which release each instance is.

    ``dead``: those of the instances that have ended, and of which so nothing could be checked; ``nothing_runs``: that
    is all of them, but for commands."""

    checked: Checked
    seconds: float | None
    layers: LayerGuarantee | None
    releases: Mapping[str, int] = field(default_factory=dict)
    dead: tuple[str, ...] = ()
    nothing_runs: bool = False

    @property
    def as_baked(self) -> bool:
        """Whether what runs is what was baked: nothing is other, and not all of it is dead."""
        return self.checked.clean and not self.nothing_runs
