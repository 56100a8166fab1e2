"""What somebody has edited gets no traffic that it has not, and whoever asks for that is told who it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import DEPLOYMENT, SERVICE
from instar.providers.kubernetes.kubeconfig import find_config
from instar.waiting import Deadline, until
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster
AT_ONCE = "{strategy: blue-green}"
SLOW = ["sh", "-c", "sleep 6; mkdir /tmp/www; echo late >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"]


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.write(rollout=AT_ONCE)
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


class Editor:
    """Somebody with ``kubectl edit``."""

    def __init__(self, author: Author) -> None:
        environ = author.namespace.environ
        self.api = Api(find_config(None, environ), environ, "kubectl-edit")
        self.namespace = author.namespace.name

    def image(self, group: str) -> None:
        """Have pods of a group run another image, which nobody can pull: those that run stay for now."""
        found: Any = copy.deepcopy(self.get(group))
        containers = found["spec"]["template"]["spec"]["containers"]
        containers[0]["image"] = containers[0]["image"].partition("@")[0] + f"@sha256:{'0' * 64}"
        spec = {"template": {"spec": {"containers": containers}}}
        assert self.api.merge(DEPLOYMENT, self.namespace, group, {"spec": spec})

    def get(self, group: str) -> Mapping[str, Any]:
        found = self.api.find(DEPLOYMENT, self.namespace, group)
        assert found is not None
        return found


def test_a_hot_release_that_was_edited_is_not_rolled_back_to_until_it_is_made_anew(author: Author) -> None:
    author.write(rollout=AT_ONCE, greeting="hi")
    author.deploy()
    before, editor = author.weights(), Editor(author)
    editor.image("shop-prod-1-1")
    with Requests(author) as requests:
        told = author.instar("rollback", "prod", status=1)
        assert "shop-prod-1-1 is not as it was made, and gets no traffic: 'kubectl-edit' wrote" in told
        assert "of its Deployment at 20" in told and "instar taint shop/prod shop-prod-1-1" in told
        assert author.weights() == before
        author.instar("taint", "prod", "shop-prod-1-1", "--why", "it was edited")
        assert until(lambda: is_made_anew(author), Deadline.after(90), every_s=0.5), "another one is made"
        author.instar("rollback", "prod")
    assert set(requests.answers) == {"2 hi s3cret", "1 hello s3cret"}


def is_made_anew(author: Author) -> bool:
    author.instar("agent", "--once")
    shown = {one["number"]: one["instances"] for one in author.json("status", "prod")["releases"]}
    return [(one["id"], one["healthy"]) for one in shown.get(1, ())] == [("shop-prod-1-2", True)]


def test_a_hot_release_whose_service_was_edited_is_not_rolled_back_to(author: Author) -> None:
    author.write(rollout=AT_ONCE, greeting="hi")
    author.deploy()
    before, editor = author.weights(), Editor(author)
    changes = {"spec": {"selector": {"instar/group": "shop-prod-9-9"}}}
    assert editor.api.merge(SERVICE, editor.namespace, "shop-prod-1-1", changes)
    told = author.instar("rollback", "prod", status=1)
    assert "cannot give 'shop-prod-1-1' requests: it is not as it was made: 'kubectl-edit' wrote spec/selector" in told
    assert author.weights() == before


def test_a_release_that_was_edited_before_its_first_weight_gets_none(author: Author) -> None:
    author.write(rollout=AT_ONCE, command=SLOW)
    editor = Editor(author)
    with Requests(author) as requests:
        deploying = author.start_deploy()
        there = until(
            lambda: editor.api.find(DEPLOYMENT, editor.namespace, "shop-prod-2-1") is not None, Deadline.after(60)
        )
        assert there, deploying.communicate()
        editor.image("shop-prod-2-1")
        out, err = deploying.communicate(timeout=120)
    assert deploying.returncode == 1, out + err
    assert "shop-prod-2-1 is not as it was made" in out + err
    assert author.weights() == {"shop-prod-1-1": 100}
    assert set(requests.answers) == {"1 hello s3cret"}


def test_one_that_was_scaled_is_as_it_was_made(author: Author) -> None:
    author.write(rollout=AT_ONCE, greeting="hi")
    author.deploy()
    editor = Editor(author)
    assert editor.api.merge(DEPLOYMENT, editor.namespace, "shop-prod-1-1", {"spec": {"replicas": 3}})
    author.instar("rollback", "prod")
    assert editor.get("shop-prod-1-1")["spec"]["replicas"] == 3
