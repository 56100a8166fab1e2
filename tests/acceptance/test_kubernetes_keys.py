"""Keys of the section by which pods are made, on a real cluster: each change is a release, and goes back with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import AUTOSCALER, DEPLOYMENT, POLICY
from instar.providers.kubernetes.kubeconfig import find_config
from instar.waiting import Deadline, until
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster
CUT_OVER = "{strategy: blue-green}"
KEYS = (
    ", tolerations: [{key: gpu, effect: NoSchedule}], annotations: {prometheus.io/scrape: 'true'}"
    ", spread: [{label: kubernetes.io/hostname, skew: 3, required: true}], node_selector: [kubernetes.io/os=linux]"
)


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_keys_of_the_section_are_part_of_a_release(author: Author) -> None:
    author.write(rollout=CUT_OVER, section=KEYS)
    author.deploy()
    template = deployed(author, "shop-prod-1-1")
    assert template["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    assert template["spec"]["nodeSelector"]["kubernetes.io/os"] == "linux"
    assert template["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert author.json("drift", "prod")["clean"]
    assert "prometheus.io/scrape" in author.instar("kubernetes", "render", "prod", "--image", author.image)

    author.write(rollout=CUT_OVER, section=KEYS.replace("skew: 3", "skew: 4"))
    plan = author.instar("deploy", "prod", "--image", author.image, "--plan", status=2)
    assert "kubernetes.spread" in plan
    author.deploy()
    assert deployed(author, "shop-prod-2-1")["spec"]["topologySpreadConstraints"][0]["maxSkew"] == 4

    author.instar("rollback", "prod")
    assert author.weights() == {"shop-prod-1-1": 100, "shop-prod-2-1": 0}
    author.instar("taint", "prod", "shop-prod-1-1", "--why", "it is to be made anew")
    author.write(rollout=CUT_OVER, section=KEYS)
    author.deploy()
    again = deployed(author, "shop-prod-1-2")["spec"]["topologySpreadConstraints"][0]
    assert again["maxSkew"] == 3, "what is made anew is made of what its release says"
    assert author.json("drift", "prod")["clean"]

    author.write(rollout=CUT_OVER, section=", node_selector: [disk=none]", deadline="4s")
    assert "cannot be placed on a node" in author.deploy(status=1)
    assert author.weights()["shop-prod-1-2"] == 100


def test_what_instances_may_reach_is_a_policy_of_their_release(author: Author) -> None:
    """Nothing in this cluster holds it: what is made of it is what counts here."""
    allowed = "network: {allow: [{to: 10.9.0.0/16, ports: [5432]}]}"
    author.write(rollout=CUT_OVER, settings=allowed)
    assert "whether it is held to is up to the cluster's network plugin" in author.deploy()
    api, where = author.namespace.api, author.namespace.name
    found = api.find(POLICY, where, "shop-prod-1-1")
    assert found is not None and {"ipBlock": {"cidr": "10.9.0.0/16"}} in found["spec"]["egress"][2]["to"]
    assert author.json("drift", "prod")["clean"], "what the API adds is no difference"

    author.write(rollout=CUT_OVER, settings=allowed.replace("5432", "5433"))
    author.deploy()
    assert api.find(POLICY, where, "shop-prod-2-1") is not None
    author.instar("rollback", "prod")
    api.delete(POLICY, where, "shop-prod-1-1")
    told = json.loads(author.instar("drift", "prod", "--json", status=2))["findings"]
    assert [(one["kind"], one["path"]) for one in told] == [("object", "NetworkPolicy shop-prod-1-1")]
    author.write(rollout=CUT_OVER, settings="network: {allow: [{to: machine}]}")
    assert "there is no one machine" in author.deploy(status=1)
    author.instar("destroy", "prod", "--yes")
    assert api.list(POLICY, where, {}) == ()


@pytest.mark.long
def test_an_autoscaler_says_how_many_instances_run(author: Author) -> None:
    """The cluster's own controller holds what it says, without figures too: that there are never fewer or more."""
    author.write(rollout=CUT_OVER, instances="{min: 1, max: 3}")
    assert "metrics.k8s.io" in author.deploy()
    assert replicas(author, "shop-prod-1-1") == 1
    scale(author, "shop-prod-1-1", 3)
    await_so(lambda: author.json("status", "prod")["releases"][0]["instances"][0]["ready"] == 3, "three answer")
    assert author.json("drift", "prod")["clean"], "how many there are is the autoscaler's to say"
    assert "3 healthy" in author.instar("status", "prod")
    author.deploy()
    assert replicas(author, "shop-prod-1-1") == 3, "nobody else says it"

    with Requests(author) as asked:
        author.write(rollout=CUT_OVER, instances="{min: 1, max: 3}", greeting="hi")
        author.deploy()
        assert replicas(author, "shop-prod-2-1") == 3, "what takes over begins with as many"
        scale(author, "shop-prod-2-1", 4)
        await_so(lambda: replicas(author, "shop-prod-2-1") == 3, "the controller takes back what is too many")
        author.instar("rollback", "prod")
    assert set(asked.answers) <= {"1 hello s3cret", "2 hi s3cret"}

    api, where = author.namespace.api, author.namespace.name
    somebody = Api(find_config(None, author.namespace.environ), author.namespace.environ, manager="kubectl-edit")
    somebody.merge(AUTOSCALER, where, "shop-prod-1-1", {"spec": {"maxReplicas": 4}})
    told = json.loads(author.instar("drift", "prod", "--json", status=2))["findings"]
    assert ("HorizontalPodAutoscaler shop-prod-1-1: spec.maxReplicas", "3", "4") in [
        (one["path"], one["expected"], one["observed"]) for one in told
    ]
    author.instar("destroy", "prod", "--yes")
    assert api.list(AUTOSCALER, where, {}) == ()


def scale(author: Author, name: str, count: int) -> None:
    """Say the number of pods as an autoscaler does."""
    path = DEPLOYMENT.path(author.namespace.name, name, "scale")
    body = {"spec": {"replicas": count}}
    author.namespace.api._ask("PATCH", path, "scale", body=body, type_="merge-patch+json")


def replicas(author: Author, name: str) -> int:
    found = author.namespace.api.find(DEPLOYMENT, author.namespace.name, name)
    assert found is not None
    return int(found["spec"]["replicas"])


def await_so(is_so: Callable[[], bool], what: str) -> None:
    assert until(is_so, Deadline.after(60), every_s=0.2), what


def deployed(author: Author, name: str) -> Mapping[str, Any]:
    found = author.namespace.api.find(DEPLOYMENT, author.namespace.name, name)
    assert found is not None
    template: Mapping[str, Any] = found["spec"]["template"]
    return template
