"""A thousand pods of ten environments, on simulated nodes: what a pass of the agent asks, and what drift finds.

How long it takes is measured by ``scripts/bench thousand``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.simulated import simulated_nodes

from instar.providers.kubernetes.kinds import POD
from kubernetes_author import Author, authoring
from kubernetes_thousand import ENVIRONMENTS, NODES, PODS, passes, released

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.alone, pytest.mark.long]

CALLS_OF_A_PASS = 3  # of an environment: anchors, Deployments, the route
CALLS_OF_A_BEGINNING = 1  # where the gateway is asked for the route's version
CALLS_OF_A_CHECK = 17  # besides: each object of the release, its pods, those that somebody took out, the route, others'


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with simulated_nodes(Cluster(layout()), NODES), authoring(tmp_path) as made, released(made):
        yield made


def test_a_pass_over_a_thousand_pods_asks_as_little_as_one_over_ten_and_drift_finds_the_one(author: Author) -> None:
    pods = author.namespace.api.list(POD, author.namespace.name, {"instar/service": "shop"})
    assert len(pods) == PODS * len(ENVIRONMENTS) and all(one["status"]["phase"] == "Running" for one in pods)

    made = passes(author, 4)
    assert made[0].checked == len(ENVIRONMENTS) and made[0].findings == 0
    assert made[0].calls <= (CALLS_OF_A_PASS + CALLS_OF_A_CHECK + CALLS_OF_A_BEGINNING) * len(ENVIRONMENTS)
    quiet = [one for one in made if not one.checked]
    assert quiet and {one.calls for one in quiet} == {CALLS_OF_A_PASS * len(ENVIRONMENTS)}

    other = next(one for one in pods if one["metadata"]["labels"]["instar/environment"] == ENVIRONMENTS[7])
    name = other["metadata"]["name"]
    image = other["spec"]["containers"][0]["image"].partition("@")[0]
    changes = {"spec": {"containers": [{**other["spec"]["containers"][0], "image": f"{image}@sha256:{'0' * 64}"}]}}
    assert author.namespace.api.merge(POD, author.namespace.name, name, changes)
    found = json.loads(_drift(author, ENVIRONMENTS[7], 2))["findings"]
    assert found and all(name in one["path"] for one in found)
    assert json.loads(_drift(author, ENVIRONMENTS[6], 0))["clean"]


def _drift(author: Author, environment: str, status: int) -> str:
    done = author.verb("drift", environment, "--json")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout
