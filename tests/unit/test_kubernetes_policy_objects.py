"""What the printed policy is about: which objects, by which calls, and what it holds against which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from instar.model.release import EnvironmentId
from instar.providers.kubernetes.names import ASIDE_AT, EXPOSED, LEASE_NUMBER, MAINTENANCE, PLAN
from instar.providers.kubernetes.policy import policies


def spec(part: str) -> Mapping[str, Any]:
    found = policies(EnvironmentId(service="shop", name="prod"), "shop")
    kind = "ValidatingAdmissionPolicy"
    (made,) = [one for one in found if one["kind"] == kind and one["metadata"]["name"] == f"instar-shop-prod-{part}"]
    (bound,) = [one for one in found if one["kind"] != kind and one["metadata"]["name"] == f"instar-shop-prod-{part}"]
    assert bound["spec"] == {"policyName": f"instar-shop-prod-{part}", "validationActions": ["Deny", "Audit"]}
    result: Mapping[str, Any] = made["spec"]
    assert result["failurePolicy"] == "Fail"
    assert result["matchConstraints"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    return result


def rules(part: str) -> set[tuple[str, str, str]]:
    found = spec(part)["matchConstraints"]["resourceRules"]
    return {
        (group, resource, call)
        for one in found
        for group in one["apiGroups"]
        for resource in one["resources"]
        for call in one["operations"]
    }


def test_nobody_makes_what_makes_pods_of_a_release() -> None:
    """A pod is admitted where the engine makes it: whoever tells the engine to must be Instar."""
    made = rules("makers")
    for group, resource in (
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
        ("", "replicationcontrollers"),
    ):
        assert {(group, resource, "CREATE"), (group, resource, "UPDATE")} <= made
    others, labelled = (one["expression"] for one in spec("makers")["matchConditions"])
    assert "system:serviceaccount:shop:instar" in others and "objectSelector" not in spec("makers")["matchConstraints"]
    assert labelled.split(" || ") == [
        "object.?spec.?template.?metadata.?labels[?'instar/group'].hasValue()",
        "object.?spec.?jobTemplate.?spec.?template.?metadata.?labels[?'instar/group'].hasValue()",
    ]
    assert spec("makers")["validations"][0]["expression"] == "false"


def test_nobody_says_which_pods_a_service_of_ours_leads_to() -> None:
    assert {("discovery.k8s.io", "endpointslices", call) for call in ("CREATE", "UPDATE")} == rules("endpoints")
    condition = spec("endpoints")["matchConditions"][1]["expression"]
    (pattern,) = re.findall(r"matches\('(.*)'\)", condition)
    assert all(re.search(pattern, one) for one in ("shop-prod", "shop-prod-12-3"))
    assert not any(re.search(pattern, one) for one in ("", "shop-prod-db", "shop-prod-1-2-x", "my-shop-prod"))


@pytest.mark.parametrize("part", ["labels", "evidence"])
def test_what_a_pod_is_given_is_changed_in_place_by_nobody(part: str) -> None:
    assert {("", "pods", "UPDATE"), ("", "pods/resize", "UPDATE")} <= rules(part)


@pytest.mark.parametrize("name", [MAINTENANCE, PLAN, EXPOSED, LEASE_NUMBER, ASIDE_AT, "instar/image"])
@pytest.mark.parametrize("part", ["objects", "labels"])
def test_what_instar_reads_in_annotations_is_written_by_nobody_else(part: str, name: str) -> None:
    held = f"object.metadata.?annotations[?'{name}'] == oldObject.metadata.?annotations[?'{name}']"
    assert any(held in one["expression"] for one in spec(part)["validations"])
