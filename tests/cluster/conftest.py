"""A cluster that runs already (scripts/test --cluster starts one), and for each test a namespace of its own in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cluster_kit import Namespace, made_namespace, pushed_hello, wait_for
from clusters.cluster import Cluster
from clusters.layout import layout

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("cluster")
            item.add_marker("root")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The machine's cluster, whole. What is missing is an error, and nothing is started here."""
    found = Cluster(layout())
    problems = list(found.problems())
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)
    yield found
    wait_for(lambda: ending(found) == [], "the end of the tests' namespaces", timeout_s=120)


def ending(cluster: Cluster) -> list[str]:
    """Return the namespaces of tests that are being removed."""
    found = cluster.api.get("/api/v1/namespaces?labelSelector=test")["items"]
    return [one["metadata"]["name"] for one in found if one["metadata"].get("deletionTimestamp")]


@pytest.fixture(scope="session")
def hello(cluster: Cluster) -> Mapping[str, str]:
    """The images of the small web server in the registry, by their version ("1", "2", "sick"): what pods name."""
    return pushed_hello(cluster)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """An empty namespace, which is removed afterwards with all that is in it; the last test's end waits for that."""
    made = made_namespace(cluster)
    yield made
    cluster.api.kubectl("delete", "namespace", made.name, "--wait=false")
