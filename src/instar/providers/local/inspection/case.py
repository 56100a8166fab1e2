"""One instance that is looked at."""

from __future__ import annotations

from instar.frozen import dataclass
from instar.model.drift import Finding
from instar.process import Process
from instar.providers.local.creation import CreationOrder
from instar.providers.local.inspection.facts import Facts
from instar.providers.local.inspection.processes import Allowed
from instar.providers.local.names import InstanceNames


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One instance, what it was when it was made, and what its processes may be."""

    names: InstanceNames
    process: Process
    made: Facts
    allowed: Allowed
    order: CreationOrder

    def finding(self, kind: str, path: str, expected: str, observed: str) -> Finding:
        return Finding(instance=self.names.name, kind=kind, path=path, expected=expected, observed=observed)
