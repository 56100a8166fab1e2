"""Lines of several instances as one log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from instar.model.environment import Settings
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.logs import logs

ENV = EnvironmentId(service="web", name="dev")
STATE = EnvironmentState(id=ENV, settings=Settings(), active=1, created_at=datetime(2026, 1, 1, tzinfo=UTC))
KEPT = {
    "web-dev-1-1": ["2026-01-01T00:00:01.0+00:00 stdout one", "2026-01-01T00:00:03.0+00:00 stdout three"],
    "web-dev-1-2": ["2026-01-01T02:00:02.0+02:00 stdout two", "2026-01-01T00:00:04.123456789+00:00 stdout four"],
}


def log_lines(name: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
    return iter(KEPT[name][-last if last else None :] if last != 0 else [])


def words(**asked: Any) -> list[str]:
    provider = SimpleNamespace(log_lines=log_lines)
    instances = [SimpleNamespace(id=name, release=1) for name in KEPT]
    ledger = SimpleNamespace(instances=lambda environment: instances, instance_names=lambda environment: list(KEPT))
    workspace: Any = SimpleNamespace(provider=lambda name: provider, ledger=ledger)
    wanted: dict[str, Any] = {"last": None, "follow": False, **asked}
    return [line.rpartition(" ")[2] for _, line in logs(workspace, STATE, wanted.pop("instance", None), **wanted)]


def test_lines_come_in_the_order_of_their_times() -> None:
    assert words() == ["one", "two", "three", "four"]


def test_the_last_lines_are_the_last_of_all_together() -> None:
    assert words(last=1) == ["four"]
    assert words(last=3) == ["two", "three", "four"]
    assert words(last=0) == []


def test_only_what_came_since() -> None:
    assert words(since=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)) == ["three", "four"]
    assert words(since=datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC), instance="web-dev-1-2") == ["four"]
