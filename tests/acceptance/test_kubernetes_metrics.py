"""On a real cluster with a real metrics-server: what pods use is shown, and an autoscaler goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.metrics import measuring

from instar.providers.kubernetes.kinds import AUTOSCALER, DEPLOYMENT
from instar.waiting import Deadline, until
from kubernetes_author import Author, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.long]
BUSY = "mkdir -p /tmp/www; echo >/tmp/www/index.html; httpd -p 8080 -h /tmp/www; while :; do :; done"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with measuring(Cluster(layout())), authoring(tmp_path) as made:
        yield made


def used(author: Author) -> Any:
    """Return what the only pod of the first release uses, once there are figures of it."""
    roles = [role for release in author.json("top", "prod")["releases"] for role in release["roles"]]
    figures = [one["figures"] for role in roles for one in role["instances"]]
    return next((one for one in figures if one["processors"] and one["memory_bytes"]), None)


def test_top_shows_what_a_pod_uses_and_an_autoscaler_goes_by_it(author: Author) -> None:
    author.write(command=["sh", "-c", BUSY], instances="{min: 1, max: 2, cpu: 50}", rollout="{strategy: blue-green}")
    said = author.deploy()
    assert "metrics.k8s.io" not in said, "there are figures"
    found = until(lambda: used(author), Deadline.after(90), every_s=5)
    assert found["processors"] <= 0.25 and found["memory_bytes"] < 32 << 20, found  # limits: 0.2, 32M
    api, where = author.namespace.api, author.namespace.name

    def scaled() -> Any:
        return (api.find(DEPLOYMENT, where, "shop-prod-1-1") or {})["spec"]["replicas"] == 2

    assert until(scaled, Deadline.after(180), every_s=5), api.find(AUTOSCALER, where, "shop-prod-1-1")
    assert author.json("drift", "prod")["clean"], "how many there are is the autoscaler's to say"
    assert len(author.json("status", "prod")["releases"][0]["instances"]) >= 1
