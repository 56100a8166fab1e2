"""What a pod's labels say of it: whose it is, whether it counts, whether requests get to it, until when it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes_values import SETTINGS

from instar.model.release import EnvironmentId
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import POD, Kind
from instar.providers.kubernetes.logs import Logs
from instar.providers.kubernetes.members import ClusterMembers
from instar.providers.kubernetes.names import ASIDE_AT, GROUP, POD_TEMPLATE, TAINTED, Names
from instar.providers.kubernetes.settings import Place

ENV = EnvironmentId(service="shop", name="prod")
NAMES = Names(environment=ENV, ledger="0a1b2c3d")
ID = "shop-prod-1-1"
POD_NAME = f"{ID}-7d-a"
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Cluster:
    """Some pods of one Deployment, and what was asked to become of them."""

    def __init__(self, *pods: Mapping[str, Any]) -> None:
        self.pods = pods
        self.asked: list[tuple[str, Mapping[str, Any] | None]] = []

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
        return self.pods if kind == POD else ({"metadata": {"name": ID}, "spec": {"replicas": 3}},)

    def names(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(one["metadata"]["name"] for one in self.pods)

    def merge(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> bool:
        self.asked.append((name, changes))
        return True

    def text(self, path: str, what: str, params: Mapping[str, str], *, absent: bool = False) -> bytes:
        return b"" if params["previous"] == "true" else b"2026-01-01T12:00:00Z hello\n"

    def delete(self, kind: Kind, namespace: str, name: str) -> bool:
        self.asked.append((name, None))
        return True


def pod(labels: Mapping[str, str], annotations: Mapping[str, str] | None = None, **more: Any) -> Mapping[str, Any]:
    made = {"name": POD_NAME, "labels": {**NAMES.labels, **labels}, "annotations": annotations or {}}
    made |= {"creationTimestamp": "2026-01-01T11:00:00Z", **more}
    return {"metadata": made, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path / "logs")


def facet(cluster: Cluster, logs: Logs) -> ClusterMembers:
    return ClusterMembers(lambda _: (cast(Api, cluster), NAMES, Place.of(SETTINGS)), lambda _: None, logs)


OWNED = {"ownerReferences": [{"controller": True, "name": f"{ID}-7d"}]}


@pytest.mark.parametrize(
    ("given", "own", "serves"),
    [
        (pod({GROUP: ID, POD_TEMPLATE: "7d"}, **OWNED), True, True),
        (pod({GROUP: ID, TAINTED: ID}, **OWNED), False, True),
        (pod({GROUP: ID, POD_TEMPLATE: "7d"}), False, True),
        (pod({TAINTED: ID}, {ASIDE_AT: AT.isoformat()}), False, False),
    ],
    ids=["one of the release's", "let go", "a stranger's", "set aside"],
)
def test_labels_say_what_a_pod_is(given: Mapping[str, Any], own: bool, serves: bool, logs: Logs) -> None:
    (found,) = facet(Cluster(given), logs).members(ENV)
    assert (found.group, found.own, found.serves, found.ready, found.wanted) == (ID, own, serves, True, 3)
    assert found.until == (None if serves else AT + timedelta(hours=1))


@pytest.mark.parametrize("written", ["", "yesterday", "2026-01-01T12:00:00"])
def test_what_somebody_wrote_into_an_annotation_keeps_no_pod_for_ever(written: str, logs: Logs) -> None:
    (found,) = facet(Cluster(pod({TAINTED: ID}, {ASIDE_AT: written})), logs).members(ENV)
    assert found.until == AT, "an hour from when it was made"


def test_a_pod_is_taken_out_by_its_labels_alone_and_its_lines_are_kept(logs: Logs) -> None:
    cluster = Cluster(pod({GROUP: ID, POD_TEMPLATE: "7d"}, **OWNED))
    made = facet(cluster, logs)
    (found,) = made.members(ENV)
    made.replace(ENV, found)
    made.set_aside(ENV, found, AT)
    made.end(ENV, found)
    replaced, aside, ended = cluster.asked
    assert replaced == (POD_NAME, {"metadata": {"labels": {TAINTED: ID, POD_TEMPLATE: None}}})
    assert aside[1] is not None
    assert aside[1]["metadata"]["labels"] == {TAINTED: ID, POD_TEMPLATE: None, GROUP: None}
    assert ended == (POD_NAME, None)
    assert logs.lines(None, "", ID, None) == [f"2026-01-01T12:00:00Z stdout@{ID}-7d-a hello"]
