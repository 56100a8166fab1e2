"""What every router does, as providers/machine_router.py says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_benches import BENCHES, ENV, OTHER, RouterBench

from instar.errors import RouterError
from instar.model.release import Served
from instar.providers.router_state import Counters, RoutedTarget, RouterState, Target


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RouterBench]:
    with request.param(tmp_path) as made:
        yield made


def serving(bench: RouterBench, *names: str) -> list[Target]:
    """Start the router with a server for each name; the first has the traffic."""
    targets = [bench.server(name) for name in names]
    bench.router.ensure(bench.plan())
    bench.router.attach(ENV, targets)
    bench.router.route(ENV, {names[0]: 100})
    return targets


def routed(bench: RouterBench) -> dict[str, RoutedTarget]:
    return {each.target.name: each for each in bench.router.observe(ENV).targets}


def weights(bench: RouterBench) -> dict[str, int]:
    return {name: each.weight for name, each in routed(bench).items()}


def test_a_place_that_it_has_not_heard_of(bench: RouterBench) -> None:
    target = bench.server("one")
    assert bench.router.observe(ENV) == RouterState(running=False)
    assert bench.router.counters(ENV) == Counters(requests=0, failed=0)
    assert bench.router.detach(ENV, ["one"]) == 0
    bench.router.route(ENV, {})
    assert not bench.router.restore(bench.plan(), [target]) and not bench.router.observe(ENV).running
    bench.router.remove(ENV)
    assert bench.router.clear_orphans(lambda: []) == ()
    for act in (
        lambda: bench.router.attach(ENV, [target]),
        lambda: bench.router.route(ENV, {"one": 1}),
    ):
        with pytest.raises(RouterError):
            act()


def test_ensured_twice_it_runs_once(bench: RouterBench) -> None:
    bench.router.check(bench.plan())
    bench.router.ensure(bench.plan())
    bench.router.ensure(bench.plan())
    bench.another().ensure(bench.plan())
    assert bench.router.observe(ENV) == RouterState(running=True, plan=bench.plan())
    assert bench.another().observe(ENV) == bench.router.observe(ENV)
    bench.router.check(bench.plan())
    assert bench.router.restore(bench.plan(), ()) and bench.router.observe(ENV).running
    assert bench.ask() is None


def test_another_plan_keeps_targets_and_traffic(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    changed = dataclasses.replace(bench.plan(), instances=9, request_timeout_ms=9_000, health_path=None)
    bench.router.ensure(changed)
    assert bench.router.observe(ENV).plan == changed
    assert weights(bench) == {"one": 100, "two": 0}
    assert bench.ask() == "one"


def test_an_attached_target_has_no_traffic(bench: RouterBench) -> None:
    bench.router.ensure(bench.plan())
    target = bench.server("one")
    for router in (bench.router, bench.router, bench.another()):
        router.attach(ENV, [target])
    (found,) = bench.router.observe(ENV).targets
    assert found == RoutedTarget(target=target, weight=0, sessions=0, up=True)
    assert bench.ask() is None


def test_a_target_that_is_not_well_is_not_attached(bench: RouterBench) -> None:
    serving(bench, "one")
    targets = [bench.server("two"), bench.server("ill", well=False)]
    with pytest.raises(RouterError, match="cannot attach 'ill'"):
        bench.router.attach(ENV, targets)
    assert weights(bench) == {"one": 100}
    assert bench.ask() == "one"


def test_a_name_stays_where_it_is(bench: RouterBench) -> None:
    (one,) = serving(bench, "one")
    with pytest.raises(RouterError, match="'one'"):
        bench.router.attach(ENV, [dataclasses.replace(bench.server("two"), name="one")])
    assert routed(bench)["one"].target == one


def test_traffic_goes_where_it_is_routed_and_nowhere_else(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    assert {bench.ask() for _ in range(6)} == {"one"}
    assert bench.router.route(ENV, {"two": 256}) >= 0
    assert {bench.ask() for _ in range(6)} == {"two"}
    assert weights(bench) == {"one": 0, "two": 256}
    bench.router.route(ENV, {"two": 256})
    bench.another().route(ENV, {"one": 1, "two": 1})
    assert {bench.ask() for _ in range(20)} == {"one", "two"}


def test_routed_to_nobody_nobody_answers(bench: RouterBench) -> None:
    serving(bench, "one")
    bench.router.route(ENV, {})
    assert bench.ask() is None
    assert weights(bench) == {"one": 0}
    bench.router.route(ENV, {"one": 5})
    assert bench.ask() == "one"


@pytest.mark.parametrize("asked", [{"one": 100, "unknown": 1}, {"two": 0}, {"two": 257}, {"two": -1}])
def test_traffic_that_cannot_be_routed_stays_where_it_is(bench: RouterBench, asked: dict[str, int]) -> None:
    serving(bench, "one", "two")
    with pytest.raises(RouterError, match="cannot route"):
        bench.router.route(ENV, asked)
    assert weights(bench) == {"one": 100, "two": 0}
    assert bench.ask() == "one"


def test_traffic_is_not_moved_from_the_well_to_the_dead(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    bench.fall("two")
    bench.until(lambda: not routed(bench)["two"].up)
    with pytest.raises(RouterError):
        bench.router.route(ENV, {"two": 100})
    assert bench.ask() == "one"


def test_requests_in_flight_are_counted_and_finish(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    bench.begin()
    bench.router.route(ENV, {"two": 100})
    assert {name: each.sessions for name, each in routed(bench).items()} == {"one": 1, "two": 0}
    assert bench.ask() == "two"
    bench.finish()
    bench.until(lambda: routed(bench)["one"].sessions == 0)
    assert bench.router.detach(ENV, ["one"]) == 0
    assert weights(bench) == {"two": 100}


def test_a_detached_target_is_gone_and_its_requests_are_cut(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    bench.begin()
    bench.begin()
    bench.router.route(ENV, {"two": 100})
    assert bench.router.detach(ENV, ["one"]) == 2
    assert bench.router.detach(ENV, ["one", "never"]) == 0
    assert weights(bench) == {"two": 100}
    assert bench.ask() == "two"


def test_a_detached_name_can_come_back_elsewhere(bench: RouterBench) -> None:
    (one,) = serving(bench, "one")
    bench.router.detach(ENV, ["one"])
    again = bench.server("again")
    moved = Target(name="one", address=again.address, port=again.port)
    assert moved != one
    bench.router.attach(ENV, [moved])
    assert routed(bench)["one"].target == moved


def test_an_address_that_somebody_has_is_refused(bench: RouterBench) -> None:
    with bench.occupy(bench.plan()):
        for act in (bench.router.check, bench.router.ensure):
            with pytest.raises(RouterError, match="cannot listen"):
                act(bench.plan())
        assert not bench.router.observe(ENV).running
    bench.router.ensure(bench.plan())


def test_requests_are_counted(bench: RouterBench) -> None:
    serving(bench, "one")
    for _ in range(5):
        assert bench.ask() == "one"
    bench.until(lambda: bench.router.counters(ENV) == Counters(requests=5, failed=0))
    bench.router.route(ENV, {})
    assert bench.ask() is None
    bench.until(lambda: bench.router.counters(ENV) == Counters(requests=6, failed=1))


def test_each_targets_answers_are_counted_since_it_came(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    bench.behave("one", answers_in_ms=40)
    for _ in range(5):
        assert bench.ask() == "one"
    bench.behave("one", answers_in_ms=0, fails=True)
    assert [bench.ask() for _ in range(3)] == [None] * 3
    bench.until(lambda: routed(bench)["one"].served.requests == 8)
    found = bench.another().observe(ENV).targets[0].served
    assert found.failed == 3
    assert 190 <= found.response_ms < 1_000
    assert routed(bench)["two"].served == Served()


def test_what_comes_into_a_place_that_another_left_is_counted_from_nought(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    for answer in ("one", None):
        bench.behave("one", answers_in_ms=20, fails=answer is None)
        assert bench.ask() == answer
    bench.router.route(ENV, {"two": 1})
    bench.router.detach(ENV, ["one"])
    bench.router.attach(ENV, [bench.server("three")])
    assert routed(bench)["three"].served == Served()
    bench.router.route(ENV, {"three": 1})
    assert bench.ask() == "three"
    bench.until(lambda: routed(bench)["three"].served.requests == 1)
    assert routed(bench)["three"].served.failed == 0
    assert routed(bench)["three"].served.response_ms < 20


def test_traffic_is_shared_by_weight(bench: RouterBench) -> None:
    serving(bench, "one", "two", "three")
    bench.router.route(ENV, {"one": 13, "two": 256})
    answers = [bench.ask() for _ in range(538)]
    assert abs(answers.count("one") - 26) <= 1
    assert answers.count("one") + answers.count("two") == 538


def test_a_removed_router_remembers_nothing(bench: RouterBench) -> None:
    serving(bench, "one")
    bench.router.remove(ENV)
    bench.another().remove(ENV)
    assert bench.router.observe(ENV) == RouterState(running=False)
    bench.router.ensure(bench.plan())
    assert bench.router.observe(ENV).targets == ()


def test_places_do_not_touch_each_other_and_orphans_go(bench: RouterBench) -> None:
    serving(bench, "one")
    bench.router.ensure(bench.plan(OTHER))
    target = bench.server("other")
    bench.router.attach(OTHER, [target])
    bench.router.route(OTHER, {"other": 1})
    assert (bench.ask(), bench.ask(OTHER)) == ("one", "other")
    assert bench.another().clear_orphans(lambda: [ENV]) == (str(OTHER),)
    assert bench.router.clear_orphans(lambda: [ENV]) == ()
    assert not bench.router.observe(OTHER).running
    assert bench.ask() == "one"


def test_who_asks_for_a_previewed_release_gets_that_or_none(bench: RouterBench) -> None:
    serving(bench, "one", "two", "three")
    assert bench.ask(release=3) == "one", "without a preview the header means nothing"
    bench.router.ensure(dataclasses.replace(bench.plan(), preview="header"))
    assert bench.ask(release=3) is None
    bench.router.preview(ENV, {2: "two", 3: "three"})
    before = bench.router.counters(ENV)
    assert [bench.ask(release=number) for number in (1, 2, 3)] == [None, "two", "three"]
    bench.router.preview(ENV, {3: "two"})
    assert [bench.ask(release=number) for number in (2, 3)] == [None, "two"]
    assert bench.router.counters(ENV) == before
    assert routed(bench)["two"].served == Served()
    assert bench.ask() == "one"
    bench.router.detach(ENV, ["two"])
    assert bench.ask(release=3) is None


def test_an_address_of_its_own_leads_to_the_highest_previewed_release(bench: RouterBench) -> None:
    serving(bench, "one", "two", "three")
    bench.router.ensure(dataclasses.replace(bench.plan(), preview=bench.preview_address()))
    assert bench.ask_preview() is None
    bench.router.preview(ENV, {9: "two", 10: "three"})
    assert bench.ask_preview() == "three"
    assert (bench.ask(), bench.ask(release=9)) == ("one", "one"), "the header means nothing"
    assert (routed(bench)["three"].weight, routed(bench)["three"].served) == (0, Served())
    bench.router.detach(ENV, ["three"])
    assert bench.ask_preview() == "two"
    bench.router.ensure(bench.plan())
    assert bench.ask_preview() is None
    assert bench.router.observe(ENV).previewed == {}


def test_a_preview_address_that_somebody_has_is_refused(bench: RouterBench) -> None:
    serving(bench, "one")
    plan = dataclasses.replace(bench.plan(), preview=bench.preview_address())
    with bench.occupy(plan):
        for act in (bench.router.check, bench.router.ensure):
            with pytest.raises(RouterError, match="cannot listen"):
                act(plan)
    assert bench.ask() == "one"
    bench.router.ensure(plan)
    bench.router.check(plan)


def test_a_preview_names_attached_targets_until_they_leave_or_it_ends(bench: RouterBench) -> None:
    serving(bench, "one", "two")
    bench.router.preview(ENV, {2: "two"})
    assert bench.router.observe(ENV).previewed == {}, "nobody asked for previews"
    plan = dataclasses.replace(bench.plan(), preview="header")
    bench.router.ensure(plan)
    for _ in range(2):
        bench.router.preview(ENV, {2: "two", 3: "nobody"})
        assert bench.another().observe(ENV).previewed == {2: "two"}
    assert weights(bench) == {"one": 100, "two": 0}, "a preview is no traffic"
    bench.router.ensure(plan)
    assert bench.router.observe(ENV).previewed == {2: "two"}
    bench.router.detach(ENV, ["two"])
    assert bench.router.observe(ENV).previewed == {}
    bench.router.preview(ENV, {1: "one"})
    bench.router.preview(ENV, {})
    assert bench.router.observe(ENV).previewed == {}
    bench.router.remove(OTHER)
    bench.router.preview(OTHER, {1: "one"})


def test_a_request_that_nobody_can_take_waits_for_who_can(bench: RouterBench) -> None:
    bench.router.ensure(dataclasses.replace(bench.plan(), wait_ms=20_000))
    asked = [bench.ask_in_gap() for _ in range(3)]
    assert bench.router.counters(ENV) == Counters(requests=3, failed=0)
    bench.router.attach(ENV, [bench.server("one")])
    assert bench.router.counters(ENV).failed == 0
    bench.router.route(ENV, {"one": 100})
    assert [answer() for answer in asked] == ["one"] * 3
    bench.until(lambda: routed(bench)["one"].served.requests == 3)
    assert bench.router.counters(ENV) == Counters(requests=3, failed=0)


def test_a_request_waits_no_longer_than_it_may(bench: RouterBench) -> None:
    bench.router.ensure(dataclasses.replace(bench.plan(), wait_ms=1_000))
    assert bench.ask_in_gap()() is None
    assert bench.router.counters(ENV) == Counters(requests=1, failed=1)
