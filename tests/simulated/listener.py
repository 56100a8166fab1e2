"""What an agent tells of its work, as a test hears it."""

from __future__ import annotations

from collections.abc import Mapping

from instar.control.snapshot import Snapshot
from instar.drift.check import Checked
from instar.model.progress import Report, silent
from instar.model.release import EnvironmentId
from instar.model.usage import Measured
from instar.operations.destroy import Staying


class Heard:
    """Implements ``operations.agent.AgentListener``."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.seen: list[EnvironmentId] = []
        self.staying: list[Staying] = []
        self.wants_usage = False
        self.usage: dict[EnvironmentId, Measured] = {}

    def saw(self, snapshot: Snapshot, seconds: float) -> None:
        self.seen.append(snapshot.environment.id)

    def measured(self, environment: EnvironmentId, measured: Measured) -> None:
        self.usage[environment] = measured

    def unlogged(self, environment: EnvironmentId, lost: Mapping[str, int]) -> None: ...

    def checked(self, checked: Checked) -> None: ...

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        self.errors.append(error)

    def forgot(self, environment: EnvironmentId) -> None: ...

    def destroyed(self, environment: EnvironmentId, staying: Staying) -> None:
        self.staying.append(staying)

    def certified(self, found: object) -> None: ...

    def beat(self) -> None: ...

    def report_for(self, environment: EnvironmentId) -> Report:
        return silent
