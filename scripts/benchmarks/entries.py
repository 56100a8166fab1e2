"""What the agent costs while nothing happens: with fifty instances, and with a thousand commands by the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import idle
from figures import Figure
from subject import Subject, free_port

if TYPE_CHECKING:
    from items import Bench

ENTRIES, MOST = 1_000, 1.05


def agent(bench: Bench) -> list[Figure]:
    """The agent while nothing happens, with fifty instances in five environments."""
    found = [idle.measure(bench.fresh("idle"), bench.home) for _ in bench.times(1)]
    what = f"agent, idle, {idle.ENVIRONMENTS * idle.INSTANCES} instances"
    return [
        Figure(what=f"{what}: of one core", ours=[one[0] for one in found], unit="%", most=idle.MOST_PERCENT),
        Figure(what=f"{what}: memory", ours=[one[1] for one in found], unit="MB", most=idle.MOST_MB),
    ]


def timed(bench: Bench) -> list[Figure]:
    """The agent while nothing happens, with a thousand commands by the clock and without them."""
    folder, port = bench.fresh("entries"), free_port()
    folder.mkdir()
    subject = Subject(folder=folder, home=bench.home, port=port)
    used: dict[bool, list[float]] = {True: [], False: []}
    try:
        for _ in bench.times(3):
            for with_them in (False, True):
                schedule = f", schedule: {_schedule()}" if with_them else ""
                line = f"  dev: {{listen: '127.0.0.1:{port}'{schedule}}}\n"
                (folder / "instar.yaml").write_text(idle.DEFINITION + line)
                subject.run("deploy", "dev")
                used[with_them].append(idle.watch(subject)[0])
    finally:
        subject.run("destroy", "idle/dev", "--yes", json_too=False)
    return [
        Figure(
            what=f"agent, idle, one instance and {ENTRIES:,} commands by the clock: of one core",
            ours=used[True],
            unit="%",
            beside=used[False],
            peer="without any",
            most=MOST,
        )
    ]


def _schedule() -> str:
    """Return entries that are all due once a day, about twelve hours from now."""
    hour = (datetime.now(UTC).hour + 12) % 24
    entries = {f"job-{n}": {"command": ["true"], "cron": f"{n % 60} {hour} * * *"} for n in range(ENTRIES)}
    return json.dumps(entries)
