"""kill -9 of Instar before and after everything that it asks of a cluster, with requests all the while: whoever deploys
next goes on, no request is lost, and nothing is left that nobody knows."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import DEPLOYMENT
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster

KILLER = Path(__file__).with_name("api_killer.py")
NEVER = 10**9
FEW = 4  # points in the normal run
STRATEGIES = {
    "canary": "{strategy: canary, steps: [50], pause: 100ms}",
    "blue-green": "{strategy: blue-green}",
}


class Trial:
    """One environment that is deployed to again and again, killed in different places, and looked at afterwards."""

    def __init__(self, author: Author, strategy: str) -> None:
        self.author = author
        self.strategy = strategy
        self.greetings = (f"v{number}" for number in itertools.count(1))
        self.change()
        author.deploy()

    def change(self) -> None:
        self.greeting = next(self.greetings)
        self.author.write(greeting=self.greeting, rollout=STRATEGIES[self.strategy])

    def deploy(self, kill_at: int) -> int | None:
        """Deploy; return how many points it had, None when it was killed."""
        counted = self.author.folder / "count"
        counted.unlink(missing_ok=True)
        words = [sys.executable, "-B", str(KILLER), str(kill_at), str(counted), "deploy", "prod"]
        done = self.author.run(*words, "--image", self.author.image)
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, f"killed at {kill_at}: {done.stderr}{done.stdout}"
        return int(counted.read_text())

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
        assert ends[0] is None, f"it was not killed at {points}"
        self.check(f"killed at {points}")

    def check(self, when: str) -> None:
        author = self.author
        status = author.json("status", "prod")
        newest, *older = status["releases"]
        assert (newest["state"], newest["weight"], status["rollout"]) == ("active", 100, None), when
        assert all(one["weight"] == 0 and one["state"] != "active" for one in older), when
        weights = author.weights()
        assert [name for name, weight in weights.items() if weight] == [f"shop-prod-{newest['number']}-1"], when
        known = {one["id"].rpartition("/")[2] for release in status["releases"] for one in release["instances"]}
        found = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
        orphans = [one["metadata"]["name"] for one in found if not is_known(one["metadata"]["name"], known)]
        assert orphans == [], f"{when}: {known}"
        assert "events" in author.instar("history", "prod", "--verify"), when


def is_known(deployment: str, instances: set[str]) -> bool:
    """Say whether a Deployment is that of a pod or a group that the status shows."""
    return any(one == deployment or one.startswith(f"{deployment}-") for one in instances)


@pytest.fixture(params=STRATEGIES)
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    with authoring(tmp_path) as author:
        made = Trial(author, request.param)
        with Requests(author) as asked:
            yield made
        author.instar("destroy", "prod", "--yes")
        assert author.left() == []
    lost = {answer: number for answer, number in asked.answers.items() if " s3cret" not in answer}
    assert lost == {}, asked.answers


def test_killed_at_some_calls_it_ends_as_it_would_have(trial: Trial) -> None:
    count = trial.count()
    assert count >= 16, "it asks for more than that"
    for point in range(1, FEW + 1):
        trial.kill(count * point // (FEW + 1))


@pytest.mark.long
def test_killed_at_every_call_and_again_while_recovering(trial: Trial) -> None:
    count = trial.count()
    print(f"{count} points", file=sys.stderr)
    first, step = (int(os.environ.get(f"INSTAR_KILL_{word}", "1")) for word in ("FIRST", "STEP"))  # to try some only
    for point in range(first, count + 1, step):
        print(f"point {point}", file=sys.stderr)
        trial.kill(point, 1 + (point * 7) % count)
