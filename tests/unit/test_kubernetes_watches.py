"""What is waited for in a cluster: told by a watch, and found all the same where none says anything."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.model.release import Ending, Instance
from instar.providers.kubernetes import door_objects, reading
from instar.providers.router_plan import RouterPlan
from instar.waiting import Deadline

PLAN = RouterPlan.of(ENV, SETTINGS, SERVICE)
ROUTES, DEPLOYMENTS = ("httproutes", "deployments")
LONG_S = 30.0  # for no test waits that long: it would be told of sooner, or not at all


def served(world: World) -> Instance:
    """Have a group that requests can be sent to."""
    release = world.release()
    group = world.create(release)
    world.provider.expose(release, [group], PLAN)
    return group


def asked(stub: ClusterStub, plural: str) -> list[str]:
    """Return what was asked of a kind: "all", for a list or a watch, or an object's name."""
    parts = [path.rpartition(f"/{plural}") for method, path in stub.asked if method == "GET" and f"/{plural}" in path]
    return [after.strip("/") or "all" for _, _, after in parts]


def meanwhile(do: Callable[[], object]) -> None:
    threading.Timer(0.2, do).start()


def accept(stub: ClusterStub) -> None:
    """Have the gateway take up the route, some time after it was written."""
    stub.accepts = {"type": "Accepted", "status": "True"}
    stub.put(ROUTES, "shop", stub.one(ROUTES, "shop-prod"))


def test_a_route_is_seen_in_force_by_a_watch_and_not_by_asking(world: World, stub: ClusterStub) -> None:
    group = served(world)
    stub.asked.clear()
    stub.accepts = {"type": "Programmed", "status": "True"}
    meanwhile(lambda: accept(stub))
    assert world.provider.route(ENV, {group.id: 100}) is not None
    assert asked(stub, ROUTES) == ["shop-prod", "all"]


@pytest.mark.parametrize("said", ["nothing", "that it may not", "no watch's words"])
def test_a_route_is_seen_in_force_where_no_watch_tells_of_it(
    said: str, world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_objects, "_WATCHED_S", 0.5)
    group = served(world)
    stub.accepts = {"type": "Programmed", "status": "True"}
    stub.watches = said != "nothing"
    if said != "nothing":
        answer = {"that it may not": 403, "no watch's words": 500}[said]
        stub.faults.append(Fault(answer, fits=lambda method, path: path.endswith(ROUTES)))
    stub.asked.clear()
    meanwhile(lambda: accept(stub))
    assert world.provider.route(ENV, {group.id: 100}) is not None
    found = asked(stub, ROUTES)
    assert found.count("shop-prod") >= 2
    assert found.count("all") == 1 or said != "that it may not", "what is not allowed is tried once"


def test_who_launches_is_told_when_all_of_a_group_answer(world: World, stub: ClusterStub) -> None:
    stub.pods_are_ready = False
    group = world.create(world.release())
    assert world.provider.observe(ENV, [group]).groups[0].ready == 0

    def get_well() -> None:
        stub.pods_are_ready = True
        stub.put(DEPLOYMENTS, "shop", stub.one(DEPLOYMENTS, group.id))

    meanwhile(get_well)
    assert world.provider.await_change(ENV, [group], LONG_S)
    assert world.provider.observe(ENV, [group]).groups[0].ready == 2
    assert not world.provider.await_change(ENV, [group], 0.5), "nothing has changed since that look"


def test_who_ends_groups_is_told_when_one_is_gone(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release)
    world.provider.destroy(group, release)
    ended = dataclasses.replace(group, ending=Ending(reason="instar", at=world.BEGAN, why="it is no longer needed"))
    assert world.provider.observe(ENV, [ended]).groups[0].state == "ending"
    meanwhile(stub.end_pods)
    assert world.provider.await_change(ENV, [ended], LONG_S)
    assert world.provider.observe(ENV, [ended]).groups[0].state == "absent"


def test_who_may_not_watch_is_told_so_once_and_asks_no_more(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    world.provider.observe(ENV, [group])
    stub.faults.append(Fault(403, times=5, fits=lambda method, path: path.endswith(DEPLOYMENTS)))
    stub.asked.clear()
    assert not any(world.provider.await_change(ENV, [group], LONG_S) for _ in range(3))
    assert asked(stub, DEPLOYMENTS) == ["all"]


def test_nobody_is_told_of_what_was_never_seen(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    stub.asked.clear()
    assert not world.provider.await_change(ENV, [group], LONG_S)
    assert asked(stub, DEPLOYMENTS) == []


@pytest.mark.parametrize(
    "after",
    [
        b"{}",
        b"[]",
        b"no JSON",
        b'{"type": "ERROR", "object": {"metadata": {"name": "a"}}}',
        b'{"type": "MODIFIED", "object": []}',
        b'{"type": "MODIFIED", "object": {"metadata": {"labels": {"a": 1}}}}',
        b'{"type": ["MODIFIED"], "object": {}}',
    ],
)
def test_a_watch_ends_at_what_is_no_event(after: bytes) -> None:
    one = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a"}}}).encode()
    parts = [one[:7], one[7:] + b"\n" + after, b"\n" + one + b"\n"]
    told = list(reading.events(parts, Deadline.after(LONG_S)))
    assert [(what, found["metadata"]["name"]) for what, found in told] == [("ADDED", "a")]


def test_a_watch_ends_with_its_time_and_keeps_no_line_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    one = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a"}}}).encode() + b"\n"
    assert len(list(reading.events([one, one, one], Deadline.after(0)))) == 1
    monkeypatch.setattr(reading, "_MOST_OF_EVENT", 100)
    assert list(reading.events([b" " * 101, b"\n" + one], Deadline.after(LONG_S))) == []
