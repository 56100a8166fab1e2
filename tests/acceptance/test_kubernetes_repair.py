"""What somebody took from a release by hand comes back by the agent, and keeps no other release from its way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import DEPLOYMENT, SERVICE
from kubernetes_author import MAIN, Author, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.long]

AT_ONCE = "{strategy: blue-green}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.write(rollout=AT_ONCE, deadline="8s", instances=1)
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


def test_a_hot_release_without_its_service_keeps_the_next_one_from_nothing(author: Author) -> None:
    author.write(rollout=AT_ONCE, deadline="8s", instances=1, greeting="second")
    author.deploy()
    assert author.weights() == {"shop-prod-1-1": 0, "shop-prod-2-1": 100}
    author.namespace.api.delete(SERVICE, author.namespace.name, "shop-prod-1-1")
    author.write(rollout=AT_ONCE, deadline="8s", instances=1, greeting="third")
    author.deploy()
    shares = author.weights()
    assert [name for name, weight in shares.items() if weight] == ["shop-prod-3-1"]
    assert "shop-prod-1-1" not in shares and author.is_taken_up()


def test_an_active_release_that_was_scaled_to_nothing_is_replaced_by_the_agent(author: Author) -> None:
    agent = author.start(sys.executable, "-c", MAIN, "agent", "--check", "1")
    try:
        none = {"spec": {"replicas": 0}}
        author.namespace.api.merge(DEPLOYMENT, author.namespace.name, "shop-prod-1-1", none)
        wait_until(lambda: author.weights() == {"shop-prod-1-2": 100})
    finally:
        agent.terminate()
        agent.communicate(timeout=60)
    assert author.is_taken_up()
