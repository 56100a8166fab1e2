"""Maintenance and volumes on a real cluster, by the command line."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.model.release import EnvironmentId
from instar.providers.kubernetes.kinds import DEPLOYMENT, POD, SERVICE, VOLUME_CLAIM
from instar.providers.kubernetes.names import Names
from instar.waiting import Deadline, until
from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster
CUT_OVER = "{strategy: blue-green}"
PAGE = "mkdir -p /tmp/www; echo back soon >/tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_requests_go_elsewhere_while_it_is_worked_on(author: Author) -> None:
    author.write(rollout=CUT_OVER)
    author.deploy()
    assert "a gateway has no page of its own" in author.instar("maintenance", "prod", "on", status=1)
    holiday(author)
    author.write(rollout=CUT_OVER, section=", maintenance: {service: holiday, port: 8000}")
    author.deploy()
    author.instar("maintenance", "prod", "on")
    wait_for_answer(author, "back soon")
    assert author.json("drift", "prod")["clean"]
    author.write(rollout=CUT_OVER, section=", maintenance: {service: holiday, port: 8000}", greeting="hi")
    assert "is in maintenance" in author.deploy()
    assert answer(author) == "back soon", "a deploy lets nobody in"
    author.instar("maintenance", "prod", "off")
    wait_for_answer(author, "2 hi s3cret")
    assert author.json("drift", "prod")["clean"]


def test_volumes_are_listed_and_removed(author: Author) -> None:
    author.write(rollout=CUT_OVER)
    author.deploy()
    labels = {"instar/service": "shop", "instar/environment": "old", "instar/volume": "data"}
    (deployment,) = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
    labels |= {"instar/ledger": deployment["metadata"]["labels"]["instar/ledger"]}
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "no"}
    where = author.namespace.name
    name = Names(environment=EnvironmentId(service="shop", name="old"), ledger="").claim("data")
    author.namespace.api.create(VOLUME_CLAIM, where, {"metadata": {"name": name, "labels": labels}, "spec": claim})
    shown = json.loads(author.instar("volumes", "list", "--json"))
    found = [(one["environment"], one["name"], one["bytes"], one["environment_exists"]) for one in shown]
    assert ("old", "data", None, False) in found
    author.instar("volumes", "remove", "shop/old", "data", "--yes")
    # the cluster takes a claim away when it has seen that no pod has it
    assert until(
        lambda: not author.namespace.api.list(VOLUME_CLAIM, where, {"instar/volume": "data"}),
        Deadline.after(30),
        every_s=0.2,
    )


def holiday(author: Author) -> None:
    """Have something in the namespace that answers with a page."""
    api, where = author.namespace.api, author.namespace.name
    (deployment,) = api.list(DEPLOYMENT, where, {})
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    container = {"name": "page", "image": image, "command": ["sh", "-c", PAGE]}
    container |= {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    labels = {"app": "holiday"}
    api.create(POD, where, {"metadata": {"name": "holiday", "labels": labels}, "spec": pod})
    spec = {"selector": labels, "ports": [{"port": 8000, "targetPort": 8000}]}
    api.create(SERVICE, where, {"metadata": {"name": "holiday"}, "spec": spec})


def answer(author: Author) -> str:
    asked = urllib.request.Request(author.namespace.gateway, headers={"Host": author.host})
    try:
        with urllib.request.urlopen(asked, timeout=10) as found:
            return str(found.read().decode().strip())
    except OSError as error:
        return repr(error)


def wait_for_answer(author: Author, wanted: str) -> None:
    deadline = time.monotonic() + 30
    while (found := answer(author)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
