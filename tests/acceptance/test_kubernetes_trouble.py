"""A part of the cluster, or a node, goes away in the middle of a rollout, with requests all the while: the rollout ends
as it would have, and no request is lost by it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from clusters.api import condition
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.parts import NODE_IS_LOST_S

from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import GROUP
from kubernetes_author import Author, Requests, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

SLOW = "{strategy: canary, steps: [50], pause: 3s}"
STRATEGIES = {"canary": SLOW, "blue-green": "{strategy: blue-green}", "rolling": "{strategy: rolling}"}
AWAY_S = 2.0
PATIENCE = "3m"  # a gateway that has lost the API asks for it again after up to 40 s


@pytest.fixture
def whole() -> Iterator[Cluster]:
    """The cluster, which is whole again afterwards whatever was done to it."""
    found = Cluster(layout())
    yield found
    found.up(None)
    assert list(found.problems()) == []


class Releases:
    """Somebody whose release is served, and who rolls out the next one: each test goes on where the last one ended.

    ``number`` is that of the newest release. One that did not end as it should have is not gone on from.
    """

    def __init__(self, author: Author) -> None:
        author.write(rollout=SLOW, deadline=PATIENCE)
        author.deploy()
        self.author = author
        self.number = 1
        self.before, self.answer = "", "1 hello s3cret"
        self.is_sound = True

    def begin(self, rollout: str) -> subprocess.Popen[str]:
        """Begin to roll out a release that answers as no other does, and leave that running."""
        self.number, self.is_sound = self.number + 1, False
        greeting = f"v{self.number}"
        self.before, self.answer = self.answer, f"{self.number} {greeting} s3cret"
        self.author.write(greeting=greeting, rollout=rollout, deadline=PATIENCE)
        deploy: subprocess.Popen[str] = self.author.start_deploy()
        self.author.begun.append(deploy)
        return deploy

    def wait_for_launch(self) -> None:
        """Wait until the new release's pods are being started."""
        wait_until(lambda: f"Deployment shop-prod-{self.number}-1" in self.author.left())

    def wait_for_shift(self) -> None:
        """Wait until the new release has a part of the traffic, and the gateway has said so."""
        group = f"shop-prod-{self.number}-1"
        wait_until(lambda: 0 < self.author.weights().get(group, 0) < 100 and self.author.is_taken_up())

    def has_moved(self) -> bool:
        """Say whether the new release is the one that serves, and nothing else goes on."""
        status = self.author.json("status", "prod")
        new, old = status["releases"][:2]
        states = ("hot", "stopped")  # rolling leaves no room for both
        moved = new["number"] == self.number and (new["weight"], new["state"]) == (100, "active")
        self.is_sound = moved and status["rollout"] is None and old["weight"] == 0 and old["state"] in states
        return self.is_sound


class Kept:
    """The releases that tests go on from, made when the first one asks, and anew after one that failed."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._held = contextlib.ExitStack()
        self._found: Releases | None = None

    def releases(self) -> Releases:
        if self._found is None or not self._found.is_sound:
            self._held.close()
            author = self._held.enter_context(authoring(self._folders.mktemp("trouble")))
            self._held.callback(_end_begun, author)
            self._found = Releases(author)
        return self._found

    def close(self) -> None:
        with self._held:
            if self._found is not None and self._found.is_sound:
                self._found.author.instar("destroy", "prod", "--yes")
                assert self._found.author.left() == []


def _end_begun(author: Author) -> None:
    for process in author.begun:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    made = Kept(tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def releases(whole: Cluster, kept: Kept) -> Releases:
    return kept.releases()


def wait_until(condition: object, *, timeout_s: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


def finish(deploy: subprocess.Popen[str]) -> str:
    out, err = deploy.communicate(timeout=240)
    assert deploy.returncode == 0, out + err
    return out + err


MOMENTS = {"launch": Releases.wait_for_launch, "shift": Releases.wait_for_shift}


def at(strategy: str, part: str, moment: str, *, long: bool = True) -> object:
    marks = [pytest.mark.long] if long else []
    return pytest.param(strategy, part, moment, marks=marks, id=f"{strategy}-{part}-{moment}")


@pytest.mark.parametrize(
    ("strategy", "part", "moment"),
    [
        at("canary", "kube-apiserver", "launch"),
        at("canary", "kube-apiserver", "shift", long=False),
        at("canary", "kubelet", "launch", long=False),
        at("canary", "contour", "shift", long=False),
        at("canary", "kube-controller-manager", "launch", long=False),
        at("canary", "kubelet", "shift"),
        *(at(one, part, "launch") for one in ("blue-green", "rolling") for part in ("kube-apiserver", "kubelet")),
        *(at(one, "contour", "launch") for one in ("blue-green", "rolling")),
    ],
)
def test_a_part_that_is_killed_in_a_rollout_costs_no_request(
    whole: Cluster, releases: Releases, strategy: str, part: str, moment: str
) -> None:
    with Requests(releases.author) as asked:
        deploy = releases.begin(STRATEGIES[strategy])
        MOMENTS[moment](releases)
        whole.change_part("kill", 0, [part])
        time.sleep(AWAY_S)
        whole.change_part("start", 0, [part])
        finish(deploy)
        wait_until(lambda: releases.answer in asked.answers)  # the gateway may say so before it is so
    assert set(asked.answers) == {releases.before, releases.answer}, asked.answers
    assert releases.has_moved()


@pytest.mark.parametrize(
    ("strategy", "moment"),
    [
        ("canary", "shift"),
        pytest.param("blue-green", "launch", marks=pytest.mark.long),
        pytest.param("rolling", "launch", marks=pytest.mark.long),
    ],
)
def test_the_gateway_s_process_is_killed_in_a_rollout_and_what_was_not_in_flight_is_served(
    whole: Cluster, releases: Releases, strategy: str, moment: str
) -> None:
    with Requests(releases.author) as asked:
        deploy = releases.begin(STRATEGIES[strategy])
        MOMENTS[moment](releases)
        whole.change_part("kill", 0, ["envoy"])
        whole.change_part("start", 0, ["envoy"])
        finish(deploy)
        served = sum(number for answer, number in asked.answers.items() if "s3cret" in answer)
        wait_until(lambda: sum(n for answer, n in asked.answers.items() if "s3cret" in answer) > served + 100)
    lost = {answer: number for answer, number in asked.answers.items() if "s3cret" not in answer}
    assert all("Connection" in answer or "Disconnected" in answer for answer in lost), lost
    assert releases.has_moved()


@pytest.mark.long
def test_a_node_that_goes_away_in_a_rollout_does_not_end_it(whole: Cluster, releases: Releases) -> None:
    """Both releases have a pod on it. Until the cluster has missed it, requests are sent there, and after that none."""
    if whole.size() < 2:
        pytest.skip("the cluster has one node")
    away = whole.layout.node(1).name
    with Requests(releases.author) as asked:
        deploy = releases.begin(SLOW)
        releases.wait_for_launch()
        wait_until(lambda: away in nodes_of(releases.author, releases.number))
        assert away in nodes_of(releases.author, releases.number - 1)
        whole.stop_node(1)
        wait_until(lambda: ready(whole, away) == "Unknown", timeout_s=3 * NODE_IS_LOST_S)
        wait_until(lambda: answers_well(asked, 100), timeout_s=60)
        whole.start_node(1)
        finish(deploy)
        wait_until(lambda: answers_well(asked, 100), timeout_s=60)
        assert releases.answer in asked.answers
    assert releases.has_moved()
    assert away in nodes_of(releases.author, releases.number)


def ready(cluster: Cluster, node: str) -> str | None:
    return condition(cluster.api.find(f"/api/v1/nodes/{node}"), "Ready").get("status")


def nodes_of(author: Author, release: int) -> set[str]:
    """Return the nodes that pods of a release were given to."""
    found = author.namespace.api.list(POD, author.namespace.name, {GROUP: f"shop-prod-{release}-1"})
    return {str(one["spec"].get("nodeName")) for one in found}


def answers_well(asked: Requests, count: int) -> bool:
    """Tell whether the next ``count`` requests, or more, are all answered by a release."""
    before = asked.answers.copy()
    wait_until(lambda: asked.answers.total() >= before.total() + count)
    return all("s3cret" in answer for answer in asked.answers - before)
