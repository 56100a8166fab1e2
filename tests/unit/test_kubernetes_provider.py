"""What the provider does with a cluster's answers, good and bad, on a stub of one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub, Fault
from instar.errors import (
    FetchError,
    InstarError,
    ProviderError,
    ProviderUnavailable,
    Refused,
    RouterError,
    RouterUnreachable,
    SourceUnreachable,
)
from instar.model.definition import Task, Volume
from instar.model.environment import Check
from instar.providers.base import Traffic
from instar.providers.kubernetes.preflight import require_registry
from instar.providers.kubernetes.route import said_otherwise
from instar.providers.kubernetes.settings import Place
from instar.providers.router_plan import RouterPlan

PLAN = RouterPlan.of(ENV, SETTINGS, SERVICE)


def test_a_group_is_made_once_seen_and_goes_whole(world: World, stub: ClusterStub) -> None:
    release = world.release(config={"GREETING": "hello"})
    group = world.create(release)
    made = {key[0]: dict(one) for key, one in stub.objects.items()}
    world.provider.create(group, release, world.image)
    assert stub.one("deployments", group.id) == made["deployments"], "what is there is not written to again"
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert (seen.state, seen.ready) == ("running", 2)

    assert not world.provider.destroy(group, release)
    assert world.provider.observe(ENV, [group]).groups[0].state == "ending"
    stub.end_pods()
    assert world.provider.destroy(group, release)
    assert world.provider.observe(ENV, [group]).groups[0].state == "absent"
    left = {key[0] for key in stub.objects}
    assert left == {"namespaces", "gateways"}


def test_a_pod_of_somebody_else_s_with_its_labels_keeps_no_group(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release)
    labels = stub.one("pods", f"{group.id}-0")["metadata"]["labels"]
    stub.put("pods", "shop", {"metadata": {"name": "stranger", "labels": labels}})
    world.provider.destroy(group, release)
    stub.end_pods()
    assert world.provider.destroy(group, release)
    assert world.provider.observe(ENV, [group]).groups[0].state == "absent"


@pytest.mark.parametrize(("restarts", "calls"), [(0, 2), (3, 4)])
def test_what_a_container_printed_before_is_asked_for_where_there_was_one(
    restarts: int, calls: int, world: World, stub: ClusterStub
) -> None:
    stub.pod_status = {"containerStatuses": [{"name": "shop", "restartCount": restarts}]}
    group = world.create(world.release())
    lines = [f"2026-11-29T12:00:00.000000001Z stdout@shop-prod-1-1-{number} serving" for number in range(2)]
    assert list(world.provider.log_lines(group.id)) == lines
    assert sum(path.endswith("/log") for _, path in stub.asked) == calls


def test_what_it_printed_is_kept_when_it_goes(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release, members=1)
    printed = ["2026-11-29T12:00:00.000000001Z stdout@shop-prod-1-1-0 serving"]
    assert list(world.provider.log_lines(group.id)) == printed
    world.provider.destroy(group, release)
    stub.end_pods()
    assert list(world.provider.log_lines(group.id, last=5)) == printed
    assert world.provider.has_log(group.id)
    world.settings.clear()
    assert list(world.provider.log_lines(group.id)) == printed
    world.provider.forget_logs([group.id])
    assert not world.provider.has_log(group.id)


def test_traffic_moves_by_weights_that_are_seen_in_force(world: World, stub: ClusterStub) -> None:
    old, new = world.create(world.release(1)), world.create(world.release(2), serial=2)
    world.provider.expose(world.release(1), [], PLAN)
    world.provider.expose(world.release(1), [old])
    world.provider.expose(world.release(2), [new])
    assert world.provider.route(ENV, {old.id: 95, new.id: 5}) is not None
    seen = world.provider.observe(ENV, []).traffic
    assert {name: (one.weight, one.up) for name, one in seen.groups.items()} == {old.id: (95, True), new.id: (5, True)}
    assert seen.plan == PLAN.fingerprint
    assert all(one.sessions is None and one.served is None for one in seen.groups.values())

    stub.accepts = {"type": "Accepted", "status": "False", "message": "no listener has that name"}
    with pytest.raises(RouterError, match="refuses the HTTPRoute 'shop-prod': no listener has that name") as caught:
        world.provider.route(ENV, {new.id: 100})
    assert caught.value.retry_after_s is None
    assert world.provider.observe(ENV, []).traffic.plan is None, "what the gateway refuses is not in force"

    world.provider.withdraw(ENV, [old.id])
    assert set(stub.one("httproutes", "shop-prod")["spec"]["rules"][-1]["backendRefs"][0].values()) >= {new.id}
    world.provider.close(ENV)
    assert world.provider.observe(ENV, []).traffic == Traffic()


def test_a_route_that_is_not_taken_up_is_asked_about_again(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.door_objects._IN_FORCE_S", 0.1)
    stub.accepts = {"type": "Programmed", "status": "True"}
    with pytest.raises(RouterUnreachable, match="has not taken up"):
        world.provider.expose(world.release(), [], PLAN)
    old, new = world.create(world.release(1)), world.create(world.release(2), serial=2)
    with pytest.raises(RouterUnreachable):
        world.provider.expose(world.release(1), [old, new], PLAN)
    before, generation = stub.asked.copy(), stub.one("httproutes", "shop-prod")["metadata"]["generation"]
    with pytest.raises(RouterUnreachable):
        world.provider.route(ENV, {old.id: 60, new.id: 40})
    asked = [method for method, path in stub.asked[len(before) :] if path.endswith("/shop-prod")]
    assert asked.count("PATCH") == 3, "it is said, said otherwise, and said as it is"
    route = stub.one("httproutes", "shop-prod")
    assert route["metadata"]["generation"] == generation + 3
    shares = {one["name"]: one["weight"] for one in route["spec"]["rules"][-1]["backendRefs"]}
    assert shares == {old.id: 60, new.id: 40}


def test_a_route_said_otherwise_shares_requests_just_so() -> None:
    def rule(*weights: int) -> dict[str, Any]:
        return {"backendRefs": [{"name": f"g{number}", "weight": one} for number, one in enumerate(weights)]}

    def said(*rules: dict[str, Any]) -> Any:
        return said_otherwise({"metadata": {}, "spec": {"hostnames": ["a"], "rules": list(rules)}})["spec"]["rules"]

    assert said({"matches": []}, rule(5, 95), rule(100)) == [
        {"matches": []},
        {"backendRefs": [{"name": "g1", "weight": 95}, {"name": "g0", "weight": 5}]},
        {"backendRefs": [{"name": "g0", "weight": 101}]},
    ]
    assert said(rule(0)) == [rule(0)], "what gets nothing goes on getting nothing"


def test_a_preview_is_a_rule_of_its_own(world: World, stub: ClusterStub) -> None:
    old, new = world.create(world.release(1)), world.create(world.release(2), serial=2)
    world.provider.expose(world.release(1), [old, new], PLAN)
    world.provider.route(ENV, {old.id: 100})
    world.provider.preview(ENV, {2: new.id, 3: "shop-prod-3-9"})
    rules = stub.one("httproutes", "shop-prod")["spec"]["rules"]
    assert rules[0]["matches"][0]["headers"] == [{"name": "X-Instar-Release", "value": "2"}]
    assert rules[0]["backendRefs"][0]["name"] == new.id
    assert world.provider.observe(ENV, []).traffic.previewed == {2: new.id}
    previews = [one for one in rules if "X-Instar-Release" in str(one)]
    assert len(previews) == 1


def test_somebody_who_changes_the_route_in_between_is_not_overwritten(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    world.provider.expose(world.release(), [group], PLAN)
    conflict = {"reason": "Conflict", "message": "the object has been modified"}
    stub.faults = [Fault(409, conflict, fits=lambda method, path: method == "PATCH")]
    world.provider.route(ENV, {group.id: 100})
    assert world.provider.observe(ENV, []).traffic.groups[group.id].weight == 100

    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "argocd" using v1: .spec.rules'}
    stub.faults = [Fault(409, {"reason": "Conflict", "details": {"causes": [cause]}}, fits=lambda m, _: m == "PATCH")]
    with pytest.raises(Refused, match="argocd wrote to it, and it is not forced"):
        world.provider.route(ENV, {})


def test_what_is_somebody_elses_is_never_touched(world: World, stub: ClusterStub) -> None:
    release = world.release()
    theirs = stub.put("services", "shop", {"metadata": {"name": "shop-prod-1-1", "labels": {"app": "other"}}})
    with pytest.raises(Refused, match="it is not Instar's for 'shop/prod'"):
        world.create(release)
    assert stub.one("services", "shop-prod-1-1") == theirs
    route = stub.put("httproutes", "shop", {"metadata": {"name": "shop-prod"}, "spec": {"parentRefs": [{}]}})
    for call in (lambda: world.provider.expose(release, [], PLAN), lambda: world.provider.close(ENV)):
        with pytest.raises(Refused, match="HTTPRoute 'shop/shop-prod'"):
            call()
    assert stub.one("httproutes", "shop-prod") == route


def test_a_server_that_is_away_is_transient(world: World, stub: ClusterStub) -> None:
    stub.close()
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        world.provider.observe(ENV, [])


def test_a_websocket_to_a_server_that_is_away_is_transient_too(world: World, stub: ClusterStub) -> None:
    api, _, _ = world.provider.cluster.reach(ENV)
    stub.close()
    with (
        pytest.raises(ProviderUnavailable, match=r"cannot open a shell in 'a': 'http://.*' does not answer"),
        api.websocket("/api/v1/namespaces/shop/pods/a/exec", {}, ["v5.channel.k8s.io"], "open a shell in 'a'"),
    ):
        raise AssertionError("there is none")


def test_a_service_without_a_gateway_selects_one_group(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path, WITHOUT_GATEWAY)
    plan = RouterPlan.of(ENV, WITHOUT_GATEWAY, SERVICE)
    old, new = world.create(world.release(1)), world.create(world.release(2), serial=2)
    world.provider.expose(world.release(1), [old], plan)
    world.provider.expose(world.release(2), [new])
    with pytest.raises(RouterError, match="a Service selects one of them"):
        world.provider.route(ENV, {old.id: 50, new.id: 50})
    ready = [{"targetRef": {"name": f"{new.id}-0"}, "conditions": {"ready": True}}]
    labels = {"kubernetes.io/service-name": "shop-prod"}
    stub.put("endpointslices", "shop", {"metadata": {"name": "shop-prod-x", "labels": labels}, "endpoints": ready})
    world.provider.route(ENV, {new.id: 100})
    assert stub.one("services", "shop-prod")["spec"]["selector"] == {"instar/group": new.id}
    assert {name: one.weight for name, one in world.provider.observe(ENV, []).traffic.groups.items()} == {
        old.id: 0,
        new.id: 100,
    }


@pytest.mark.parametrize(
    ("conditions", "pod", "told"),
    [
        (
            [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}],
            {},
            "pods cannot be made: exceeded quota: small",
        ),
        (
            [],
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]},
            "cannot be placed on a node: 0/2 nodes are available",
        ),
        (
            [],
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}}}]},
            "cannot pull its image: 401 Unauthorized",
        ),
        (
            [],
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
                ]
            },
            "ends again and again, the last time with exit status 3",
        ),
    ],
)
def test_why_it_is_not_well_is_said(
    world: World, stub: ClusterStub, conditions: list[dict[str, str]], pod: dict[str, object], told: str
) -> None:
    stub.pods_are_ready, stub.pod_status, stub.deployment_conditions = False, pod, list(conditions)
    group = world.create(world.release())
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert seen.ready == 0
    assert seen.reason is not None
    assert told in seen.reason
    assert told in world.provider.ask(group, world.release()).cause


@pytest.mark.parametrize("task", [None, "before 1"])
def test_a_pod_that_waits_for_its_volume_says_what_is_said_of_its_claim(
    world: World, stub: ClusterStub, task: str | None
) -> None:
    """Of one that is filled when its first pod comes, the cluster speaks to the claim alone."""
    stub.pods_are_ready, stub.pod_status = False, {"phase": "Pending"}
    volumes, before = (Volume(name="data", path="/data"),), (Task(command=("migrate",)),)
    release = world.release(service=dataclasses.replace(SERVICE, volumes=volumes, before=before))
    group = world.create(release, members=1, task=task)
    pod = stub.one("pods", f"{group.id}-0")
    pod["spec"] = {"volumes": [{"persistentVolumeClaim": {"claimName": "shop-prod-data"}}]}
    if task is not None:
        stub.one("jobs", group.id)["status"] = {}
    about = {"kind": "PersistentVolumeClaim", "name": "shop-prod-data"}
    message = "failed to provision volume: no room in the pool"
    stub.put("events", "shop", {"metadata": {"name": "e"}, "involvedObject": about, "message": message})
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert seen.reason == f"{group.id}-0 waits for the volume claim 'shop-prod-data': {message}"
    pod["spec"]["nodeName"] = "node-0"
    assert world.provider.observe(ENV, [group]).groups[0].reason is None


def test_who_has_scaled_a_group_down_is_said_and_the_way_back(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    deployment = stub.one("deployments", group.id)
    deployment["spec"]["replicas"], deployment["status"]["readyReplicas"] = 0, 0
    deployment["metadata"]["managedFields"] = [{"manager": "kubectl", "subresource": "scale"}]
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert seen.reason == (
        "its Deployment was scaled to 0 by 'kubectl', and is to have 2: "
        "kubectl scale deployment shop-prod-1-1 -n shop --replicas=2"
    )


def test_pods_are_asked_for_only_where_they_say_more_than_what_made_them(world: World, stub: ClusterStub) -> None:
    """There may be thousands, and a pass is made every few seconds."""
    group = world.create(world.release())
    stub.asked.clear()
    assert world.provider.observe(ENV, [group]).groups[0].ready == 2
    assert [path for _, path in stub.asked if path.endswith("/pods")] == []
    assert len(stub.asked) <= 4

    stub.one("deployments", group.id)["status"]["readyReplicas"] = 1
    assert world.provider.observe(ENV, [group]).groups[0].ready == 1
    assert [path for _, path in stub.asked if path.endswith("/pods")] != []


def test_a_task_is_a_job_and_its_end_is_seen(world: World, stub: ClusterStub) -> None:
    release = world.release(service=dataclasses.replace(SERVICE, before=(Task(command=("migrate",)),)))
    group = world.create(release, members=1, task="before 1")
    job = stub.one("jobs", group.id)["spec"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["template"]["spec"]["containers"][0]["command"] == ["migrate"]
    assert stub.names("deployments") == stub.names("services") == []
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert (seen.state, seen.exit_status) == ("stopped", 0)
    ended = {"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}
    stub.one("jobs", group.id)["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    stub.one("pods", f"{group.id}-0")["status"] = ended
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert (seen.exit_status, seen.signal, seen.out_of_memory) == (137, "SIGKILL", True)


def test_a_job_that_cannot_make_its_pod_says_so_in_the_clusters_words(world: World, stub: ClusterStub) -> None:
    release = world.release(service=dataclasses.replace(SERVICE, before=(Task(command=("migrate",)),)))
    group = world.create(release, members=1, task="before 1")
    stub.one("jobs", group.id)["status"] = {}
    del stub.objects["pods", "shop", f"{group.id}-0"]
    assert world.provider.observe(ENV, [group]).groups[0].reason is None
    about = {"kind": "Job", "name": group.id}
    message = 'Error creating: pods "x" is forbidden: exceeded quota: few'
    stub.put("events", "shop", {"metadata": {"name": "e"}, "involvedObject": about, "message": message})
    seen = world.provider.observe(ENV, [group]).groups[0]
    assert (seen.state, seen.ready) == ("running", 0)
    assert seen.reason == f"its pod cannot be made: {message}"


def test_an_image_is_pushed_once(world: World) -> None:
    world.provider.publish(ENV, world.image)
    world.provider.publish(ENV, world.image)
    assert world.registries.images == [f"registry.example/team/shop@{world.image.digest}"]
    assert [(one.stage, one.text) for one in world.told] == [
        ("push", f"{world.image.digest.short} to registry.example/team/shop, which has it not yet")
    ]


def test_a_registry_that_refuses_is_asked_before_anything_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[InstarError] = [SourceUnreachable("away"), FetchError("it answers without TLS")]

    def refuse(what: object) -> bool:
        raise asked.pop(0)

    monkeypatch.setattr(world.registries, "has", refuse)
    place = Place.of(SETTINGS)
    registries: Any = world.registries
    require_registry(registries, place)  # a moment's absence is waited for when it is pushed to
    with pytest.raises(FetchError, match="without TLS"):
        require_registry(registries, place)


def test_a_check_is_asked_through_the_api(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release)
    assert world.provider.ask(group, release, Check(kind="http", path="/a b")).healthy
    assert ("GET", f"/api/v1/namespaces/shop/pods/{group.id}-0%3A8080/proxy/a%20b") in stub.asked
    stub.faults = [Fault(500, {}, fits=lambda method, path: "proxy" in path)]
    assert (
        world.provider.ask(group, release, Check(kind="http", path="/x")).cause
        == f"GET /x of {group.id}-0 answered 500"
    )
    assert "does not contain" in world.provider.ask(group, release, Check(kind="http", path="/", contains="ill")).cause


def test_a_token_that_is_not_taken_any_more_is_said_so(world: World, stub: ClusterStub) -> None:
    stub.token = "another"
    with pytest.raises(ProviderError, match="does not accept these credentials") as caught:
        world.provider.observe(ENV, [])
    assert caught.value.retry_after_s is None
    assert "expired" in (caught.value.hint or "")


def test_an_answer_that_is_no_json_is_an_error(world: World, stub: ClusterStub) -> None:
    stub.faults = [Fault(200, b"<html>", times=9)]  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="it is not JSON"):
        world.provider.observe(ENV, [])
    stub.faults = [Fault(200, json.dumps([1]).encode(), times=9)]  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="it is no object"):
        world.provider.observe(ENV, [])
