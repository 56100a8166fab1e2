"""Whatever somebody changes in a cluster is found, and taken back or replaced: a pod alone where it is one pod's."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from test_kubernetes_drift import OF_THE_GROUP, OF_THE_ROUTE, Tamperer, assert_found

from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD
from instar.providers.kubernetes.names import GROUP
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, authoring

pytestmark = pytest.mark.cluster
Case = tuple[Callable[[Tamperer], None], str, str]
SETTINGS = "drift: {action: replace}\n    replace: {budget: 100, within: 10m}"


def _name(tamperer: Tamperer) -> str:
    return str(tamperer.pods()[0]["metadata"]["name"])


def _other_image(tamperer: Tamperer) -> None:
    path = POD.path(tamperer.where, _name(tamperer))
    body = {"spec": {"containers": [{"name": "service", "image": "registry.invalid/shop:latest"}]}}
    tamperer.api._ask("PATCH", path, "change", body=body, type_="strategic-merge-patch+json")


def _deadline(tamperer: Tamperer) -> None:
    tamperer.api.merge(POD, tamperer.where, _name(tamperer), {"spec": {"activeDeadlineSeconds": 3000}})


def _taken_out(tamperer: Tamperer) -> None:
    tamperer.api.merge(POD, tamperer.where, _name(tamperer), {"metadata": {"labels": {GROUP: None}}})


def _labelled_stranger(tamperer: Tamperer) -> None:
    """It has no label but the one by which it gets requests."""
    container = {"name": "x", "image": tamperer.pods()[0]["spec"]["containers"][0]["image"], "command": ["sleep", "99"]}
    metadata = {"name": f"stranger-{secrets.token_hex(3)}", "labels": {GROUP: tamperer.group}}
    tamperer.api.create(POD, tamperer.where, {"metadata": metadata, "spec": {"containers": [container]}})


def _anchor(tamperer: Tamperer) -> None:
    """What it says of the release cannot be changed, but all about it can."""
    changed = {"metadata": {"annotations": {"instar/image": "sha256:0"}}}
    tamperer.api.merge(CONFIG_MAP, tamperer.where, tamperer.group, changed)


def _token(tamperer: Tamperer) -> None:
    changed = {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}}
    tamperer.api.merge(DEPLOYMENT, tamperer.where, tamperer.group, changed)


def _paused(tamperer: Tamperer) -> None:
    tamperer.api.merge(DEPLOYMENT, tamperer.where, tamperer.group, {"spec": {"paused": True}})


OF_A_POD: Mapping[str, Case] = {
    "an ephemeral container": OF_THE_GROUP["an ephemeral container"],
    "a pod of a stranger's": (_labelled_stranger, "object", "its owner"),
    "another image of a pod": (_other_image, "root", "the container"),
    "a time after which a pod ends": (_deadline, "object", "activeDeadlineSeconds"),
    "a pod that was taken out": (_taken_out, "object", "its label"),
}
OF_ALL_PODS: Mapping[str, Case] = {
    **{name: one for name, one in OF_THE_GROUP.items() if name not in OF_A_POD},
    "the anchor": (_anchor, "object", "managedFields"),
    "a service account's token": (_token, "object", "automountServiceAccountToken"),
    "a Deployment that is paused": (_paused, "object", "managedFields"),
}
CASES = {**OF_A_POD, **OF_ALL_PODS, **OF_THE_ROUTE}
SHORT = ("another image of a pod", "a pod of a stranger's", "a pod that was taken out", "the anchor")


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_five_tamperings_are_found_and_replaced(author: Author) -> None:
    walk(author, [*SHORT, "another host of the route"])


@pytest.mark.long
def test_every_tampering_of_the_gallery_is_found_and_replaced(author: Author) -> None:
    assert len(CASES) >= 15
    walk(author, [*CASES])


def walk(author: Author, names: list[str]) -> None:
    author.write(settings=SETTINGS, section=", evidence: 1s")
    author.deploy()
    for name in names:
        assert until(lambda: is_clean(author), Deadline.after(60), every_s=0.5), f"before {name}"
        tamperer = Tamperer(author)
        before = {str(one["metadata"]["name"]) for one in tamperer.pods()}
        assert_found(author, tamperer, CASES[name], name)
        assert until(lambda: is_replaced(author), Deadline.after(90), every_s=0.5), name
        after = Tamperer(author)
        assert (after.group == tamperer.group) == (name not in OF_ALL_PODS), name
        if name in OF_A_POD:
            assert before & {str(one["metadata"]["name"]) for one in after.pods()}, f"{name}: others stay"


def is_clean(author: Author) -> bool:
    done = author.run(sys.executable, "-c", MAIN, "drift", "prod")
    return done.returncode == 0 and len(author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})) == 1


def is_replaced(author: Author) -> bool:
    """Have the agent make a pass, and where a whole group is due somebody who does not wait for the agent's pauses."""
    author.run(sys.executable, "-c", MAIN, "agent", "--once")
    instances = author.json("status", "prod")["releases"][0]["instances"]
    if any(one["taint"] for one in instances):
        author.deploy()
    return is_clean(author) and [one["ready"] for one in instances] == [2]
