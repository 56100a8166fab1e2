"""kill -9 before and after everything that the agent does to begin what is due and to end it, on the real provider; and
clocks that jump, nights that lack an hour or have one twice. The job itself writes down that it ran.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from project import Project, answers

pytestmark = [pytest.mark.root, pytest.mark.thorough]

KILLER = Path(__file__).with_name("killer.py")
NEVER = 10**9
FEW = 16  # points in the thorough run; in the long one it is each
STEP_S = 10
UNKNOWN = "nobody saw how it ended"
JOB = "{command: [sh, -c, 'echo $INSTAR_INSTANCE >>/data/ran'], every: 10s, missed: once}"


@dataclasses.dataclass
class Nightly:
    """A project whose one job is due anew with each look, since the clock is further ahead each time."""

    project: Project
    ahead_s: int = 0

    @property
    def ran(self) -> Counter[str]:
        """Return how often each instance wrote down that its command ran."""
        file = self.project.home / "volumes/hello/dev/data/ran"
        return Counter(file.read_text().split()) if file.exists() else Counter()

    def look(self, kill_at: int = NEVER) -> int | None:
        """Have the agent look once; return how many things it did, None when it was killed."""
        count = self.project.folder.parent / "count"
        environ = {**self.project.environ, "KILLER_CLOCK_S": str(self.ahead_s)}
        words = [sys.executable, "-IB", str(KILLER), str(kill_at), str(count), "agent", "--once"]
        ended = subprocess.run(
            words, cwd=self.project.folder, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        if ended.returncode == -signal.SIGKILL:
            return None
        assert ended.returncode == 0, f"killed at {kill_at}: {ended.stderr}{ended.stdout}"
        return int(count.read_text())

    def at(self, moment: str) -> None:
        """Set the clock to a moment of UTC."""
        self.ahead_s = round((datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())

    def events(self, kind: str) -> list[Any]:
        return [one["detail"] for one in self.project.json("history", "dev") if one["kind"] == kind]

    def outcomes(self) -> dict[str, str]:
        return {one["task"]: one["outcome"] for one in self.events("task")}

    def launched(self) -> dict[str, str]:
        """Return which instance each was begun in. Raises AssertionError where one was begun twice."""
        begun = [(one["task"], name) for one in self.events("launch") if one.get("task") for name in one["instances"]]
        assert len({task for task, _ in begun}) == len(begun), begun
        return dict(begun)


@pytest.fixture
def nightly(project: Project) -> Iterator[Nightly]:
    project.edit("  limits:", "  volumes: [{name: data, path: /data, access: shared}]\n  limits:")
    schedule(project, f"job: {JOB}")
    project.instar("deploy", "dev")
    (project.home / "volumes/hello/dev/data").chmod(0o777)
    made = Nightly(project)
    yield made
    assert answers(project) and project.json("drift", "dev")["clean"]
    project.instar("history", "--verify")


def schedule(project: Project, entries: str) -> None:
    text = (project.folder / "instar.yaml").read_text()
    kept = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("    schedule:"))
    (project.folder / "instar.yaml").write_text(kept)
    project.edit("config: {GREETING: hello}\n", f"config: {{GREETING: hello}}\n    schedule: {{{entries}}}\n")


def settle(nightly: Nightly, when: str) -> None:
    """Have the agent look until what was begun has ended; then all must add up."""
    for _ in range(40):
        nightly.look()
        if nightly.launched().keys() == nightly.outcomes().keys():
            break
    begun, outcomes, ran = nightly.launched(), nightly.outcomes(), nightly.ran
    assert begun.keys() == outcomes.keys(), f"{when}: not all have ended"
    assert set(outcomes.values()) <= {"done", UNKNOWN}, f"{when}: {outcomes}"
    for task, instance in begun.items():
        times = ran.pop(instance, 0)
        assert times <= 1, f"{when}: {task} ran {times} times"
        assert times == 1 or outcomes[task] == UNKNOWN, f"{when}: {task} is said to be {outcomes[task]}, and never ran"
    assert not ran, f"{when}: nobody begun these: {ran}"
    assert not nightly.project.instance_ids() & set(begun.values()), f"{when}: something is left"


def killed(nightly: Nightly, points: range) -> None:
    for point in points:
        before = len(nightly.launched())
        nightly.ahead_s += STEP_S
        nightly.look(point)
        nightly.look(1 + point * 37 % points.stop)  # and the one that goes on is killed too
        settle(nightly, f"killed at {point}")
        assert len(nightly.launched()) > before, f"killed at {point}: it was never begun"


def points(nightly: Nightly) -> int:
    """Return how many things the agent does in a look that begins what is due."""
    for _ in range(2):  # the first look of all does more
        nightly.ahead_s += STEP_S
        number = nightly.look()
        settle(nightly, "nobody was killed")
    assert number is not None and number > 100
    return number


def test_an_agent_that_is_killed_here_and_there_runs_each_once(nightly: Nightly) -> None:
    number = points(nightly)
    killed(nightly, range(number // FEW, number + 1, number // FEW))


@pytest.mark.long
def test_an_agent_that_is_killed_anywhere_runs_each_once_or_says_that_nobody_knows(nightly: Nightly) -> None:
    first, step = (int(os.environ.get(f"INSTAR_KILL_{word}", "1")) for word in ("FIRST", "STEP"))  # to try some only
    killed(nightly, range(first, points(nightly) + 1, step))


def due_times(nightly: Nightly, entry: str, day: str) -> list[str]:
    """Return at which times of a day an entry was begun."""
    words = [task.split() for task in nightly.launched() if task.startswith(f"schedule {entry} {day}")]
    return sorted(at[11:16] for _, _, at in words)


NIGHTS = """\
lacks: {command: [sh, -c, 'echo $INSTAR_INSTANCE >>/data/ran'], cron: '30 2 * * *', zone: Europe/Berlin},
      hourly: {command: [sh, -c, 'echo $INSTAR_INSTANCE >>/data/ran'], cron: '0 * * * *', zone: Europe/Berlin}"""


def test_a_night_that_lacks_an_hour_and_one_that_has_it_twice(nightly: Nightly) -> None:
    """Berlin's hour from two to three is missing on 28 March 2027, and is there twice on 31 October."""
    schedule(nightly.project, NIGHTS)
    nightly.project.instar("deploy", "dev")
    for day, due in (("2027-03-28", ["01:00"]), ("2027-10-31", ["00:30"])):
        nightly.at(f"{day}T00:00:30")
        settle(nightly, day)
        for moment in ("00:30", "01:00", "01:30", "02:00"):
            nightly.at(f"{day}T{moment}:05")
            settle(nightly, f"{day} {moment}")
            settle(nightly, f"{day} {moment}, once more")
        assert due_times(nightly, "lacks", day) == due
        assert due_times(nightly, "hourly", day) == ["00:00", "01:00", "02:00"]


def test_a_clock_that_jumps_forward_and_back_begins_nothing_twice(nightly: Nightly) -> None:
    schedule(nightly.project, "daily: {command: [sh, -c, 'echo $INSTAR_INSTANCE >>/data/ran'], cron: '0 3 * * *'}")
    nightly.project.instar("deploy", "dev")
    nightly.at("2027-05-01T03:00:10")
    settle(nightly, "it is time")
    assert due_times(nightly, "daily", "2027-05-01") == ["03:00"]
    for moment in ("2027-04-30T03:00:10", "2027-05-01T02:59:50", "2027-05-01T03:00:05", "2027-05-01T03:00:20"):
        nightly.at(moment)
        settle(nightly, f"back to {moment}")
    assert [*nightly.launched()].count("schedule daily 2027-05-01T03:00:00Z") == 1
    assert due_times(nightly, "daily", "2027-04-30") == [], "it is a time before the last that was begun"
    nightly.at("2027-05-11T09:00:00")
    settle(nightly, "ten days ahead")
    (missed,) = (one for one in nightly.events("missed") if one["entry"] == "daily" and one["first"] > "2027-05-01")
    assert (missed["count"], missed["first"][:16]) == (10, "2027-05-02T03:00")
    nightly.at("2027-05-03T03:00:10")
    settle(nightly, "and back again: that one is told of as missed")
    assert due_times(nightly, "daily", "2027-05-03") == []
