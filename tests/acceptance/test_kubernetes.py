"""The verbs on a real cluster: from the first deploy to the last trace, with requests all the while."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import DEPLOYMENT, SERVICE
from instar.store import Store
from kubernetes_author import Author, Requests, authoring
from kubernetes_namespace import ARCHITECTURE, tiny_image

pytestmark = pytest.mark.cluster


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_from_the_first_deploy_to_the_last_trace(author: Author) -> None:
    author.write()
    author.deploy()
    with Requests(author) as asked:
        author.write(greeting="hi")
        author.deploy()
        before = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
        author.instar("rollback", "prod")
        time.sleep(0.5)
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, "no request was lost"
    assert min(asked.answers.values()) > 20

    made = {one["metadata"]["name"]: one["metadata"]["generation"] for one in before}
    assert made == {"shop-prod-1-1": 1, "shop-prod-2-1": 1}, "nothing that was made was ever changed"
    told = json.loads(author.instar("status", "prod", "--json"))
    shown = [(one["number"], one["weight"], one["state"]) for one in told["releases"]]
    assert shown == [(2, 0, "hot"), (1, 100, "active")]
    assert "serving" in author.instar("logs", "prod")

    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_a_release_that_never_answers_is_taken_back_with_its_reason(author: Author) -> None:
    author.write()
    author.deploy()
    author.write(deadline="6s", more="timeouts: {request: 30s}", command=["sh", "-c", "echo deaf; sleep 999"])
    told = author.deploy(status=1)
    assert "0 of 2 healthy after 6 s: shop-prod-2-1-" in told
    assert "probe failed" in told and "deaf" in told
    author.write(command=["nothing-there"], deadline="6s")
    assert "nothing-there" in author.deploy(status=1)
    assert {one.partition(" ")[2].removesuffix("-config").removesuffix("-secrets")[:13] for one in author.left()} == {
        "shop-prod",
        "shop-prod-1-1",
    }, "what failed is gone, and what served is there"
    author.instar("destroy", "prod", "--yes")


def test_tasks_run_as_jobs_and_smoke_checks_are_asked_of_the_pods(author: Author) -> None:
    more = (
        'before: [{command: [sh, -c, "echo migrating"]}]\n'
        "  smoke: [{path: /, contains: s3cret}, {command: [grep, -q, s3cret, /run/secrets/TOKEN]}]"
    )
    author.write(more=more)
    told = author.deploy()
    assert "2 checks passed" in told
    assert "migrating" in author.instar("logs", "prod", "shop-prod-1-1")
    author.write(more='before: [{command: [sh, -c, "echo no; exit 3"]}]')
    told = author.deploy(status=1)
    assert "exit status 3" in told or "status 3" in told
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_without_a_gateway_it_is_blue_green_by_a_selector(author: Author) -> None:
    host = f"shop-prod.{author.namespace.name}.svc"
    author.write(gateway=False, host=host)
    assert "a canary needs 'kubernetes.gateway'" in author.deploy(status=1)
    author.write(gateway=False, host=host, rollout="{strategy: blue-green}")
    author.deploy()
    author.write(gateway=False, host=host, rollout="{strategy: blue-green}", greeting="hi")
    author.deploy()
    found = author.namespace.api.find(SERVICE, author.namespace.name, "shop-prod")
    assert found is not None and found["spec"]["selector"] == {"instar/group": "shop-prod-2-1"}
    connection = http.client.HTTPConnection(found["spec"]["clusterIP"], 80, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read().decode().strip() == "2 hi s3cret"
    connection.close()
    author.instar("rollback", "prod")
    found = author.namespace.api.find(SERVICE, author.namespace.name, "shop-prod")
    assert found is not None and found["spec"]["selector"] == {"instar/group": "shop-prod-1-1"}
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_what_the_cluster_cannot_give_is_told_in_its_own_words(author: Author) -> None:
    author.write(deadline="4s", section=", node_selector: [disk=none]")
    assert "(it needs a node with disk=none, kub" in author.deploy(status=1)
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_an_image_of_another_architecture_than_the_nodes_is_named(author: Author, tmp_path: Path) -> None:
    other = "arm64" if ARCHITECTURE != "arm64" else "amd64"
    (folder := tmp_path / "other").mkdir()
    author.image = tiny_image(Store(author.folder / "store"), folder, other).digest
    author.write(deadline="15s")
    told = author.deploy(status=1)
    at_once = f"the image is for {other}, and the cluster's nodes are {ARCHITECTURE}"
    assert f"(it needs a node with kubernetes.io/arch={other})" in told
    assert told.index(at_once) < told.index("cannot be placed on a node")
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []
