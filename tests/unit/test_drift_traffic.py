"""The router held against the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from control_values import ENV, HTTP, WORKER, address_of, group, release, snapshot

from instar.drift.traffic import compare, misled, ports
from instar.model.release import Rollout
from instar.providers.doors import Ports
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RouterState, Target


def found(*groups: Any, active: int = 1, **changes: Any) -> list[tuple[str, str]]:
    """Return (path, observed) of what differs where the router has ``groups``."""
    releases = {number: release(number) for number in (1, 2)}
    state = snapshot(list(releases.values()), list(groups), active=active).environment
    plan = RouterPlan.of(ENV, state.settings, HTTP)
    routed = tuple(changes.pop("routed", [one.routed for one in groups if one.routed]))
    router = RouterState(running=True, plan=plan, targets=routed)
    instances = [one.instance for one in groups]
    state = replace(state, **changes)
    return [(one.path, one.observed) for one in compare(state, instances, targets(*groups), router)]


def targets(*groups: Any) -> list[Target]:
    """Return where the provider says that groups are."""
    return [Target(name=one.id, address=address_of(one.instance), port=8080) for one in groups]


def test_traffic_as_the_ledger_says_is_nothing_to_tell() -> None:
    assert found(group(1, weight=100), group(1, weight=100, serial=2), group(2, weight=0)) == []


def test_weights_of_one_release_are_the_same() -> None:
    observed = found(group(1, weight=100), group(1, weight=7, serial=2))
    assert observed == [("weights", "shop-production-1-1 100, shop-production-1-2 7")]


def test_a_release_that_is_not_active_has_no_traffic_unless_a_rollout_gives_it_some() -> None:
    shared = (group(1, weight=100), group(2, weight=100))
    assert found(*shared) == [("shop-production-2-1", "weight 100")]
    rollout = Rollout(
        id=1, environment=ENV, kind="deploy", source=1, target=2, state="running", actor="ann",
        started_at=shared[0].instance.created_at,
    )  # fmt: skip
    assert found(*shared, rollout=rollout) == []


def test_an_address_and_a_target_that_the_ledger_does_not_know() -> None:
    one = group(1, weight=100)
    assert one.routed is not None
    elsewhere = replace(one.routed, target=Target(name=one.id, address="203.0.113.7", port=8080))
    assert found(one, routed=[elsewhere]) == [(one.id, "203.0.113.7:8080")]
    stranger = replace(one.routed, target=Target(name="evil-1-1", address="203.0.113.7", port=80))
    assert found(one, routed=[one.routed, stranger])[0] == ("evil-1-1", "the router has it")


def test_workers_are_no_targets() -> None:
    assert ports([release(1), release(2, WORKER)]) == {(1, ""): Ports(door="", port=8080)}


def test_an_instance_s_address_never_changes_whoever_works_on_the_environment() -> None:
    one, other = group(1, weight=100), group(1, weight=100, serial=2)
    assert one.routed is not None and other.routed is not None
    stolen = replace(one.routed, target=replace(one.routed.target, address="10.9.9.9"))
    stranger = replace(other.routed, target=Target(name="shop-production-9-1", address="10.9.9.8", port=80))
    router = RouterState(running=True, targets=(stolen, other.routed, stranger))
    told = list(misled(targets(one, other), router))
    assert [(found.path, found.observed) for found in told] == [(one.id, "10.9.9.9:8080")]
    assert told[0].expected == f"{address_of(one.instance)}:8080"
