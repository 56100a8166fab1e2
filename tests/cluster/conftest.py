"""A cluster that runs already (scripts/test --cluster starts one), and for each test a namespace of its own in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cluster_kit import Namespace, wait_for
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.registry import push

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
    archives = cluster.layout.images.glob("hello-*.tar")
    return {file.stem.removeprefix("hello-"): push(cluster.layout, file, "hello") for file in archives}


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """An empty namespace, which is removed afterwards with all that is in it; the last test's end waits for that."""
    made = Namespace(cluster, f"test-{secrets.token_hex(4)}")
    cluster.api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name, "labels": {"test": "yes"}}}
    )
    wait_for(lambda: made.find("v1", "serviceaccounts/default") is not None, "the namespace's service account")
    yield made
    cluster.api.kubectl("delete", "namespace", made.name, "--wait=false")
