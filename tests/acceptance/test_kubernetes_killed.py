"""kill -9 of Instar before and after everything that it asks of a cluster, with requests all the while: whoever deploys
next goes on, no request is lost, and nothing is left that nobody knows."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.kinds import DEPLOYMENT
from kubernetes_author import MAIN, Author, Requests, authoring
from progress import Progress

pytestmark = pytest.mark.cluster

KILLER = Path(__file__).with_name("api_killer.py")
NEVER = 10**9
FEW = 3  # points in the normal run, of each strategy and of what is done besides
STRATEGIES = {
    "canary": "{strategy: canary, steps: [50], pause: 100ms}",
    "blue-green": "{strategy: blue-green}",
}


class Commands:
    """Runs an author's commands, each a process of its own that may be killed: see api_killer.py."""

    def __init__(self, author: Author) -> None:
        self._server = author.start(sys.executable, "-B", str(KILLER), "serve", stdin=subprocess.PIPE)
        self._out, self._err = author.folder / "out", author.folder / "err"

    def run(self, kill_at: int, counted: Path, *words: str) -> subprocess.CompletedProcess[str]:
        assert self._server.stdin is not None and self._server.stdout is not None
        line = json.dumps([kill_at, str(counted), str(self._out), str(self._err), *words])
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        status = os.waitstatus_to_exitcode(int(self._server.stdout.readline()))
        return subprocess.CompletedProcess(words, status, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        _, err = self._server.communicate(timeout=60)
        assert self._server.returncode == 0, err


class Trial:
    """One environment that is deployed to again and again, killed in different places, and looked at afterwards."""

    def __init__(self, author: Author, strategy: str) -> None:
        self.author = author
        self.strategy = strategy
        self.greetings = (f"v{number}" for number in itertools.count(1))
        self.change()
        author.deploy()

    @functools.cached_property
    def commands(self) -> Commands:
        return Commands(self.author)

    def close(self) -> None:
        self.commands.close()

    def change(self) -> None:
        self.greeting = next(self.greetings)
        rollout = STRATEGIES[self.strategy]
        self.author.write(greeting=self.greeting, rollout=rollout, pre_stop="1s", deadline="2m")

    def deploy(self, kill_at: int) -> int | None:
        """Deploy; return how many points it had, None when it was killed."""
        return self.run(kill_at, "deploy", "prod", "--image", self.author.image)

    def run(self, kill_at: int, *words: str) -> int | None:
        """Run a command; return how many points it had, None when it was killed."""
        counted = self.author.folder / "count"
        counted.unlink(missing_ok=True)
        done = self.commands.run(kill_at, counted, *words)
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, f"killed at {kill_at}: {done.stderr}{done.stdout}"
        return int(counted.read_text())

    def said(self, *words: str) -> str:
        """Return what a command prints, which has to end well."""
        done = self.commands.run(NEVER, self.author.folder / "count", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> Any:
        return json.loads(self.said("status", "prod", "--json"))

    def roll_back(self, kill_at: int) -> int | None:
        """Give the traffic to the release that is hot; return how many points that had, None when it was killed."""
        releases = self.status()["releases"]
        (hot,) = [str(one["number"]) for one in releases if one["state"] == "hot"]
        return self.run(kill_at, "rollback", "prod", "--to", hot)

    def kill_rollback(self, point: int) -> None:
        """Roll back, killed at a point; whoever keeps the environment goes on with what was begun."""
        before, begun = self.status()["active"], self.begun()
        assert self.roll_back(point) is None, point
        deadline = time.monotonic() + 60
        with self.author.start(sys.executable, "-c", MAIN, "agent") as agent:
            try:
                while self.status()["rollout"] is not None:
                    assert time.monotonic() < deadline, f"nobody carried out what was begun at {point}"
                    time.sleep(0.5)
            finally:
                agent.terminate()
                agent.communicate(timeout=60)
        self.check(f"a rollback was killed at {point}", newest=False)
        after, begun = self.status()["active"], self.begun() - begun
        assert begun == (after != before), f"{point}: what is begun is carried out, once: {before}, {after}, {begun}"

    def begun(self) -> int:
        """Return how many rollouts were begun."""
        return sum(1 for one in json.loads(self.said("history", "prod", "--json")) if one["kind"] == "rollout")

    def destroy(self, point: int) -> None:
        """Destroy the environment, killed at a point, and once more; then have it again."""
        made = self.run(point, "destroy", "prod", "--yes")  # what waits for pods asks now more often, now less
        assert made is None or made < point, (made, point)
        done = self.author.run(sys.executable, "-c", MAIN, "destroy", "prod", "--yes")
        assert done.returncode == 0 or "cannot find" in done.stderr, done.stderr
        assert self.author.left() == [], f"the end was killed at {point}"

    def count(self) -> int:
        """Return how many points a deploy has: the second one, which removes what is hot no more."""
        number = None
        for _ in range(2):
            self.change()
            number = self.deploy(NEVER)
        assert number is not None
        return number

    def kill(self, *points: int) -> None:
        """Deploy a new release, killed once for each of ``points``; the last try is left in peace."""
        self.change()
        ends = [self.deploy(point) for point in (*points, NEVER)]
        assert ends[0] is None or ends[0] < points[0], f"it was not killed at {points}"
        self.check(f"killed at {points}")

    def check(self, when: str, *, newest: bool = True) -> None:
        author = self.author
        status = self.status()
        (active,) = [one for one in status["releases"] if one["state"] == "active"]
        assert (active["weight"], status["rollout"]) == (100, None), when
        assert all(one["weight"] == 0 for one in status["releases"] if one is not active), when
        assert not newest or active is status["releases"][0], when
        weights = author.weights()
        assert [name for name, weight in weights.items() if weight] == [f"shop-prod-{active['number']}-1"], when
        known = {one["id"].rpartition("/")[2] for release in status["releases"] for one in release["instances"]}
        found = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
        orphans = [one["metadata"]["name"] for one in found if not is_known(one["metadata"]["name"], known)]
        assert orphans == [], f"{when}: {known}"
        assert "events" in self.said("history", "prod", "--verify"), when


def is_known(deployment: str, instances: set[str]) -> bool:
    """Say whether a Deployment is that of a pod or a group that the status shows."""
    return any(one == deployment or one.startswith(f"{deployment}-") for one in instances)


def some_of(count: int) -> list[int]:
    """Return a few of that many points, as far from one another as they can be; with INSTAR_KILL_ALL all."""
    if "INSTAR_KILL_ALL" in os.environ:
        return list(range(1, count + 1))
    return sorted({max(1, count * number // FEW) for number in range(1, FEW + 1)})


def spread(count: int) -> list[int]:
    """Return the points from 1 to ``count`` in an order in which the first ones, however many, are spread over all."""
    return sorted(range(1, count + 1), key=lambda point: f"{point - 1:016b}"[::-1])


@pytest.fixture(params=STRATEGIES)
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    with authoring(tmp_path) as author:
        made = Trial(author, request.param)
        with Requests(author) as asked:
            yield made
        made.close()
        author.instar("destroy", "prod", "--yes")
        assert author.left() == []
    lost = {answer: number for answer, number in asked.answers.items() if " s3cret" not in answer}
    assert lost == {} and asked.answers.total() > 100, asked.answers


def test_killed_at_some_calls_it_ends_as_it_would_have(trial: Trial) -> None:
    count = trial.count()
    assert count >= 16, "it asks for more than that"
    for point in some_of(count):
        trial.kill(point)


@pytest.fixture
def blue_green(tmp_path: Path) -> Iterator[Trial]:
    with authoring(tmp_path) as author:
        made = Trial(author, "blue-green")
        yield made
        made.close()


def test_a_rollback_that_is_killed_is_carried_out_by_whoever_comes_next(blue_green: Trial) -> None:
    trial = blue_green
    trial.change()
    trial.author.deploy()
    with Requests(trial.author) as asked:
        count = trial.roll_back(NEVER)
        assert count is not None and count >= 2
        for point in some_of(count):
            trial.kill_rollback(point)
    lost = {answer: number for answer, number in asked.answers.items() if " s3cret" not in answer}
    assert lost == {} and asked.answers.total() > 100, asked.answers
    trial.author.instar("destroy", "prod", "--yes")
    assert trial.author.left() == []


def test_the_end_of_an_environment_that_is_killed_comes_all_the_same(blue_green: Trial) -> None:
    trial = blue_green
    count = trial.run(NEVER, "destroy", "prod", "--yes")
    assert count is not None and trial.author.left() == []
    for point in some_of(count):
        trial.author.deploy()
        trial.destroy(point)


@pytest.mark.long
@pytest.mark.parametrize("what", ["changes", "calls"])
def test_killed_at_every_point_and_again_while_recovering(trial: Trial, what: str) -> None:
    """INSTAR_PROGRESS: which points are done is written down, and those are left out."""
    if what == "calls":
        trial.author.namespace.environ["KILL_CALLS"] = "1"
    count, progress = trial.count(), Progress(f"kubernetes-killed-{trial.strategy}-{what}")
    print(f"{count} points", file=sys.stderr)
    done = {one["point"] for one in progress.done}
    for point in [one for one in spread(count) if one not in done]:
        trial.kill(point, 1 + (point * 7) % count)
        progress.add(point=point, of=count)
