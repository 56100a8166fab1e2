"""A gateway that did not say what it does with a route is asked again, and nobody has to come and change something."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import ROUTE
from kubernetes_author import MAIN, Author, Requests, authoring

pytestmark = pytest.mark.cluster


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def unsay(author: Author) -> None:
    """Have the route's status be what it was before the gateway took it up: a gateway looks at no status by itself."""
    api, where = author.namespace.api, author.namespace.name
    route = api.find(ROUTE, where, "shop-prod")
    assert route is not None
    for parent in route["status"]["parents"]:
        for condition in parent["conditions"]:
            condition["observedGeneration"] = 1
    path = ROUTE.path(where, "shop-prod", "status")
    body = {"status": route["status"]}
    api._ask("PATCH", path, "unsay it", body=body, type_="merge-patch+json")


def test_what_a_gateway_has_not_said_it_is_asked_for_again(author: Author) -> None:
    author.write(rollout="{strategy: blue-green}")
    author.deploy()
    author.write(rollout="{strategy: blue-green}", greeting="hi")
    author.deploy()
    weights = author.weights()
    unsay(author)
    assert not author.is_taken_up()
    with Requests(author) as asked:
        deadline = time.monotonic() + 60
        while not author.is_taken_up():
            assert time.monotonic() < deadline, "nobody asked the gateway"
            author.run(sys.executable, "-c", MAIN, "agent", "--once")
    assert author.weights() == weights
    assert set(asked.answers) == {"2 hi s3cret"}
    author.instar("destroy", "prod", "--yes")
