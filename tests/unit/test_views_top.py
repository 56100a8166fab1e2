"""A page of figures fits the terminal that it is drawn on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import re
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise

import pytest

from instar.cli.screen import LivePage
from instar.model.release import EnvironmentId
from instar.model.usage import (
    Consumption,
    EnvironmentConsumption,
    InstanceConsumption,
    ReleaseConsumption,
    RoleConsumption,
)
from instar.views.top import top_page

ALL = Consumption(
    processors=0.5,
    memory_bytes=100 << 20,
    cache_bytes=5 << 20,
    limit_bytes=256 << 20,
    processes=4,
    received_bytes_per_s=2048.0,
    sent_bytes_per_s=512.0,
    requests_per_s=12.5,
    failed_per_s=0.0,
    mean_ms=4.2,
)


def crowd(count: int, *, unknown: tuple[str, ...] = ()) -> EnvironmentConsumption:
    """Return an environment of so many instances, each of which keeps a processor busier than the one before."""
    instances = tuple(
        InstanceConsumption(
            id=f"web-dev-7-{one}", state="running", figures=dataclasses.replace(ALL, processors=one / 100)
        )
        for one in range(1, count + 1)
    )
    role = RoleConsumption(role="", figures=ALL, instances=instances)
    return EnvironmentConsumption(
        environment=EnvironmentId(service="web", name="dev"),
        active=7,
        at=datetime(2026, 11, 30, 12, 0, tzinfo=UTC),
        seconds=2.0,
        figures=ALL,
        releases=(ReleaseConsumption(number=7, figures=ALL, roles=(role,)),),
        unknown=unknown,
    )


def lines(found: EnvironmentConsumption, width: int | None = None, height: int | None = None) -> list[str]:
    page = top_page(found, width, height)
    return [line for one in page for line in (one.split("\n") if isinstance(one, str) else one.lines())]


def test_all_is_shown_where_there_is_room() -> None:
    title, _, header, release, instance = lines(crowd(1))
    assert title == "web/dev · release 7 is active · 12.5 requests/s, 0 failed, answered in 4.2 ms · 12:00:00 UTC"
    assert header.split() == [
        *("STATE", "CPU", "MEMORY", "CACHE", "PROCESSES"),
        *("RECEIVED/s", "SENT/s", "REQUESTS/s", "FAILED/s", "RESPONSE"),
    ]
    assert release.startswith("release 7 ") and "50.0 %" in release and "100 MiB of 256 MiB (39 %)" in release
    assert instance.startswith("  web-dev-7-1 ") and instance.endswith(
        "2.0 KiB     512 B   12.5        0         4.2 ms"
    )


def test_columns_that_matter_least_go_where_a_terminal_is_narrow() -> None:
    headers = [lines(crowd(2), width)[2] for width in (200, 120, 100, 80, 60, 20)]
    for wider, narrower in pairwise(headers):
        assert set(narrower.split()) <= set(wider.split())
    assert len(headers[2]) <= 100 and len(headers[3]) <= 80
    assert headers[-1].split() == ["CPU", "MEMORY", "REQUESTS/s"]
    assert "CACHE" in headers[0] and "CACHE" not in headers[2]


@pytest.mark.parametrize("height", [10, 24, 40, 60])
def test_the_busiest_instances_are_shown_where_a_terminal_is_low(height: int) -> None:
    shown = lines(crowd(50), 120, height)
    assert len(shown) <= height
    if height == 60:
        assert len(shown) == 3 + 1 + 50
        return
    own = [line for line in shown if "web-dev-7-" in line]
    assert "web-dev-7-50 " in own[-1] and "web-dev-7-1 " not in "".join(own)
    assert shown[-1].startswith(f"and {50 - len(own)} more that use less")


def test_what_is_not_known_is_a_dash_and_why_is_said_below() -> None:
    found = crowd(1, unknown=("nobody counts requests",))
    (release,) = found.releases
    found = dataclasses.replace(found, releases=(dataclasses.replace(release, figures=Consumption()),))
    shown = lines(found)
    assert shown[3].split() == ["release", "7", "active", *["—"] * 9]
    assert shown[-1] == "—: nobody counts requests"


def test_why_something_is_not_known_is_said_whole_on_a_narrow_terminal() -> None:
    why = "nothing in the cluster says what pods use (metrics.k8s.io); metrics-server does, where it is installed"
    shown = lines(crowd(50, unknown=(why,)), 60, 24)
    assert len(shown) <= 24 and all(len(line) <= 60 for line in shown[4:])
    assert " ".join(shown).endswith(f"—: {why}")


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard output is a terminal of 24 lines of 80 characters inside; yield where what is drawn there is read."""
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    with os.fdopen(there, "w", buffering=1) as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.delenv("NO_COLOR", raising=False)
        patched.setenv("TERM", "xterm")
        yield here
    os.close(here)


def test_a_live_page_is_drawn_over_itself_and_never_scrolls(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    with terminal(monkeypatch) as drawn:
        assert LivePage.is_possible()
        page = LivePage()
        for count in (50, 2):
            page.draw(partial(top_page, crowd(count)))
            texts.append(os.read(drawn, 1 << 16).decode())
    assert [text.startswith("\x1b[2J") for text in texts] == [True, False]
    for text in texts:
        assert "\x1b[H" in text[:8] and text.endswith("\x1b[J")
        assert text.count("\n") < 24
        assert all(len(re.sub(r"\x1b\[[0-9]*[A-Zm]", "", line)) <= 80 for line in text.split("\r\n"))


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_that_is_not_to_be_steered_gets_a_single_page(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with terminal(monkeypatch):
        monkeypatch.setenv(name, value)
        assert not LivePage.is_possible()
