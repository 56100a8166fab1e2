"""What moved between two locks, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from instar.model.lock import Lock


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package or wheel that moved. ``security``: its new version is from the release's security suite."""

    what: Literal["package", "wheel"]
    kind: Literal["added", "removed", "changed"]
    name: str
    old: str | None = None
    new: str | None = None
    security: bool = False

    def __str__(self) -> str:
        moved = {"added": f"+ {self.name} {self.new}", "removed": f"- {self.name} {self.old}"}
        text = moved.get(self.kind, f"  {self.name} {self.old} → {self.new}")
        return f"{text}  (security)" if self.security else text


def changes(old: Lock | None, new: Lock) -> tuple[Change, ...]:
    """Return what moved from ``old`` to ``new``: packages first, each by name."""
    secured = {one.name for one in new.packages if one.suite.endswith("-security")}
    packages = _changes(
        "package",
        {one.name: one.version for one in old.packages} if old else {},
        {one.name: one.version for one in new.packages},
        secured,
    )
    wheels = _changes(
        "wheel",
        {one.name: one.version for one in old.wheels} if old else {},
        {one.name: one.version for one in new.wheels},
        set(),
    )
    return *packages, *wheels


def _changes(
    what: Literal["package", "wheel"], old: Mapping[str, str], new: Mapping[str, str], secured: set[str]
) -> tuple[Change, ...]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            found.append(
                Change(
                    what=what,
                    kind="added" if before is None else "removed" if after is None else "changed",
                    name=name,
                    old=before,
                    new=after,
                    security=after is not None and name in secured,
                )
            )
    return tuple(found)
