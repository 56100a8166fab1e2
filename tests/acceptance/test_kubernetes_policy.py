"""What Instar prints for a cluster is what the cluster takes: its roles are enough, and its policy refuses the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from administrator import KINDS, Administrator
from test_kubernetes_members import await_passes, kept, members

from instar.errors import InstarError
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    POD,
    ROUTE,
    SECRET,
    SERVICE,
    SLICE,
    VOLUME_CLAIM,
    Kind,
)
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.names import GROUP, MAINTENANCE, REPLACED_BY, TAINTED
from instar.providers.kubernetes.streams import PROTOCOLS
from instar.waiting import Deadline, until
from kubernetes_author import Author, authoring
from kubernetes_unlabelled import BEHIND, unlabelled

pytestmark = pytest.mark.cluster
NO_ACCOUNT: Mapping[str, Any] = {
    "spec": {"template": {"spec": {"serviceAccountName": "default", "serviceAccount": "default"}}}
}
REFUSED = "nobody looks into an instance|status 422"  # where the words of a refusal are not to be had
TAGGED: Mapping[str, Any] = {"containers": [{"name": "service", "image": "registry.example/shop:latest"}]}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


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
        "evidence is put back": lambda: labelled(aside["metadata"]["name"], {TAINTED: None, GROUP: "shop-prod-1-1"}),
        "evidence is removed": lambda: api.delete(POD, where, aside["metadata"]["name"]),
        "an ephemeral container": lambda: api.add_ephemeral(where, name, container),
        "when a pod ends": lambda: api.merge(POD, where, name, {"spec": {"activeDeadlineSeconds": 1}}),
        "the image of a Deployment": lambda: api.merge(DEPLOYMENT, where, "shop-prod-1-1", image),
        "what is in a ConfigMap": lambda: api.merge(CONFIG_MAP, where, "shop-prod-1-1", {"data": {"release": "9"}}),
        "where a Service leads": lambda: api.merge(SERVICE, where, "shop-prod-1-1", {"spec": {"selector": {"a": "b"}}}),
        "the weights": lambda: api.merge(ROUTE, where, "shop-prod", {"spec": {"hostnames": ["other.example"]}}),
        **unlabelled(api, where, name),
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
    theirs = {"name": "theirs", "labels": {BEHIND: "shop-prod-1-1"}}
    behind = {"metadata": theirs, "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]}
    elsewhere = {"metadata": {"annotations": {MAINTENANCE: '{"service": "a", "port": 1, "weights": {}}'}}}
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "11111111-1111-1111-1111-111111111111"}
    orphan, held = {"metadata": {"ownerReferences": [gone]}}, {"metadata": {"finalizers": ["example.org/held"]}}
    return {
        "an anchor that goes": lambda: api.merge(CONFIG_MAP, where, "shop-prod-1-1", orphan),
        "a Service that goes": lambda: api.merge(SERVICE, where, "shop-prod-1-1", orphan),
        "a route that goes": lambda: api.merge(ROUTE, where, "shop-prod", orphan),
        "a pod that goes": lambda: api.merge(POD, where, pod["metadata"]["name"], orphan),
        "an anchor that stays": lambda: api.merge(CONFIG_MAP, where, "shop-prod-1-1", held),
        "a Deployment of a stranger's": lambda: api.create(DEPLOYMENT, where, maker),
        "endpoints of a stranger's": lambda: api.create(SLICE, where, behind),
        "what Instar reads in a route": lambda: api.merge(ROUTE, where, "shop-prod", elsewhere),
    }


AS_INSTAR: Mapping[str, Any] = {
    "serviceAccountName": "instar",
    "nodeSelector": {"nowhere": "yes"},  # its image is nowhere either
    "containers": [{"name": "service", "image": f"registry.example/agent@sha256:{'0' * 64}"}],
}
CLAIM = "shop-prod-data"
OF_ACCOUNT = {"kubernetes.io/service-account.name": "instar"}
TOKEN = Kind(name="TokenRequest", plural="serviceaccounts/instar/token")
ASKED = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}


def deployment_as_instar(name: str) -> Mapping[str, Any]:
    labels = {"app.kubernetes.io/name": name}
    template = {"metadata": {"labels": labels}, "spec": AS_INSTAR}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


def editor(author: Author, folder: Path) -> Api:
    """Return the cluster's API as somebody asks it who may edit the namespace, and no more."""
    namespace = author.namespace
    body = {
        "metadata": {"name": "editor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}],
    }
    namespace.api.create(KINDS["RoleBinding"], namespace.name, body)
    config = yaml.safe_load(Path(namespace.environ["KUBECONFIG"]).read_text())
    for one in config["users"]:
        one["user"]["as"] = "mallory"
    file = folder / "editor"
    file.write_text(json.dumps(config))
    environ = {**namespace.environ, "KUBECONFIG": str(file)}
    return Api(find_config(None, environ), environ)


def is_refused(change: Callable[[], Any], words: str = "denied request") -> bool:
    try:
        change()
    except InstarError as error:
        return re.search(words, str(error)) is not None
    return False


def is_held(theirs: Api, where: str, pod: Mapping[str, Any]) -> bool:
    tried = (lambda: theirs.create(POD, where, pod, dry=True), lambda: theirs.create(TOKEN, where, ASKED))
    return all(is_refused(one) for one in tried)


def test_nobody_runs_as_instar_but_the_agent_and_the_namespace_can_go(
    author: Author, administrator: Administrator, tmp_path: Path
) -> None:
    author.write()
    administrator.apply("rbac")
    api, where, theirs = administrator.api, author.namespace.name, editor(author, tmp_path)
    api.create(VOLUME_CLAIM, where, claimed(CLAIM, {}))
    administrator.apply("policy")
    pod = {"metadata": {"name": "theirs"}, "spec": AS_INSTAR}
    assert until(lambda: is_held(theirs, where, pod), Deadline.after(20), every_s=0.5), "policies come one by one"

    kept = {"metadata": {"name": "t", "annotations": OF_ACCOUNT}, "type": "kubernetes.io/service-account-token"}
    job = {"spec": {"template": {"spec": {**AS_INSTAR, "restartPolicy": "Never"}}}}
    cron = {"metadata": {"name": "theirs"}, "spec": {"schedule": "* * * * *", "jobTemplate": job}}
    for what, change in {
        "a pod of an administrator's": lambda: api.create(POD, where, pod),
        "a Deployment": lambda: theirs.create(DEPLOYMENT, where, deployment_as_instar("theirs")),
        "the agent of somebody else's": lambda: theirs.create(DEPLOYMENT, where, deployment_as_instar("instar-agent")),
        "a CronJob": lambda: theirs.create(Kind(name="CronJob", plural="cronjobs", group="batch"), where, cron),
        "a token": lambda: theirs.create(TOKEN, where, ASKED),
        "a token in a Secret": lambda: theirs.create(SECRET, where, kept),
    }.items():  # each is in force once the API server has taken it up
        assert until(lambda one=change: is_refused(one), Deadline.after(20), every_s=0.5), what

    api.create(DEPLOYMENT, where, deployment_as_instar("instar-agent"))
    agents = {"app.kubernetes.io/name": "instar-agent"}
    assert until(lambda: api.list(POD, where, agents) != (), Deadline.after(20), every_s=0.5), "the engine makes it"
    agent = api.list(POD, where, agents)[0]["metadata"]["name"]
    looks = partial(api.run, where, agent, ("id",), 10)  # that one of the policies is in force says nothing of the last
    assert until(lambda: is_refused(looks, REFUSED), Deadline.after(20), every_s=0.5)
    ended = {"spec": {"activeDeadlineSeconds": 1}}
    assert is_refused(lambda: theirs.merge(POD, where, agent, ended)), "the agent's pod is changed"
    assert_agent_is_kept(api, theirs, where)
    assert_claims_are_kept(api, theirs, where, CLAIM)
    administrator.become_instar()  # whoever may change the policy may have the token

    labels = {"instar/service": "shop", "instar/environment": "prod"}
    api.create(CONFIG_MAP, where, {"metadata": {"name": "shop-prod-1-1", "labels": labels}})
    with pytest.raises(InstarError, match="only Instar's account removes") as refused:
        api.delete(CONFIG_MAP, where, "shop-prod-1-1")
    assert refused.value.hint is not None and "kubectl create token instar" in refused.value.hint
    api.delete(NAMESPACE, "", where)
    assert until(lambda: api.find(NAMESPACE, None, where) is None, Deadline.after(60), every_s=0.5), "it goes whole"


def claimed(name: str, more: Mapping[str, str]) -> Mapping[str, Any]:
    labels = {"instar/service": "shop", "instar/environment": "prod", "instar/volume": "data", **more}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "storageClassName": ""}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def assert_claims_are_kept(api: Api, theirs: Api, where: str, own: str) -> None:
    """Nobody makes a claim that an instance would get, or has one look otherwise, or removes one; drivers do theirs."""
    newer = claimed("shop-prod-data.99", {"instar/turn": "99", "instar/whole": "yes"})
    assert until(lambda: is_refused(lambda: theirs.create(VOLUME_CLAIM, where, newer)), Deadline.after(20), every_s=0.5)
    labels, said = {"labels": {"instar/turn": "7"}}, {"annotations": {REPLACED_BY: "x"}}
    plain = {**newer, "metadata": {"name": "theirs"}}
    theirs.create(VOLUME_CLAIM, where, plain)
    changed = {"metadata": {"labels": newer["metadata"]["labels"]}}
    for what, change in {
        "its turn": lambda: theirs.merge(VOLUME_CLAIM, where, own, {"metadata": labels}),
        "what it is replaced by": lambda: theirs.merge(VOLUME_CLAIM, where, own, {"metadata": said}),
        "its storage": lambda: theirs.merge(VOLUME_CLAIM, where, own, {"spec": {"volumeName": "theirs"}}),
        "one of theirs becomes ours": lambda: theirs.merge(VOLUME_CLAIM, where, "theirs", changed),
        "it is removed": lambda: theirs.delete(VOLUME_CLAIM, where, own),
        "by an administrator": lambda: api.delete(VOLUME_CLAIM, where, own),
    }.items():
        assert until(lambda change=change: is_refused(change), Deadline.after(20), every_s=0.5), what  # type: ignore[misc]
    api.merge(VOLUME_CLAIM, where, own, {"metadata": {"annotations": {"a-driver/said": "1"}}})
    theirs.delete(VOLUME_CLAIM, where, "theirs")


def assert_agent_is_kept(api: Api, theirs: Api, where: str) -> None:
    """An editor of the namespace changes nothing of the agent; who may change the policy brings a newer one."""
    api.create(SECRET, where, {"metadata": {"name": "instar-ledger"}, "stringData": {"address": "postgresql://a/b"}})
    replicas = Kind(name="ReplicaSet", plural="replicasets", group="apps")
    (replica_set,) = (one["metadata"]["name"] for one in api.list(replicas, where, {}))
    machine = {"metadata": {"name": "instar-agent"}, "data": {"config.yaml": "notices: {command: [evil]}"}}
    scale = {"spec": {"replicas": 0}}
    for what, change in {
        "its account is taken": lambda: theirs.merge(DEPLOYMENT, where, "instar-agent", NO_ACCOUNT),
        "it is scaled": lambda: theirs._ask(
            "PATCH", DEPLOYMENT.path(where, "instar-agent", "scale"), "scale", body=scale, type_="merge-patch+json"
        ),
        "its owner": lambda: theirs.merge(
            DEPLOYMENT, where, "instar-agent", {"metadata": {"finalizers": ["example.com/held"]}}
        ),
        "it is removed": lambda: theirs.delete(DEPLOYMENT, where, "instar-agent"),
        "its ReplicaSet is removed": lambda: theirs.delete(replicas, where, replica_set),
        "all Deployments are removed": lambda: theirs._ask("DELETE", DEPLOYMENT.path(where), "remove all", body={}),
        "a machine's file for it": lambda: theirs.create(CONFIG_MAP, where, machine),
        "another ledger": lambda: theirs.merge(SECRET, where, "instar-ledger", {"stringData": {"address": "x"}}),
        "no ledger": lambda: theirs.delete(SECRET, where, "instar-ledger"),
        "no account": lambda: theirs.delete(KINDS["ServiceAccount"], where, "instar"),
    }.items():
        assert is_refused(change), what
    theirs.create(CONFIG_MAP, where, {"metadata": {"name": "of-somebody-else"}})
    theirs.delete(CONFIG_MAP, where, "of-somebody-else")
    api.create(CONFIG_MAP, where, machine)
    assert api.merge(DEPLOYMENT, where, "instar-agent", {"spec": {"replicas": 2}}), "the administrator's"
