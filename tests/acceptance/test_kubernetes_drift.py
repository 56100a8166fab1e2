"""What somebody changes in a cluster by hand is found, and a group that is not what was made is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import BUDGET, CONFIG_MAP, DEPLOYMENT, POD, ROUTE, SECRET, SERVICE
from instar.providers.kubernetes.kubeconfig import find_config
from kubernetes_author import Author, authoring
from kubernetes_namespace import Namespace

pytestmark = pytest.mark.cluster


class Tamperer:
    """Somebody with all rights and no idea."""

    def __init__(self, author: Author) -> None:
        environ = author.namespace.environ
        self.api = Api(find_config(None, environ), environ, manager="kubectl-edit")
        self.where = author.namespace.name
        (deployment,) = self.api.list(DEPLOYMENT, self.where, {})
        self.group = str(deployment["metadata"]["name"])

    def pods(self) -> list[Mapping[str, Any]]:
        found = self.api.list(POD, self.where, {"instar/group": self.group})
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]

    def variable(self) -> None:
        (container,) = self._deployment()["spec"]["template"]["spec"]["containers"]
        env = [*container["env"], {"name": "DEBUG", "value": "1"}]
        changed = {"spec": {"template": {"spec": {"containers": [{**container, "env": env}]}}}}
        self.api.merge(DEPLOYMENT, self.where, self.group, changed)

    def restart(self) -> None:
        annotations = {"kubectl.kubernetes.io/restartedAt": "now"}
        self.api.merge(
            DEPLOYMENT, self.where, self.group, {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        )

    def privilege(self) -> None:
        (container,) = self._deployment()["spec"]["template"]["spec"]["containers"]
        context = {**container["securityContext"], "readOnlyRootFilesystem": False}
        changed = {"spec": {"template": {"spec": {"containers": [{**container, "securityContext": context}]}}}}
        self.api.merge(DEPLOYMENT, self.where, self.group, changed)

    def selector(self) -> None:
        self.api.merge(SERVICE, self.where, self.group, {"spec": {"selector": {"instar/group": None, "app": "other"}}})

    def config(self) -> None:
        """It is immutable: it takes somebody who makes another of that name."""
        name = f"{self.group}-config"
        found = self.api.find(CONFIG_MAP, self.where, name)
        assert found is not None
        self.api.delete(CONFIG_MAP, self.where, name)
        kept = {key: found["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
        self.api.create(CONFIG_MAP, self.where, {**found, "metadata": kept, "data": {"GREETING": "bye"}})

    def secret(self) -> None:
        name = f"{self.group}-secrets"
        found = self.api.find(SECRET, self.where, name)
        assert found is not None
        self.api.delete(SECRET, self.where, name)
        kept = {key: found["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
        self.api.create(SECRET, self.where, {**found, "metadata": kept, "data": {"TOKEN": "b3RoZXI="}})

    def budget(self) -> None:
        self.api.delete(BUDGET, self.where, self.group)

    def stranger(self) -> None:
        """A pod of somebody else's with the labels of the release gets its requests."""
        pod = self.pods()[0]
        spec = {
            "containers": [{"name": "x", "image": pod["spec"]["containers"][0]["image"], "command": ["sleep", "99"]}]
        }
        labels = {**pod["metadata"]["labels"], "pod-template-hash": "none"}
        self.api.create(POD, self.where, {"metadata": {"name": "stranger", "labels": labels}, "spec": spec})

    def ephemeral(self) -> None:
        pod = self.pods()[0]
        image = pod["spec"]["containers"][0]["image"]
        added = {"name": "debugger", "image": image, "command": ["sleep", "99"]}
        path = POD.path(self.where, pod["metadata"]["name"], "ephemeralcontainers")
        body = {"spec": {"ephemeralContainers": [added]}}
        self.api._ask("PATCH", path, "debug", body=body, type_="strategic-merge-patch+json")

    def weights(self) -> None:
        found = self.api.find(ROUTE, self.where, "shop-prod")
        assert found is not None
        *others, rule = found["spec"]["rules"]
        rule["backendRefs"].append({"name": "elsewhere", "port": 80, "weight": 1})
        self.api.merge(ROUTE, self.where, "shop-prod", {"spec": {"rules": [*others, rule]}})

    def filter(self) -> None:
        found = self.api.find(ROUTE, self.where, "shop-prod")
        assert found is not None
        *others, rule = found["spec"]["rules"]
        header = {"set": [{"name": "X-Injected", "value": "1"}]}
        rule["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": header}]
        self.api.merge(ROUTE, self.where, "shop-prod", {"spec": {"rules": [*others, rule]}})

    def host(self) -> None:
        self.api.merge(ROUTE, self.where, "shop-prod", {"spec": {"hostnames": ["other.cluster.test"]}})

    def swap_weights(self) -> None:
        found = self.api.find(ROUTE, self.where, "shop-prod")
        assert found is not None
        *others, rule = found["spec"]["rules"]
        first, second = rule["backendRefs"]
        first["weight"], second["weight"] = second["weight"], first["weight"]
        self.api.merge(ROUTE, self.where, "shop-prod", {"spec": {"rules": [*others, rule]}})

    def _deployment(self) -> Mapping[str, Any]:
        found = self.api.find(DEPLOYMENT, self.where, self.group)
        assert found is not None
        return found


OF_THE_GROUP: dict[str, tuple[Callable[[Tamperer], None], str, str]] = {
    "a variable of the Deployment": (Tamperer.variable, "object", "env"),
    "kubectl rollout restart": (Tamperer.restart, "object", "managedFields"),
    "a root that can be written": (Tamperer.privilege, "object", "readOnlyRootFilesystem"),
    "another selector of the Service": (Tamperer.selector, "object", "selector"),
    "another ConfigMap of that name": (Tamperer.config, "object", "data.GREETING"),
    "another Secret of that name": (Tamperer.secret, "secret", "data.TOKEN"),
    "no disruption budget": (Tamperer.budget, "object", "PodDisruptionBudget"),
    "a pod of a stranger's": (Tamperer.stranger, "object", "its owner"),
    "an ephemeral container": (Tamperer.ephemeral, "process", "ephemeral container"),
}
OF_THE_ROUTE: dict[str, tuple[Callable[[Tamperer], None], str, str]] = {
    "another backend of the route": (Tamperer.weights, "router", "elsewhere"),
    "a filter of the route": (Tamperer.filter, "router", "filters"),
    "another host of the route": (Tamperer.host, "router", "hostnames"),
}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_what_is_changed_by_hand_is_found_and_replaced(author: Author) -> None:
    author.write()
    author.deploy()
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    tamperer = Tamperer(author)
    for name, case in OF_THE_GROUP.items():
        assert_found(author, tamperer, case, name)

    author.instar("taint", "prod", tamperer.group, "--why", "it was changed by hand")
    author.deploy()
    shown = json.loads(author.instar("status", "prod", "--json"))["releases"][0]["instances"]
    assert [(one["id"], one["ready"]) for one in shown] == [("shop-prod-1-2", 2)]
    left = [one for one in author.left() if one.split(" ")[1].startswith(tamperer.group)]
    assert left in ([], [f"Pod {tamperer.group}"])
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]


def test_a_route_that_hands_write_to_is_found_stops_deploys_and_is_taken_back_by_the_agent(author: Author) -> None:
    author.write(rollout="{strategy: blue-green}")
    author.deploy()
    tamperer = Tamperer(author)
    for name, case in OF_THE_ROUTE.items():
        assert_found(author, tamperer, case, name)
    author.write(greeting="hi", rollout="{strategy: blue-green}")
    told = author.deploy(status=1)
    assert "'kubectl-edit' wrote spec/hostnames, spec/rules of it at 2" in told and "instar agent --once" in told
    assert author.json("status", "prod")["active"] == 1, "nothing was made"
    author.instar("agent", "--once")
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    author.deploy()

    tamperer.api.merge(ROUTE, tamperer.where, "shop-prod", {"metadata": {"annotations": {"note": "by hand"}}})
    tamperer.swap_weights()
    assert author.weights() == {"shop-prod-1-1": 100, "shop-prod-2-1": 0}
    author.instar("agent", "--once")
    assert author.weights() == {"shop-prod-1-1": 0, "shop-prod-2-1": 100}, "the release that is active has it again"
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    author.instar("rollback", "prod")


def test_nothing_of_a_route_is_taken_from_a_tool_that_applies_it(author: Author) -> None:
    author.write()
    author.deploy()
    environ = author.namespace.environ
    tool = Api(find_config(None, environ), environ, manager="a-tool")
    route = {"metadata": {"name": "shop-prod"}, "spec": {"hostnames": ["other.cluster.test"]}}
    tool.apply(ROUTE, author.namespace.name, route, force=True)
    author.write(greeting="hi")
    assert "'a-tool' wrote spec/hostnames" in author.deploy(status=1)
    assert "'a-tool' applies the HTTPRoute 'shop-prod' too, and is not fought with" in author.instar("agent", "--once")
    tool.apply(ROUTE, author.namespace.name, {"metadata": {"name": "shop-prod"}})
    author.deploy()
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]


def test_a_route_of_somebody_else_s_for_its_name_is_found_said_and_left(author: Author, tmp_path: Path) -> None:
    """It is in a namespace of its own, and takes what is asked below a path."""
    author.write(rollout="{strategy: blue-green}")
    author.deploy()
    (tmp_path / "theirs").mkdir()
    theirs = Namespace(tmp_path / "theirs")
    try:
        api = Api(find_config(None, theirs.environ), theirs.environ, manager="kubectl-create")
        rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/pay"}}]}
        parent = {"name": "public", "namespace": "gateways"}
        spec = {"parentRefs": [parent], "hostnames": [author.host], "rules": [rule]}
        kinds = {"apiVersion": ROUTE.api_version, "kind": ROUTE.name}
        made = api.create(ROUTE, theirs.name, {**kinds, "metadata": {"name": "cuckoo"}, "spec": spec})
        (found,) = json.loads(author.instar("drift", "prod", "--json", status=2))["findings"]
        assert (found["kind"], found["path"]) == ("name", f"HTTPRoute {theirs.name}/cuckoo")
        assert f"{author.host}/pay" in found["expected"] and "'kubectl-create'" in found["observed"]
        assert f"HTTPRoute {theirs.name}/cuckoo" in author.instar("status", "prod")
        author.instar("agent", "--once")
        author.write(greeting="hi", rollout="{strategy: blue-green}")
        told = author.deploy()
        assert f"go to the HTTPRoute '{theirs.name}/cuckoo'" in " ".join(told.split())
        left = api.find(ROUTE, theirs.name, "cuckoo")
        assert left is not None and left["spec"] == made["spec"], "it is somebody else's"
        ignore = '[{kind: name, path: "HTTPRoute */cuckoo", reason: theirs, until: 2099-01-01}]'
        author.write(greeting="ho", rollout="{strategy: blue-green}", settings=f"drift: {{ignore: {ignore}}}")
        author.deploy()
        assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
        assert "cuckoo" not in author.instar("status", "prod")
    finally:
        theirs.close()


def assert_found(
    author: Author, tamperer: Tamperer, case: tuple[Callable[[Tamperer], None], str, str], name: str
) -> None:
    change, kind, path = case
    change(tamperer)
    told = author.instar("drift", "prod", "--json", status=2)
    found = [(one["kind"], one["path"]) for one in json.loads(told)["findings"]]
    assert any(one == kind and path in where for one, where in found), (name, found)
    assert "b3RoZXI=" not in told, "no finding holds a secret"
