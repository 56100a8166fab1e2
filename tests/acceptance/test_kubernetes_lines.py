"""What kubectl calls a pod, Instar says beside its instance; and what a pod printed before it restarted is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import POD
from kubernetes_author import SERVE, Author, authoring

pytestmark = pytest.mark.cluster
ONCE = f"if [ ! -e /tmp/was ]; then echo before; touch /tmp/was; exit 3; fi; {SERVE}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_lines_and_status_name_pods_and_a_restart_loses_no_line(author: Author) -> None:
    author.write(command=["sh", "-c", ONCE.replace("touch /tmp/was", ": >/tmp/was")], deadline="60s", instances=2)
    author.deploy()
    found = author.namespace.api.list(POD, author.namespace.name, {})
    pods = sorted(str(one["metadata"]["name"]) for one in found)
    lines = [one.split("  ") for one in author.instar("logs", "prod").splitlines()]
    said = {(one[0], one[1].rpartition(" ")[2]) for one in lines if len(one) > 1}
    assert said == {(pod, word) for pod in pods for word in ("before", "serving")}
    (instance,) = author.json("status", "prod")["releases"][0]["instances"]
    assert instance["member_names"] == pods
    assert f"shop-prod-1-1 is {', '.join(pods)}" in author.instar("status", "prod")
    author.instar("destroy", "prod", "--yes")
