"""A part of the cluster, or a node, goes away in the middle of a rollout, with requests all the while: the rollout ends
as it would have, and no request is lost by it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters.cluster import Cluster
from clusters.layout import layout

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


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    """Somebody whose first release is served."""
    with authoring(tmp_path) as made:
        made.write(rollout=SLOW, deadline=PATIENCE)
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


def wait_for_launch(author: Author) -> None:
    """Wait until the second release's pods are being started."""
    wait_until(lambda: any(one.startswith("Deployment shop-prod-2") for one in author.left()))


def wait_for_shift(author: Author) -> None:
    """Wait until the second release has a part of the traffic, and the gateway has said so."""
    wait_until(lambda: 0 < author.weights().get("shop-prod-2-1", 0) < 100 and author.is_taken_up())


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


def has_moved(author: Author) -> bool:
    """Say whether the second release is the one that serves, and nothing else goes on."""
    status = author.json("status", "prod")
    shown = [(one["number"], one["weight"], one["state"]) for one in status["releases"]]
    return shown in MOVED and status["rollout"] is None


MOVED = [[(2, 100, "active"), (1, 0, state)] for state in ("hot", "stopped")]  # rolling leaves no room for both
MOMENTS = {"launch": wait_for_launch, "shift": wait_for_shift}


def at(strategy: str, part: str, moment: str, *, long: bool = True) -> object:
    marks = [pytest.mark.long] if long else []
    return pytest.param(strategy, part, moment, marks=marks, id=f"{strategy}-{part}-{moment}")


@pytest.mark.parametrize(
    ("strategy", "part", "moment"),
    [
        at("canary", "kube-apiserver", "launch", long=False),
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
    whole: Cluster, author: Author, strategy: str, part: str, moment: str
) -> None:
    with Requests(author) as asked:
        author.write(greeting="hi", rollout=STRATEGIES[strategy], deadline=PATIENCE)
        deploy = author.start_deploy()
        MOMENTS[moment](author)
        whole.change_part("kill", 0, [part])
        time.sleep(AWAY_S)
        whole.change_part("start", 0, [part])
        finish(deploy)
        wait_until(lambda: "2 hi s3cret" in asked.answers)  # the gateway may say so before it is so
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, asked.answers
    assert has_moved(author)


@pytest.mark.parametrize(
    ("strategy", "moment"),
    [
        ("canary", "shift"),
        pytest.param("blue-green", "launch", marks=pytest.mark.long),
        pytest.param("rolling", "launch", marks=pytest.mark.long),
    ],
)
def test_the_gateway_s_process_is_killed_in_a_rollout_and_what_was_not_in_flight_is_served(
    whole: Cluster, author: Author, strategy: str, moment: str
) -> None:
    with Requests(author) as asked:
        author.write(greeting="hi", rollout=STRATEGIES[strategy], deadline=PATIENCE)
        deploy = author.start_deploy()
        MOMENTS[moment](author)
        whole.change_part("kill", 0, ["envoy"])
        whole.change_part("start", 0, ["envoy"])
        finish(deploy)
        served = sum(number for answer, number in asked.answers.items() if "s3cret" in answer)
        wait_until(lambda: sum(n for answer, n in asked.answers.items() if "s3cret" in answer) > served + 100)
    lost = {answer: number for answer, number in asked.answers.items() if "s3cret" not in answer}
    assert all("Connection" in answer or "Disconnected" in answer for answer in lost), lost
    assert has_moved(author)


@pytest.mark.long
def test_a_node_that_goes_away_in_a_rollout_does_not_end_it(whole: Cluster, author: Author) -> None:
    if whole.size() < 2:
        pytest.skip("the cluster has one node")
    author.write(greeting="hi", rollout=SLOW, deadline=PATIENCE)
    deploy = author.start_deploy()
    wait_for_launch(author)
    whole.stop_node(1)
    time.sleep(AWAY_S)
    whole.start_node(1)
    finish(deploy)
    assert has_moved(author)
