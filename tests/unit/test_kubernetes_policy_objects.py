"""What the printed policy is about: which objects, by which calls, and what it holds against which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from instar.errors import InstarError
from instar.model.names import NAME
from instar.model.occurrence import Occurrence
from instar.model.release import Command, EnvironmentId, Instance
from instar.providers.kubernetes.answers import refusal
from instar.providers.kubernetes.names import (
    ASIDE_AT,
    EXPOSED,
    GENERATED,
    GROUP,
    LEASE_NUMBER,
    MAINTENANCE,
    MANAGED_BY,
    NETWORK,
    PLAN,
    POD_TEMPLATE,
    Names,
    job_name,
)
from instar.providers.kubernetes.network import ReleaseNetwork, network_policy
from instar.providers.kubernetes.observation import is_name_of
from instar.providers.kubernetes.policy import policies
from instar.providers.kubernetes.rights import roles
from kubernetes_words import GOOD, Written


def spec(part: str) -> Mapping[str, Any]:
    found = policies(EnvironmentId(service="shop", name="prod"), "shop")
    kind = "ValidatingAdmissionPolicy"
    (made,) = [
        one for one in found if one["kind"] == kind and one["metadata"]["name"] == f"instar.shop.shop.prod.{part}"
    ]
    (bound,) = [
        one for one in found if one["kind"] != kind and one["metadata"]["name"] == f"instar.shop.shop.prod.{part}"
    ]
    assert bound["spec"] == {"policyName": f"instar.shop.shop.prod.{part}", "validationActions": ["Deny", "Audit"]}
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


def guards(part: str, label: str) -> bool:
    """Tell whether a policy refuses every change of a label: it refuses all, or has it be as it was."""
    said = [conjunct for one in spec(part)["validations"] for conjunct in one["expression"].split(" && ")]
    same = "object.metadata.?labels[?{0}] == oldObject.metadata.?labels[?{0}]"
    if "false" in said or same.format(f"'{label}'") in said:
        return True
    each = "{}.metadata.?labels.orValue({{}}).all(name, !name.startsWith('instar/') || {})"
    both = [each.format(one, same.format("name")) for one in ("object", "oldObject")]
    return label.startswith("instar/") and all(one in said for one in both)


def selected_by(part: str) -> set[str]:
    found = spec(part)["matchConstraints"].get("objectSelector") or {}
    assert found.keys() <= {"matchLabels", "matchExpressions"}
    return {*found.get("matchLabels", {}), *(one["key"] for one in found.get("matchExpressions", ()))}


def parts() -> list[str]:
    names = (one["metadata"]["name"] for one in policies(EnvironmentId(service="shop", name="prod"), "shop"))
    return sorted({one.rpartition(".")[2] for one in names})


@pytest.mark.parametrize("part", parts())
def test_nobody_takes_away_or_gives_a_label_by_which_a_policy_holds(part: str) -> None:
    """What is selected by a label is not selected any more once that is gone: so what changes it is refused, of each
    kind that the policy is about, by one that holds for no less."""
    labels = selected_by(part)
    for group, resource, _ in rules(part) if labels else ():
        holding = [one for one in parts() if (group, resource, "UPDATE") in rules(one) and selected_by(one) <= labels]
        for label in labels:
            assert any(guards(one, label) for one in holding), (resource, label)
    if any(call == "UPDATE" for *_, call in rules(part)):
        assert all(guards(part, label) for label in labels), "its own are kept by itself"


def test_an_environment_s_objects_are_selected_by_what_instar_knows_them_by() -> None:
    for part in ("objects", "removal"):
        assert selected_by(part) < set(Names(environment=EnvironmentId(service="shop", name="prod"), ledger="0").labels)


def selecting(found: object) -> Iterator[str]:
    """Yield the labels of pods that selectors anywhere in an object go by."""
    if isinstance(found, Mapping):
        for name, one in found.items():
            if name in ("selector", "podSelector", "labelSelector"):
                yield from one.get("matchLabels", one)
            elif name != "namespaceSelector":
                yield from selecting(one)
    elif isinstance(found, list):
        for one in found:
            yield from selecting(one)


def test_nobody_changes_a_label_of_a_pod_that_a_selector_goes_by() -> None:
    written = Written.of({**GOOD["spread"], **GOOD["network"]})
    found = {label for _, one in written.objects() for label in selecting(one)}
    network = ReleaseNetwork(allow=written.settings.network.allow, senders=())
    names = Names(environment=written.environment, ledger="0a1b2c3d")
    found |= {*selecting(network_policy(names, "shop-prod-1-1", {}, network, serves=True))}
    assert {MANAGED_BY, GROUP, NETWORK} < found and any(one.startswith("instar/to-") for one in found)
    assert all(guards("labels", label) for label in {*found, POD_TEMPLATE}), found


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
    new, old = condition.split(" || oldObject != null && ")  # also what leads to none any more
    assert f"oldObject{new.removeprefix('object')}" == old
    (pattern,) = re.findall(r"matches\('(.*)'\)", new)
    assert all(re.search(pattern, one) for one in ("shop-prod", "shop-prod-12-3"))
    assert not any(re.search(pattern, one) for one in ("", "shop-prod-db", "shop-prod-1-2-x", "my-shop-prod"))


def test_nobody_makes_a_claim_or_a_snapshot_that_an_instance_would_get_its_data_from() -> None:
    claims, kept = ("", "persistentvolumeclaims"), ("snapshot.storage.k8s.io", "volumesnapshots")
    assert rules("volumes") == {(*one, call) for one in (claims, kept) for call in ("CREATE", "DELETE")}
    assert spec("volumes")["validations"][0]["expression"] == "false"
    assert rules("claims") == {
        *((*one, "UPDATE") for one in (claims, kept)),
        ("", "persistentvolumeclaims/status", "UPDATE"),
    }
    for part in ("volumes", "claims"):
        (labelled,) = spec(part)["matchConstraints"]["objectSelector"]["matchExpressions"]
        assert labelled == {"key": "instar/volume", "operator": "Exists"}
        assert "system:serviceaccount:shop:instar" in spec(part)["matchConditions"][0]["expression"]
    held = " ".join(one["expression"] for one in spec("claims")["validations"])
    for name in ("instar/replaced-by", "ownerReferences", "volumeName"):
        assert name in held, name
    assert all(guards("claims", name) for name in ("instar/volume", "instar/turn", "instar/whole"))
    assert "finalizers" not in held and "resources" not in held  # sidecars hold claims up, and people let them grow


@pytest.mark.parametrize("part", ["labels", "evidence"])
def test_what_a_pod_is_given_is_changed_in_place_by_nobody(part: str) -> None:
    assert {("", "pods", "UPDATE"), ("", "pods/resize", "UPDATE")} <= rules(part)


@pytest.mark.parametrize("name", [MAINTENANCE, PLAN, EXPOSED, LEASE_NUMBER, ASIDE_AT, "instar/image"])
@pytest.mark.parametrize("part", ["objects", "labels"])
def test_what_instar_reads_in_annotations_is_written_by_nobody_else(part: str, name: str) -> None:
    held = f"object.metadata.?annotations[?'{name}'] == oldObject.metadata.?annotations[?'{name}']"
    assert any(held in one["expression"] for one in spec(part)["validations"])


@pytest.mark.parametrize("part", ["objects", "labels"])
def test_nobody_has_the_garbage_collector_delete_what_is_ours(part: str) -> None:
    told = " ".join(one["expression"] for one in spec(part)["validations"])
    for one in ("ownerReferences", "finalizers"):
        assert f"object.metadata.?{one} == oldObject.metadata.?{one}" in told
    metadata_too = {
        "objects": {("", "services/status"), ("apps", "deployments/status")},
        "labels": {("", "pods/status")},
    }
    assert {(*one, "UPDATE") for one in metadata_too[part]} <= rules(part)


def test_no_two_environments_have_policies_of_one_name() -> None:
    shop = EnvironmentId(service="shop", name="prod")
    found = [[one["metadata"]["name"] for one in policies(shop, where)] for where in ("a", "b")]
    assert not {*found[0]} & {*found[1]}
    longest = policies(EnvironmentId(service="s" * 40, name="e" * 20), "n" * 63)
    assert all(len(one["metadata"]["name"]) <= 253 for one in longest)


def test_nobody_runs_as_instar_or_gets_its_token() -> None:
    makers = {one for one in rules("makers") if one[2] == "CREATE"}
    assert makers | {("", "pods", "CREATE"), ("", "pods", "UPDATE")} <= rules("account")
    assert {("", "serviceaccounts/token", "CREATE"), ("", "secrets", "CREATE")} <= rules("token")
    (pattern,) = re.findall(r"matches\('(.*)'\)", spec("inside")["matchConditions"][1]["expression"])
    assert re.search(pattern, "instar-agent-57d59-c972z") and re.search(pattern, "shop-prod-1-1-x")
    assert not re.search(pattern, "my-instar-agent-1")


def inside(environment: EnvironmentId) -> str:
    (said,) = [
        one["spec"]["matchConditions"][1]["expression"]
        for one in policies(environment, "shop")
        if one["kind"] == "ValidatingAdmissionPolicy" and one["metadata"]["name"].endswith(".inside")
    ]
    (pattern,) = re.findall(r"matches\('(.*)'\)", said)
    return str(pattern)


NAMES = some.from_regex(NAME, fullmatch=True)
DUE = datetime(2026, 11, 30, 2, 0, tzinfo=UTC)


@given(service=NAMES, name=NAMES, entry=NAMES, release=some.integers(1, 10**7), serial=some.integers(1, 10**5))
@example(service="my--shop", name="prod", entry="nightly", release=1, serial=1)
@example(service="shop", name="a--b", entry="nightly", release=1, serial=1)
@example(service="shop-", name="prod-", entry="nightly", release=1, serial=1)
@example(service="s" * 24, name="e" * 23, entry="n", release=1234, serial=1234)  # of 58 characters: no dash is left
def test_nobody_looks_into_a_pod_of_a_group_or_of_a_scheduled_command_however_they_are_called(
    service: str, name: str, entry: str, release: int, serial: int
) -> None:
    environment = EnvironmentId(service=service, name=name)
    group = Instance(
        id=f"{service}-{name}-{release}-{serial}"[:63],
        serial=serial,
        environment=environment,
        release=release,
        created_at=DUE,
        task=Occurrence(entry=entry, due_at=DUE).name,
        command=Command(argv=("work",)),
    )
    job = f"{f'{job_name(group)}-'[:GENERATED]}x7k2p"
    assert re.search(inside(environment), job) and is_name_of(job, f"{service}-{name}-1-1")
    if len(service) + len(name) + 1 <= 48:  # more are no names of an environment, as the definition has it
        for made in (group.id, f"{group.id}-5f7c9d8b4"):
            assert re.search(inside(environment), f"{f'{made}-'[:GENERATED]}x7k2p"), made


def test_pods_of_others_are_looked_into_by_whoever_may() -> None:
    pattern = inside(EnvironmentId(service="shop", name="prod"))
    for one in ("shop-prod-db-0", "shop-prod-1", "my-shop-prod-1-1-x", "shop-production-1-1-x", "shop-prod-1abcde"):
        assert not re.search(pattern, one), one


def test_nobody_changes_the_agent_or_what_it_goes_by_but_who_may_change_the_policy() -> None:
    for resource in ("deployments", "deployments/scale", "replicasets", "replicasets/scale"):
        assert {("apps", resource, "UPDATE"), ("apps", resource, "DELETE")} <= rules("agent"), resource
    for resource in ("configmaps", "secrets"):
        assert {("", resource, call) for call in ("CREATE", "UPDATE", "DELETE")} <= rules("agent"), resource
    rbac = "rbac.authorization.k8s.io"
    for group, resource in (("", "serviceaccounts"), (rbac, "roles"), (rbac, "rolebindings")):
        assert {(group, resource, "UPDATE"), (group, resource, "DELETE")} <= rules("agent"), resource
    others, its, keepers = (one["expression"] for one in spec("agent")["matchConditions"])
    name = "(oldObject != null ? oldObject : object).metadata.?name.orValue('')"
    account = f"request.resource.resource in ['serviceaccounts', 'roles', 'rolebindings'] ? {name} == 'instar' : "
    assert its.startswith(account), "those of others in the namespace are theirs"
    assert "system:serviceaccount:shop:instar" in others and "validatingadmissionpolicies" in keepers
    assert "'instar-ledger'" in its and "'instar-agent'" in its
    assert spec("agent")["validations"][0]["expression"] == "false"


def test_the_account_and_the_roles_that_are_kept_are_those_that_are_printed() -> None:
    kinds = {"ServiceAccount", "Role", "RoleBinding"}
    own = [one for one in roles("shop", ("gateways", "public")) if one["metadata"].get("namespace") == "shop"]
    assert {(one["kind"], one["metadata"]["name"]) for one in own} == {(kind, "instar") for kind in kinds}


@pytest.mark.parametrize("status", [403, 422])
def test_whom_the_policy_refuses_is_told_of_the_account(status: int) -> None:
    said = {"message": f"ValidatingAdmissionPolicy 'instar.shop.shop.prod.removal' denied request: {_removal()}"}
    error = refusal("delete the Deployment 'shop-prod-1-1'", status, json.dumps(said).encode())
    assert isinstance(error, InstarError) and "system:serviceaccount:shop:instar" in str(error)
    assert error.hint is not None and "kubectl create token instar" in error.hint


def _removal() -> str:
    (told,) = spec("removal")["validations"]
    return str(told["message"])
