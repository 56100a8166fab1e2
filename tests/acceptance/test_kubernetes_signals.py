"""On a real cluster, with the gate for it open: pods are told to end by the service's own signal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.kinds import POD
from instar.waiting import Deadline, until
from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster
SERVE = 'mkdir -p /tmp/www; echo >/tmp/www/index.html; httpd -f -p 8080 -h /tmp/www & trap "exit 42" QUIT; wait; wait'


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_a_pod_ends_by_the_signal_of_its_service_and_nothing_drifts(author: Author) -> None:
    author.write(command=["sh", "-c", SERVE], instances=1, rollout="{strategy: blue-green}")
    file = author.folder / "instar.yaml"
    file.write_text(file.read_text().replace("stop: {grace", "stop: {signal: SIGQUIT, grace"))
    author.deploy()
    assert author.json("drift", "prod")["clean"]
    api, where = author.namespace.api, author.namespace.name
    (pod,) = api.list(POD, where, {"instar/service": "shop"})
    name = pod["metadata"]["name"]
    api.merge(POD, where, name, {"metadata": {"finalizers": ["instar.test/looked-at"]}})
    api.delete(POD, where, name)

    def ended() -> Any:
        found = api.find(POD, where, name) or {}
        return (found["status"]["containerStatuses"][0].get("state") or {}).get("terminated")

    assert until(ended, Deadline.after(30), every_s=0.2)["exitCode"] == 42
    api.merge(POD, where, name, {"metadata": {"finalizers": None}})
