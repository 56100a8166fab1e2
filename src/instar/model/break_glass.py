"""What became of an instance that somebody looked into, or wants replaced."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from instar.frozen import dataclass
from instar.model.release import Instance, Taint
from instar.model.survey import Difference


@dataclass(frozen=True, kw_only=True, slots=True)
class Tainted:
    """``agent`` is the agent's process on this machine, None where none runs here; ``in_charge``: the one that replaces
    the instance by itself, for people, wherever it is. ``member``: of the instance, a group, that one alone is."""

    instance: Instance
    taint: Taint
    agent: int | None
    in_charge: str | None
    member: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellResult:
    """How it was left. ``differences`` is None where the instance has ended, ``whole`` whether all was compared,
    ``uncompared`` why nothing could be."""

    exit_status: int
    seconds: float
    recording: str
    differences: tuple[Difference, ...] | None
    whole: bool = True
    uncompared: str | None = None

    @property
    def summary(self) -> str:
        """How much differs, in words."""
        if self.differences is None:
            return "the instance has ended"
        if self.uncompared is not None:
            return f"nothing was compared: {self.uncompared}"
        count = len(self.differences)
        number = "nothing differs" if not count else "1 difference" if count == 1 else f"{count} differences"
        return number if self.whole else f"{number}, and more than was looked at"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedRecording:
    """A shell that was recorded, with what its file says of itself; ``title`` is None where it cannot be read."""

    name: str
    instance: str
    at: datetime
    path: Path
    seconds: float
    title: str | None
    command: str | None
