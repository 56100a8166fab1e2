"""What a deploy would make, printed for review: it is what the cluster takes and has, and tools leave it alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.comparison import differences
from instar.providers.kubernetes.documents import NOT_APPLIED
from instar.providers.kubernetes.kinds import BUDGET, CONFIG_MAP, DEPLOYMENT, ROUTE, SERVICE
from instar.providers.kubernetes.kubeconfig import find_config
from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster
KINDS = {one.name: one for one in (CONFIG_MAP, SERVICE, DEPLOYMENT, ROUTE, BUDGET)}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def only_the_targets(route: Mapping[str, Any], group: str = "shop-prod-2-1") -> Mapping[str, Any]:
    """Return a route without rules for Instar's own questions, and without the groups that have no traffic."""
    main = route["spec"]["rules"][-1]
    main = {**main, "backendRefs": [one for one in main["backendRefs"] if one["name"] == group]}
    return {**route, "spec": {**route["spec"], "rules": [main]}}


def test_what_is_rendered_is_what_the_cluster_would_take(author: Author) -> None:
    author.write()
    told = author.instar("kubernetes", "render", "prod", "--image", author.image)
    found = [one for one in yaml.safe_load_all(told) if one]
    assert "s3cret" not in told
    for one in found:
        author.namespace.api.create(KINDS[one["kind"]], author.namespace.name, one, dry=True)
    assert [one["kind"] for one in found] == [
        "ConfigMap",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
        "HTTPRoute",
    ]
    environ = author.namespace.environ
    api = Api(find_config(None, environ), environ)
    assert api.list(DEPLOYMENT, author.namespace.name, {}) == ()

    author.deploy()
    author.write(greeting="hi")
    told = author.instar("kubernetes", "render", "prod", "--image", author.image)
    found = [one for one in yaml.safe_load_all(told) if one]
    author.deploy()
    for one in found:
        made = api.find(KINDS[one["kind"]], author.namespace.name, one["metadata"]["name"])
        for name in NOT_APPLIED:
            one["metadata"]["annotations"].pop(name)
        assert made is not None
        cut = only_the_targets if one["kind"] == "HTTPRoute" else dict  # without rules for Instar's own questions
        assert list(differences(cut(one), cut(made))) == [], one["kind"]


def test_a_tool_that_applies_what_is_printed_keeps_no_deploy_from_its_way(author: Author) -> None:
    """As Argo CD and Flux do it: what is marked for them is left alone, all else is applied by force."""
    environ, folder = author.namespace.environ, author.folder / "printed"
    tool = Api(find_config(None, environ), environ, "argocd-controller")

    def apply() -> None:
        author.instar("kubernetes", "render", "prod", "--image", author.image, "--out", str(folder))
        found = [yaml.safe_load(file.read_text()) for file in sorted(folder.iterdir())]
        for one in filter(None, found):
            own = one["metadata"].get("annotations") or {}
            if "Skip" not in own.values() and "disabled" not in own.values():
                tool.apply(KINDS[one["kind"]], author.namespace.name, one, force=True)
        assert len(found) > 5

    for greeting in ("hello", "hi"):
        author.write(greeting=greeting)
        apply()
        author.deploy()
        apply()
    author.instar("rollback", "prod")
    assert author.json("drift", "prod")["clean"]
