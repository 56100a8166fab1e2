"""kill -9 before and after everything that a rollout does, on the real provider under load; and again while recovering.

The points are enumerated by ``killer.py``, which knows nothing of what Instar does. In the normal run some of them are
tried, spread evenly; with --long every one, each with a second kill in the recovery.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leftovers
import load
import pytest
from project import Project

pytestmark = pytest.mark.root

KILLER = Path(__file__).with_name("killer.py")
FEW = 2  # points of each strategy in the normal run
NEVER = 10**9
STRATEGIES = {
    "blue-green": "{strategy: blue-green}",
    "canary": "{strategy: canary, steps: [50], pause: 100ms, analysis: {min_requests: 1, slower_than: 10s}}",
    "rolling": "{strategy: rolling, batch: 1}",
}
AT_LENGTH = [pytest.param(strategy, marks=pytest.mark.thorough) for strategy in ("canary", "rolling")]
CHECKED = """\
  before: [{command: ['true']}]
  smoke: [{path: /cgi-bin/health}]
"""


class Trial:
    """One environment that is deployed to again and again, killed in different places, and looked at afterwards."""

    def __init__(self, project: Project, strategy: str) -> None:
        self.project = project
        self.version = 1
        self.counted = project.folder.parent / "count"
        text = (project.folder / "instar.yaml").read_text()
        text = text.replace(
            "config: {GREETING: hello}", f"config: {{GREETING: hello}}\n    rollout: {STRATEGIES[strategy]}"
        )
        text = text.replace("    config: {GREETING: hello}", "    instances: 2\n    config: {GREETING: hello}")
        text = text.replace("grace: 2s", "grace: 100ms")
        (project.folder / "instar.yaml").write_text(text.replace("  limits: {memory", f"{CHECKED}  limits: {{memory"))
        project.instar("deploy", "dev")

    def deploy(self, kill_at: int) -> int | None:
        """Deploy; return how many things it did, None when it was killed."""
        self.counted.unlink(missing_ok=True)
        words = [sys.executable, "-IB", str(KILLER), str(kill_at), str(self.counted), "deploy", "dev", "--json"]
        environment: dict[str, Any] = {"cwd": self.project.folder, "env": self.project.environ}
        try:
            ended = subprocess.run(words, **environment, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired as error:
            told = [self.project.try_instar(*words).out for words in (("status", "dev"), ("history", "--last", "20"))]
            pytest.fail("\n".join([f"no end, killed at {kill_at}: {(error.stderr or b'').decode()}", *told]))
        if ended.returncode == -signal.SIGKILL:
            return None
        assert ended.returncode == 0, f"killed at {kill_at}: {ended.stderr}{ended.stdout}"
        return int(self.counted.read_text())

    def change(self) -> None:
        self.version += 1
        self.project.set_version(str(self.version))
        self.project.instar("bake")  # how a bake is killed is another test's

    def count(self) -> int:
        self.change()
        number = self.deploy(NEVER)
        assert number is not None
        return number

    def kill(self, *points: int) -> None:
        """Deploy a new version, killed once for each of ``points``; the last try is left in peace."""
        self.change()
        for point in (*points, NEVER):
            self.deploy(point)
        self.check(f"killed at {points}")

    def check(self, when: str) -> None:
        project = self.project
        status = project.json("status", "dev")
        assert [one["state"] for one in status["releases"]].count("active") == 1, when
        assert sum(one["weight"] for one in status["releases"]) == 100 and status["rollout"] is None, when
        assert status["releases"][0]["weight"] == 100, f"{when}: the newest has all of it"
        assert project.get() == f"hello from version {self.version}\n", when
        assert "events" in project.instar("history", "--verify").out
        known = project.instance_ids()
        assert leftovers.remaining(lambda: self.orphans(known)) == [], when

    def orphans(self, known: set[str]) -> list[str]:
        """Return what is on the machine of instances that nobody knows."""
        mark = (self.project.home / "id").read_text().strip()
        found = self.project.traces()
        names = {name for line in found if "cgroup" in line for name in re.findall(r"hello-dev-\d+-\d+", line)}
        spaces = [line for line in found if line.startswith(f"network namespace instar-{mark}")]
        links = [line for line in found if line.startswith(f"link iv{mark}")]
        too_many = [line for group in (spaces, links) for line in group[len(known) :]]
        return sorted(names - known) + too_many


@pytest.fixture(params=STRATEGIES)
def trial(request: pytest.FixtureRequest, project: Project) -> Iterator[Trial]:
    made = Trial(project, request.param)
    with load.running(project.url(), "--rate", "60", "--connections", "4") as traffic:
        yield made
        report = traffic.stop()
    assert report["failed"] == 0, report


@pytest.mark.parametrize("trial", ["blue-green", *AT_LENGTH], indirect=True)
def test_killed_here_and_there_it_ends_as_it_would_have(trial: Trial) -> None:
    count = trial.count()
    assert count > 100, "it does more than that"
    for point in range(1, FEW + 1):
        trial.kill(count * point // (FEW + 1))


@pytest.mark.long
def test_killed_everywhere_and_again_while_recovering(trial: Trial) -> None:
    count = trial.count()
    print(f"{count} points", file=sys.stderr)
    first, step = (int(os.environ.get(f"INSTAR_KILL_{word}", "1")) for word in ("FIRST", "STEP"))  # to try some only
    for point in range(first, count + 1, step):
        print(f"point {point}", file=sys.stderr)
        trial.kill(point, 1 + (point * 37) % count)
