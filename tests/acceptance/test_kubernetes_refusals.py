"""What the cluster, or somebody in it, keeps a rollout from: nothing is left right after it, and the traffic is where
it was, with requests all the while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clusters.api import kubectl
from clusters.layout import layout

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, ROUTE, SERVICE, Kind
from instar.providers.kubernetes.kubeconfig import find_config
from instar.waiting import Deadline, until
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster
AT_ONCE = "{strategy: blue-green}"
QUOTA = Kind(name="ResourceQuota", plural="resourcequotas")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    """Somebody whose second release serves, beside a hot one: each test leaves it so."""
    with authoring(tmp_path_factory.mktemp("refusals")) as made:
        for greeting in ("hello", "hi"):
            made.write(greeting=greeting, rollout=AT_ONCE)
            made.deploy()
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


@pytest.fixture
def author(serving: Author) -> Iterator[Author]:
    """The same; none of the requests meanwhile is lost, and each is answered by who was active before."""
    before = there(serving)
    serving.write(greeting="next", rollout=AT_ONCE, deadline="5s")
    with Requests(serving) as asked:
        yield serving
        assert there(serving) == before, "nothing is left, right after"
    assert serving.json("status", "prod")["rollout"] is None
    assert set(asked.answers) == {"2 hi s3cret"}, asked.answers
    assert serving.weights() == {"shop-prod-1-1": 0, "shop-prod-2-1": 100}


def there(author: Author) -> list[str]:
    """Return what there is, whatever single pods are called."""
    return sorted(one.rpartition("-")[0] if one.startswith("Pod ") else one for one in author.left())


def as_somebody(author: Author) -> Api:
    environ = author.namespace.environ
    return Api(find_config(None, environ), environ, manager="kubectl-edit")


def next_release(author: Author) -> str:
    newest = max(one["release"] or 0 for one in author.json("history", "prod"))
    return f"shop-prod-{newest + 1}-1"


@pytest.mark.parametrize(
    ("hard", "told"),
    [({"pods": "5"}, "exceeded quota"), ({"count/services": "2"}, "cannot create the Service 'shop-prod-")],
    ids=["of pods", "of Services"],
)
def test_a_quota_that_is_full_midway(author: Author, hard: dict[str, str], told: str) -> None:
    """One of the next release's two pods is let in; of a quota of Services, its group is half made."""
    api, where = author.namespace.api, author.namespace.name
    api.create(QUOTA, where, {"metadata": {"name": "small"}, "spec": {"hard": hard}})
    try:
        said = author.deploy(status=1)
    finally:
        api.delete(QUOTA, where, "small")
    assert told in said and "exceeded quota: small" in said
    assert "traffic was never touched" in said


def test_a_hot_release_that_somebody_scaled_away_is_no_way_back_until_it_is_scaled_again(author: Author) -> None:
    where, name = author.namespace.name, "shop-prod-1-1"

    def scaled(count: int) -> bool:
        found = author.namespace.api.find(DEPLOYMENT, where, name)
        return found is not None and int(found["status"].get("readyReplicas") or 0) == count

    author.run(*kubectl(layout(), ("scale", "deployment", name, "-n", where, "--replicas=0")))
    assert until(lambda: scaled(0), Deadline.after(30), every_s=0.2)
    told = author.instar("rollback", "prod", status=1)
    back = f"kubectl scale deployment {name} -n {where} --replicas=2"
    assert f"its Deployment was scaled to 0, and is to have 2: {back}" in told
    author.run(*kubectl(layout(), back.split()[1:]))
    assert until(lambda: scaled(2), Deadline.after(30), every_s=0.2)


@pytest.mark.parametrize("kind", [SERVICE, CONFIG_MAP], ids=lambda kind: kind.name)
def test_an_object_of_that_name_that_is_somebody_else_s_is_never_touched(author: Author, kind: Kind) -> None:
    api, where, name = as_somebody(author), author.namespace.name, next_release(author)
    theirs: dict[str, Any] = {"metadata": {"name": name, "labels": {"app": "theirs"}}}
    made = api.create(kind, where, {**theirs, **({"spec": {"ports": [{"port": 1}]}} if kind == SERVICE else {})})
    try:
        told = author.deploy(status=1)
        assert f"cannot use the {kind.name} '{where}/{name}': it is not Instar's for 'shop/prod'" in told, told
        found = api.find(kind, where, name)
        assert found is not None and found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    finally:
        api.delete(kind, where, name)


def test_a_route_of_that_name_that_is_somebody_else_s_is_never_touched(serving: Author) -> None:
    api, where = as_somebody(serving), serving.namespace.name
    gateway = {"name": "public", "namespace": "gateways"}
    kinds = {"apiVersion": ROUTE.api_version, "kind": ROUTE.name}
    theirs = {
        **kinds,
        "metadata": {"name": "shop-next"},
        "spec": {"parentRefs": [gateway], "hostnames": ["x.cluster.test"]},
    }
    api.create(ROUTE, where, theirs)
    file = serving.folder / "instar.yaml"
    before = file.read_text()
    file.write_text(before.replace("  prod:", "  next:").replace(serving.host, f"next-{serving.host}"))
    try:
        told = serving.instar("deploy", "next", "--image", serving.image, status=1)
        assert f"cannot use the HTTPRoute '{where}/shop-next'" in told, told
        found = api.find(ROUTE, where, "shop-next")
        assert found is not None and found["spec"]["hostnames"] == ["x.cluster.test"]
        assert not any("shop-next" in one for one in serving.left())
    finally:
        file.write_text(before)
        api.delete(ROUTE, where, "shop-next")
