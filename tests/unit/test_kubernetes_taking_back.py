"""A route that somebody else has written to: who is named, what is taken back, and from whom nothing is taken.

The entries are what an API server of 1.37 answers after kubectl annotate, kubectl patch and an apply of another one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.errors import Refused, RouterError
from instar.providers.doors import Ports
from instar.providers.kubernetes.taking_back import require_hands, require_nobody_else, without_others
from instar.providers.router_plan import RouterPlan

AT = "2026-11-29T21:02:21Z"
OWN = {
    "manager": "instar",
    "operation": "Apply",
    "apiVersion": "gateway.networking.k8s.io/v1",
    "time": AT,
    "fieldsType": "FieldsV1",
    "fieldsV1": {
        "f:metadata": {"f:annotations": {"f:instar/plan": {}}},
        "f:spec": {"f:hostnames": {}, "f:parentRefs": {}, "f:rules": {}},
    },
}
STATUS = {**OWN, "manager": "contour", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
PATCHED = {**OWN, "manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:spec": {"f:rules": {}}}}
ANNOTATED = {
    **OWN,
    "manager": "kubectl-annotate",
    "operation": "Update",
    "fieldsV1": {"f:metadata": {"f:annotations": {"f:note": {}}}},
}
ADDED = {
    **OWN,
    "manager": "kubectl-edit",
    "operation": "Update",
    "fieldsV1": {"f:spec": {"f:externalIPs": {}, "f:selector": {"f:app": {}}}},
}
APPLIED = {**OWN, "manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:hostnames": {}}}}
MADE: dict[str, Any] = {
    "metadata": {"name": "shop-prod", "annotations": {"instar/plan": "x"}},
    "spec": {"rules": [], "hostnames": [], "parentRefs": [], "selector": {"instar/group": "shop-prod-1-1"}},
}


def found(*entries: dict[str, Any]) -> dict[str, Any]:
    fields = [OWN, STATUS, *entries]
    return {"metadata": {"name": "shop-prod", "namespace": "shop", "resourceVersion": "7", "managedFields": fields}}


def test_who_wrote_what_and_when_is_named() -> None:
    with pytest.raises(Refused, match=rf"'kubectl-patch' wrote spec/rules of it at {AT}") as caught:
        require_nobody_else(found(ANNOTATED, PATCHED), "HTTPRoute")
    assert "instar agent --once" in (caught.value.hint or "")


def test_what_is_written_beside_what_is_said_stops_nothing() -> None:
    require_nobody_else(found(ANNOTATED), "HTTPRoute")
    require_nobody_else(found(), "HTTPRoute")


def test_a_hand_is_taken_from_and_a_tool_is_not() -> None:
    require_hands(found(PATCHED, ANNOTATED), "HTTPRoute")
    with pytest.raises(RouterError, match="'argocd-controller' applies the HTTPRoute 'shop-prod' too"):
        require_hands(found(PATCHED, APPLIED), "HTTPRoute")


def test_what_others_added_goes_and_what_is_said_and_the_engine_s_stays() -> None:
    changes = without_others(MADE, found(ANNOTATED, PATCHED, ADDED))
    assert changes == {
        "metadata": {"annotations": {"note": None}, "managedFields": [OWN, STATUS], "resourceVersion": "7"},
        "spec": {"externalIPs": None, "selector": {"app": None}},
    }


def test_a_gateway_that_writes_to_a_route_meanwhile_keeps_nothing_from_being_taken_back(
    stub: ClusterStub, tmp_path: Path
) -> None:
    world = World(stub, tmp_path)
    release = world.release()
    group = world.create(release)
    world.provider.expose(release, [group], RouterPlan.of(ENV, SETTINGS, SERVICE))
    route = stub.one("httproutes", "shop-prod")
    route["metadata"]["managedFields"] = [ANNOTATED]
    route["metadata"]["annotations"]["note"] = "by hand"
    asked: list[str] = []

    def is_the_second_write(method: str, path: str) -> bool:
        asked.extend([path] if method == "PATCH" and "httproutes" in path else [])
        return method == "PATCH" and len(asked) == 2

    stub.faults = [Fault(409, {"reason": "Conflict", "message": "modified"}, fits=is_the_second_write)]
    inspects = world.provider.inspects
    inspects.restore_router(
        RouterPlan.of(ENV, SETTINGS, SERVICE), inspects.targets([group], {(1, ""): Ports(door="", port=8080)})
    )
    assert stub.faults[0].times == 0, "it was refused"
    assert "note" not in stub.one("httproutes", "shop-prod")["metadata"]["annotations"]
