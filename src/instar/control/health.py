"""What one look can't tell: who has not answered, or had no traffic, for how long.

Kept in memory by whoever runs the loop again and again; a new process begins to count anew, but for what had no traffic
any more when the last rollout ended.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from instar.control.snapshot import GroupView, Snapshot

MISSES = 3  # so many health intervals without an answer, and at least LEAST_S, are enough
LEAST_S = 2.0


@dataclass
class HealthHistory:
    """``silent``: when each group that does not answer was first seen so; ``quiet``: when each without traffic was;
    ``proven``: groups that have answered once; ``well``: since when each one that answers now does. ``looked``: it has
    seen the environment before."""

    silent: dict[str, datetime] = field(default_factory=dict)
    quiet: dict[str, datetime] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    well: dict[str, datetime] = field(default_factory=dict)
    looked: bool = False

    def see(self, snapshot: Snapshot) -> Snapshot:
        """Return ``snapshot`` with what is known from looks before."""
        quiet = [group for group in snapshot.groups if group.routed is not None and not group.weight]
        self.quiet = {group.id: self.quiet.get(group.id, self._quiet_from(snapshot, group)) for group in quiet}
        self.looked = True
        unwell = self.unwell(snapshot) if snapshot.failures is not None else frozenset[str]()
        healed = snapshot.failures is not None and snapshot.traits.heals
        lost = frozenset(name for name in unwell if self._is_lost(snapshot, name)) if healed else frozenset[str]()
        well = [group.id for group in snapshot.groups if _serves(group) or group.healthy]
        self.well = {name: self.well.get(name, snapshot.now) for name in well}
        seen = dataclasses.replace(snapshot, quiet_since=dict(self.quiet), well_since=dict(self.well))
        return dataclasses.replace(seen, unwell=unwell, lost=lost)

    def _quiet_from(self, snapshot: Snapshot, group: GroupView) -> datetime:
        """Return since when a group has no traffic that is seen so for the first time: whoever has never looked before
        goes by the end of the last rollout, of groups that it left."""
        left = None if self.looked or group.release == snapshot.environment.active else snapshot.rollout_ended_at
        return left or snapshot.now

    def unwell(self, snapshot: Snapshot) -> frozenset[str]:
        """Return the groups that have not answered for too long; one that still has its time to begin has not."""
        running = {group.id: group for group in snapshot.groups if group.state == "running"}
        self.proven = {name for name in self.proven if name in running}
        self.proven |= {name for name, group in running.items() if _serves(group) or group.healthy}
        silent = {name for name, group in running.items() if group.silent}
        self.silent = {name: self.silent.get(name, snapshot.now) for name in silent}
        return frozenset(name for name in silent if self._too_long(snapshot, running[name]))

    def _too_long(self, snapshot: Snapshot, group: GroupView) -> bool:
        health = snapshot.service_of(group).health
        patience = max(timedelta(milliseconds=MISSES * health.interval_ms), timedelta(seconds=LEAST_S))
        late = group.id in self.proven or snapshot.now >= group.began_at + timedelta(milliseconds=health.deadline_ms)
        return late and snapshot.now >= self.silent[group.id] + patience

    def _is_lost(self, snapshot: Snapshot, name: str) -> bool:
        """Tell whether the engine that heals a group has had the time for it that a new one has to begin: it may not
        even try, where somebody had it keep no member."""
        group = next(one for one in snapshot.groups if one.id == name)
        time_to_heal = timedelta(milliseconds=snapshot.service_of(group).health.deadline_ms)
        return snapshot.now >= self.silent[name] + time_to_heal


def _serves(group: GroupView) -> bool:
    return group.state == "running" and group.weight > 0 and group.up
