"""A service of two roles on a real cluster: a Deployment for each, of one release."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.kinds import AUTOSCALER, DEPLOYMENT
from kubernetes_author import Author, Requests, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.long]

WORKER = """\
  worker:
    command: [sh, -c, 'echo "working as $INSTAR_ROLE of $INSTAR_RELEASE"; exec sleep 9999']
    health: {command: ["true"], deadline: 60s}
    stop: {grace: 1s}
    limits: {memory: 32M, cpus: 0.1}
"""


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def write(author: Author, greeting: str, worker: str = WORKER) -> None:
    """Write the usual service as the role "web", and a worker beside it."""
    author.write(greeting=greeting, deadline="60s", instances=1)
    path = author.folder / "instar.yaml"
    begin, rest = path.read_text().split("service:\n")
    own, environments = rest.split("environments:\n")
    web = "".join(f"  {line}\n" for line in own.splitlines())
    path.write_text(
        f"{begin}roles:\n  web:\n{web}{worker}environments:\n{environments.replace('    instances: 1', '')}"
    )


def roles(status: Any, number: int) -> Counter[str]:
    (release,) = (one for one in status["releases"] if one["number"] == number)
    return Counter(one["role"] for one in release["instances"])


def test_a_release_of_two_roles_from_the_first_deploy_to_the_last_trace(author: Author) -> None:
    write(author, "hello")
    assert "worker · 1 of 1 healthy" in author.deploy()
    made = [one["metadata"]["name"] for one in author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})]
    assert sorted(made) == ["shop-prod-1-1", "shop-prod-1-2"]
    assert author.weights() == {"shop-prod-1-1": 100}, "only the role with a port has traffic"
    assert "working as worker of 1" in author.instar("logs", "prod", "--role", "worker")
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    with Requests(author) as asked:
        write(author, "hi")
        author.deploy()
        assert roles(author.json("status", "prod"), 2) == {"web": 1, "worker": 1}
        assert roles(author.json("status", "prod"), 1) == {"web": 1}, "a worker would work: it is made anew"
        author.instar("rollback", "prod")
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, "no request was lost"
    assert roles(author.json("status", "prod"), 1) == {"web": 1, "worker": 1}
    write(author, "hi", WORKER.replace("exec sleep 9999", "exit 3"))
    told = author.deploy(status=1)
    assert "working as worker" in told, "its last words are shown"
    assert roles(author.json("status", "prod"), 1) == {"web": 1, "worker": 1}
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_an_autoscaler_of_a_role_says_how_many_of_it_run_and_of_no_other(author: Author) -> None:
    write(author, "hello")
    path = author.folder / "instar.yaml"
    path.write_text(path.read_text() + "    roles: {worker: {instances: {min: 1, max: 3, cpu: 50}}}\n")
    author.deploy()
    api, where = author.namespace.api, author.namespace.name
    (scaler,) = api.list(AUTOSCALER, where, {})
    assert scaler["metadata"]["name"] == "shop-prod-1-2" and scaler["spec"]["maxReplicas"] == 3
    assert api.merge(DEPLOYMENT, where, "shop-prod-1-2", {"spec": {"replicas": 2}}), "as it would"
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    author.instar("destroy", "prod", "--yes")
