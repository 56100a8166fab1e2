"""Who had the lease on an environment before writes nothing any more, wherever it was stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.errors import LeaseLost, ProviderUnavailable
from instar.model.lease import HeldLease
from instar.model.release import Instance
from instar.providers.kubernetes.api import Api
from instar.providers.router_plan import RouterPlan

PLAN = RouterPlan.of(ENV, SETTINGS, SERVICE)


class Operators:
    """Two that share a ledger: the older one's lease has number 1, and the newer one's 2."""

    def __init__(self, stub: ClusterStub, folder: Path) -> None:
        self.stub = stub
        self.older, self.newer = (World(stub, folder / name) for name in ("older", "newer"))
        self.older.held = HeldLease(number=1, holder="ada on one")
        self.groups = [self.older.create(self.older.release(number), serial=number) for number in (1, 2)]
        self.older.provider.expose(self.older.release(1), [self.groups[0]], PLAN)
        self.older.provider.expose(self.older.release(2), [self.groups[1]])
        self.older.provider.route(ENV, {self.groups[1].id: 100})

    def take_over(self) -> None:
        self.newer.held = HeldLease(number=2, holder="bob on two")

    @property
    def weights(self) -> dict[str, int]:
        rules = self.stub.one("httproutes", "shop-prod")["spec"]["rules"]
        return {one["name"]: one["weight"] for one in rules[-1]["backendRefs"] if one["weight"]}

    def back(self) -> None:
        self.take_over()
        self.newer.provider.observe(ENV, self.groups)
        self.newer.provider.route(ENV, {self.groups[0].id: 100})


@pytest.fixture
def operators(stub: ClusterStub, tmp_path: Path) -> Operators:
    for name in ("older", "newer"):
        (tmp_path / name).mkdir()
    return Operators(stub, tmp_path)


def stopped_before(monkeypatch: pytest.MonkeyPatch, world: World, call: str, meanwhile: Callable[[], None]) -> None:
    """Let ``meanwhile`` happen once ``world`` has read all that it needs, and is about to ``call`` the API."""
    api = world.provider.cluster.reach(ENV)[0]
    real, happened = getattr(Api, call), []

    def held_up(self: Api, *words: Any, **named: Any) -> Any:
        if self is api and not happened:
            happened.append(1)
            meanwhile()
        return real(self, *words, **named)

    monkeypatch.setattr(Api, call, held_up)


def test_objects_say_under_which_lease_they_were_written(operators: Operators, stub: ClusterStub) -> None:
    operators.back()
    told = stub.one("leases", "shop-prod-lease")["spec"]
    assert (told["leaseTransitions"], told["holderIdentity"]) == (2, "bob on two")
    written = [stub.one("httproutes", "shop-prod"), *(stub.one("configmaps", one.id) for one in operators.groups)]
    assert [one["metadata"]["annotations"]["instar/lease"] for one in written] == ["2", "2", "2"]
    assert stub.one("deployments", operators.groups[0].id)["metadata"]["annotations"]["instar/lease"] == "1"


def test_whoever_takes_over_claims_it_before_a_look(operators: Operators, stub: ClusterStub) -> None:
    operators.take_over()
    operators.newer.provider.observe(ENV, operators.groups)
    with pytest.raises(LeaseLost):
        operators.older.provider.route(ENV, {operators.groups[0].id: 100})
    with pytest.raises(LeaseLost):
        operators.older.create(operators.older.release(3), serial=3)


def test_who_had_it_last_and_only_looks_writes_nothing(operators: Operators, stub: ClusterStub) -> None:
    before = copy.deepcopy(stub.objects)
    operators.older.held = HeldLease(number=2, holder="ada on one")
    operators.older.provider.observe(ENV, operators.groups)
    operators.older.provider.route(ENV, {operators.groups[1].id: 100})
    assert stub.objects == before, "it is so already"


def test_who_has_no_lease_looks_and_claims_nothing(operators: Operators, stub: ClusterStub) -> None:
    before = copy.deepcopy(stub.objects)
    operators.newer.provider.observe(ENV, operators.groups)
    assert stub.objects == before


def test_the_lease_is_claimed_once(operators: Operators, stub: ClusterStub) -> None:
    operators.back()
    stub.asked.clear()
    operators.newer.provider.route(ENV, {operators.groups[1].id: 100})
    assert [path for method, path in stub.asked if "leases" in path] == []
    assert [method for method, _ in stub.asked].count("PATCH") == 1


def test_an_older_one_that_wakes_up_is_refused_each_write(operators: Operators, stub: ClusterStub) -> None:
    operators.back()
    older, (old, new) = operators.older, operators.groups
    pod = stub.one("pods", f"{new.id}-0")
    pod["metadata"]["labels"] = {**pod["metadata"]["labels"], "instar/tainted": new.id}
    before = copy.deepcopy(stub.objects)
    acts: list[Callable[[World], object]] = [
        lambda one: one.provider.route(ENV, {new.id: 100}),
        lambda one: one.provider.withdraw(ENV, [old.id]),
        lambda one: one.provider.preview(ENV, {1: old.id}),
        lambda one: one.provider.destroy(old, older.release(1)),
        lambda one: one.create(older.release(3), serial=3),
        lambda one: one.provider.members.end_all(ENV),
        lambda one: one.provider.volumes.remove_volume(ENV, "data"),
        lambda one: one.provider.close(ENV),
        lambda one: one.provider.forget(ENV, [], volumes=True),
        lambda one: one.provider.observe(ENV, operators.groups),
    ]
    for act in acts:
        fresh = World(stub, older.site.state.root)  # that has claimed nothing yet
        fresh.held = older.held
        with pytest.raises(LeaseLost, match="number 1, and the cluster knows number 2, of bob on two"):
            act(fresh)
        assert stub.objects == before
    for act in acts[:-2]:
        with pytest.raises(LeaseLost, match="number 1, and the cluster knows number 2, of bob on two"):
            act(older)
        assert {name for _, _, name in stub.objects} == {name for _, _, name in before}
        assert operators.weights == {old.id: 100}


def test_one_that_was_stopped_before_its_write_moves_no_route(
    operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = operators.groups
    operators.older.provider.route(ENV, {old.id: 100})
    stopped_before(monkeypatch, operators.older, "apply", operators.back)
    with pytest.raises(LeaseLost):
        operators.older.provider.route(ENV, {new.id: 100})
    assert operators.weights == {old.id: 100}


def test_one_that_was_stopped_before_its_write_deletes_nothing(
    operators: Operators, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = operators.groups[0]
    stopped_before(monkeypatch, operators.older, "delete", operators.back)
    with pytest.raises(ProviderUnavailable):  # whoever asks again learns from the ledger, or from the cluster, why
        operators.older.provider.destroy(old, operators.older.release(1))
    with pytest.raises(LeaseLost):
        operators.older.provider.destroy(old, operators.older.release(1))
    assert "deletionTimestamp" not in stub.one("configmaps", old.id)["metadata"]


def test_a_group_that_is_begun_too_late_goes_again(
    operators: Operators, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_before(monkeypatch, operators.older, "create", operators.back)
    with pytest.raises(LeaseLost):
        operators.older.create(operators.older.release(3), serial=3)
    assert [name for name in stub.names("configmaps") if "-3-3" in name] == []
    assert stub.names("deployments") == [one.id for one in operators.groups]


def test_the_lease_goes_with_the_environment(operators: Operators, stub: ClusterStub) -> None:
    operators.older.provider.forget(ENV, [], volumes=False)
    assert stub.names("leases") == []


def test_a_ledger_that_counts_from_less_goes_on_once_the_lease_is_removed(
    operators: Operators, stub: ClusterStub
) -> None:
    operators.back()
    group: Instance = operators.groups[1]
    del stub.objects["leases", "shop", "shop-prod-lease"]
    again = World(stub, operators.older.site.state.root)
    again.held = HeldLease(number=1, holder="ada on one")
    again.provider.route(ENV, {group.id: 100})
    assert operators.weights == {group.id: 100}


def test_where_the_ledger_is_one_machine_s_there_is_no_lease(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path)
    group = world.create(world.release())
    world.provider.expose(world.release(), [group], PLAN)
    assert stub.names("leases") == []
    assert "instar/lease" not in stub.one("configmaps", group.id)["metadata"].get("annotations", {})
