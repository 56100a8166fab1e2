"""What Instar prints for a cluster is what the cluster takes: its roles are enough, and its policy refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.test_kubernetes_members import await_passes, kept, members
from instar.errors import InstarError
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD, ROUTE, SERVICE, SLICE, Kind
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.names import GROUP, MAINTENANCE, TAINTED
from instar.providers.kubernetes.streams import PROTOCOLS
from instar.waiting import Deadline, until
from kubernetes_author import Author

pytestmark = pytest.mark.cluster
REFUSED = "nobody looks into an instance|status 422"  # where the words of a refusal are not to be had
TAGGED: Mapping[str, Any] = {"containers": [{"name": "service", "image": "registry.example/shop:latest"}]}

KINDS = {
    "ServiceAccount": Kind(name="ServiceAccount", plural="serviceaccounts"),
    "Role": Kind(name="Role", plural="roles", group="rbac.authorization.k8s.io"),
    "RoleBinding": Kind(name="RoleBinding", plural="rolebindings", group="rbac.authorization.k8s.io"),
    "ClusterRole": Kind(name="ClusterRole", plural="clusterroles", group="rbac.authorization.k8s.io", namespaced=False),
    "ClusterRoleBinding": Kind(
        name="ClusterRoleBinding", plural="clusterrolebindings", group="rbac.authorization.k8s.io", namespaced=False
    ),
    "ValidatingAdmissionPolicy": Kind(
        name="ValidatingAdmissionPolicy",
        plural="validatingadmissionpolicies",
        group="admissionregistration.k8s.io",
        namespaced=False,
    ),
    "ValidatingAdmissionPolicyBinding": Kind(
        name="ValidatingAdmissionPolicyBinding",
        plural="validatingadmissionpolicybindings",
        group="admissionregistration.k8s.io",
        namespaced=False,
    ),
}


class Administrator:
    """Applies what Instar prints, and takes away what of it is not in the author's namespace."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.api = author.namespace.api
        self._applied: list[tuple[Kind, str | None, str]] = []

    def apply(self, document: str) -> None:
        for one in yaml.safe_load_all(self.author.instar("kubernetes", document, "prod")):
            metadata, kind = one["metadata"], KINDS[one["kind"]]
            namespace = metadata.get("namespace")
            self.api.create(kind, namespace, one)
            self._applied.append((kind, namespace, metadata["name"]))

    def clear(self) -> None:
        for kind, namespace, name in self._applied:
            self.api.delete(kind, namespace or "", name)

    def become_instar(self) -> None:
        """Have the author's own commands ask as the account that has the roles, and nothing else."""
        namespace = self.author.namespace
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = Kind(name="TokenRequest", plural="serviceaccounts/instar/token")
        token = self.api.create(made, namespace.name, body)["status"]["token"]
        config = yaml.safe_load(Path(namespace.environ["KUBECONFIG"]).read_text())
        config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
        file = self.author.folder / "kubeconfig"
        file.write_text(json.dumps(config))
        namespace.environ["KUBECONFIG"] = str(file)


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    made = Author(tmp_path)
    try:
        yield made
    finally:
        made.namespace.close()


@pytest.fixture
def administrator(author: Author) -> Iterator[Administrator]:
    made = Administrator(author)
    try:
        yield made
    finally:
        made.clear()


def test_the_roles_are_enough_and_the_policy_refuses_everybody_else(
    author: Author, administrator: Administrator
) -> None:
    author.write()
    administrator.apply("rbac")
    administrator.become_instar()
    smoke = "smoke: [{path: /}, {command: [grep, -q, s3cret, /run/secrets/TOKEN]}]"
    author.write(more=smoke)
    author.deploy()
    administrator.apply("policy")
    author.write(more=smoke, greeting="hi")
    author.deploy()
    author.instar("rollback", "prod")
    replace_pods_as_instar(author)

    api, where = administrator.api, author.namespace.name
    pod = api.list(POD, where, {"instar/group": "shop-prod-1-1"})[0]
    changes = {**tamperings(api, where, pod), **ways_around(api, where, pod)}
    for what, change in changes.items():
        with pytest.raises(InstarError, match=r"denied request|is immutable") as caught:
            change()
        assert caught.value.retry_after_s is None, what
    name = pod["metadata"]["name"]
    with pytest.raises(InstarError) as refused:
        api.run(where, name, ("id",), 10)
    assert refused.value.retry_after_s is None, "nobody looks inside"
    for part in ("attach", "portforward"):
        params = {"stdout": "true", "ports": "8080"}
        with (
            pytest.raises(InstarError, match=REFUSED),
            api.websocket(POD.path(where, name, part), params, PROTOCOLS, part),
        ):
            pass

    author.instar("destroy", "prod", "--yes")
    assert until(lambda: author.left() == [], Deadline.after(30), every_s=0.5), author.left()


def replace_pods_as_instar(author: Author) -> None:
    """With its own roles, and under its own policy, Instar looks into a pod, and replaces two."""
    looked, drifted = members(author)
    assert "hello" in author.instar("shell", "prod", looked, "--why", "x", "--command", "echo hello")
    for one in (looked, drifted):
        author.instar("taint", "prod", one, "--why", "it drifted")
    await_passes(author, lambda: len(members(author)) == 2 and not {looked, drifted} & {*members(author)}, "replaced")
    assert {one["metadata"]["name"] for one in kept(author)} == {looked, drifted}


def tamperings(api: Api, where: str, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what somebody with all rights may try, by what it is."""
    image = {"spec": {"template": {"spec": {"containers": [{"name": "service", "image": "other:latest"}]}}}}
    stranger = {
        "metadata": {"name": "stranger", "labels": dict(pod["metadata"]["labels"])},
        "spec": {"containers": [{"name": "service", "image": pod["spec"]["containers"][0]["image"]}]},
    }
    name, (aside, *_) = pod["metadata"]["name"], api.list(POD, where, {TAINTED: "shop-prod-1-1"})
    by_a_tag = {"metadata": {"name": "tagged", "labels": {GROUP: "shop-prod-1-1"}}, "spec": TAGGED}
    container = {"name": "debugger", "image": pod["spec"]["containers"][0]["image"], "command": ["sleep", "9"]}

    def labelled(name: str, labels: Mapping[str, str | None]) -> Any:
        return api.merge(POD, where, name, {"metadata": {"labels": labels}})

    return {
        "a pod of a tag": lambda: api.create(POD, where, by_a_tag),
        "a pod is taken out": lambda: labelled(name, {GROUP: None}),
        "a pod is let go of": lambda: labelled(name, {"pod-template-hash": None}),
        "a pod is tainted": lambda: labelled(name, {TAINTED: "shop-prod-1-1"}),
        "evidence is put back": lambda: labelled(aside["metadata"]["name"], {TAINTED: None, GROUP: "shop-prod-1-1"}),
        "evidence is removed": lambda: api.delete(POD, where, aside["metadata"]["name"]),
        "an ephemeral container": lambda: api.add_ephemeral(where, name, container),
        "when a pod ends": lambda: api.merge(POD, where, name, {"spec": {"activeDeadlineSeconds": 1}}),
        "the image of a Deployment": lambda: api.merge(DEPLOYMENT, where, "shop-prod-1-1", image),
        "what is in a ConfigMap": lambda: api.merge(CONFIG_MAP, where, "shop-prod-1-1", {"data": {"release": "9"}}),
        "where a Service leads": lambda: api.merge(SERVICE, where, "shop-prod-1-1", {"spec": {"selector": {"a": "b"}}}),
        "the weights": lambda: api.merge(ROUTE, where, "shop-prod", {"spec": {"hostnames": ["other.example"]}}),
        "a label": lambda: api.merge(
            DEPLOYMENT, where, "shop-prod-1-1", {"metadata": {"labels": {"instar/release": "9"}}}
        ),
        "a pod of a stranger's": lambda: api.create(POD, where, stranger),
        "a Deployment is removed": lambda: api.delete(DEPLOYMENT, where, "shop-prod-1-1"),
        "a route is removed": lambda: api.delete(ROUTE, where, "shop-prod"),
    }


def ways_around(api: Api, where: str, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what has the engine, or Instar itself, send requests to somebody else."""
    labels = {GROUP: "shop-prod-1-1"}
    containers = [{"name": "service", "image": pod["spec"]["containers"][0]["image"]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    maker = {
        "metadata": {"name": "maker"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    theirs = {"name": "theirs", "labels": {"kubernetes.io/service-name": "shop-prod-1-1"}}
    behind = {"metadata": theirs, "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]}
    elsewhere = {"metadata": {"annotations": {MAINTENANCE: '{"service": "a", "port": 1, "weights": {}}'}}}
    return {
        "a Deployment of a stranger's": lambda: api.create(DEPLOYMENT, where, maker),
        "endpoints of a stranger's": lambda: api.create(SLICE, where, behind),
        "what Instar reads in a route": lambda: api.merge(ROUTE, where, "shop-prod", elsewhere),
    }


def test_what_is_rendered_is_what_the_cluster_would_take(author: Author) -> None:
    author.write()
    told = author.instar("kubernetes", "render", "prod", "--image", author.image)
    found = [one for one in yaml.safe_load_all(told) if one]
    assert "s3cret" not in told
    kinds = {"ConfigMap": CONFIG_MAP, "Service": SERVICE, "Deployment": DEPLOYMENT, "HTTPRoute": ROUTE}
    for one in found:
        if kind := kinds.get(one["kind"]):
            author.namespace.api.create(kind, author.namespace.name, one, dry=True)
    assert [one["kind"] for one in found] == [
        "ConfigMap",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
        "HTTPRoute",
    ]
    environ = author.namespace.environ
    assert Api(find_config(None, environ), environ).list(DEPLOYMENT, author.namespace.name, {}) == ()
