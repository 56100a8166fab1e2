"""Several roles that requests go to: each decides alone, and none moves on before all would."""

from __future__ import annotations

import dataclasses
from unittest.mock import MagicMock, Mock

from control_values import BEGUN, ENV, HTTP, NOW, WORKER, address_of, ago, begun, made, release_with

from instar.control.actions import Fail, Judge, Preview, Route, Share, Shift, Start, TakeStep, Wait
from instar.control.analysis import Verdict
from instar.control.decide import decide
from instar.control.executor import Executor
from instar.control.report import RolloutReport
from instar.control.snapshot import GroupView, Snapshot, wanted_plan, with_left_doors
from instar.control.steps import awaited
from instar.model.definition import Service, Volume
from instar.model.doors import Door
from instar.model.environment import Analysis, RoleSettings, RolloutRules, RolloutStep, Settings
from instar.model.progress import Progress
from instar.model.release import EnvironmentState, Release, Served, Stage
from instar.providers.base import Observed, Probe
from instar.providers.router_state import RoutedTarget, Target

API = dataclasses.replace(HTTP, port=9000)
SETTINGS = Settings(
    listen=("127.0.0.1:80",),
    doors={"api": Door(listen=("127.0.0.1:90",))},
    roles={"web": RoleSettings(instances=1), "api": RoleSettings(instances=1)},
)
CANARY = dataclasses.replace(
    SETTINGS, rollout=RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=20, pause_ms=1_000),))
)
JUDGED = dataclasses.replace(
    CANARY, rollout=dataclasses.replace(CANARY.rollout, analysis=Analysis(min_requests=10, max_failed_milli=10))
)


def release(number: int, *, api: bool = True) -> Release:
    roles = {"api": API, "worker": WORKER} if api else {"worker": WORKER}
    return release_with(number, "web", roles)


def group(
    number: int, role: str, *, weight: int | None = 0, healthy: bool = True, served: int = 0, failed: int = 0
) -> GroupView:
    name = f"shop-production-{number}-{role}"
    instance = made(name, number, number * 10 + len(role), role)
    routed = None
    if weight is not None:
        target = Target(name=name, address=address_of(instance), port=80, door="" if role == "web" else role)
        answered = Served(requests=served, failed=failed)
        routed = RoutedTarget(target=target, weight=weight, sessions=0, up=healthy, served=answered)
    probe = Probe(healthy=healthy, cause="" if healthy else "GET / answered 500")
    return GroupView(instance=instance, observed=Observed(id=name, state="running"), probe=probe, routed=routed)


def snapshot(
    groups: list[GroupView],
    settings: Settings = SETTINGS,
    *,
    active: int = 1,
    stage: Stage = BEGUN,
    api: bool = True,
    stays: bool = True,
) -> Snapshot:
    workers = [group(number, "worker", weight=None) for number in (1, 2)]
    rollout = begun(2, 1, stage=stage)
    state = EnvironmentState(id=ENV, settings=settings, active=active, created_at=NOW, rollout=rollout)
    releases = {1: release(1, api=api), 2: release(2, api=stays)}
    seen = Snapshot(now=NOW, environment=state, releases=releases, groups=(*groups, *workers), router_running=True)
    return dataclasses.replace(seen, router_plan=wanted_plan(seen, releases[2]).fingerprint)


SOURCE = [group(1, "web", weight=100), group(1, "api", weight=100)]
READY = [group(2, "web"), group(2, "api")]


def test_no_role_moves_before_all_are_well() -> None:
    waiting = decide(snapshot([*SOURCE, READY[0], group(2, "api", weight=None, healthy=False)]))
    assert [type(one) for one in waiting] == [Wait]
    (shift,) = decide(snapshot([*SOURCE, *READY]))
    assert shift == Shift(2, tuple(one.id for one in READY))


def test_a_step_is_that_of_all_roles_and_each_has_its_share() -> None:
    (step,) = decide(snapshot([*SOURCE, *READY], CANARY))
    assert isinstance(step, TakeStep)
    assert (step.step, step.percent) == (1, 20)
    assert dict(step.weights) == {SOURCE[0].id: 4, READY[0].id: 1, SOURCE[1].id: 4, READY[1].id: 1}


def test_a_role_that_goes_keeps_its_traffic_until_the_last_shift() -> None:
    going = [*SOURCE, READY[0]]
    (step,) = decide(snapshot(going, CANARY, stays=False))
    assert isinstance(step, TakeStep)
    assert dict(step.weights) == {SOURCE[0].id: 4, READY[0].id: 1, SOURCE[1].id: 100}
    stage = dataclasses.replace(BEGUN, step=1, percent=20, step_at=ago(5))
    (share,) = decide(snapshot(going, CANARY, stage=stage, stays=False))
    assert isinstance(share, Share) and dict(share.weights) == dict(step.weights)
    new = [group(1, "web", weight=4, served=100), SOURCE[1], group(2, "web", weight=1, served=50, failed=25)]
    judging = dataclasses.replace(stage, counted={one.id: Served() for one in new})
    (judged,) = decide(snapshot(new, JUDGED, stage=judging, stays=False))
    assert isinstance(judged, Judge) and judged.role is None and not judged.verdict.cause.startswith("role")
    (shift,) = decide(snapshot(new, CANARY, stage=stage, stays=False))
    assert shift == Shift(2, (READY[0].id,)), "and has none then"
    (again,) = decide(snapshot(going, CANARY, active=2, stage=stage, stays=False))
    assert again == shift, "whoever was killed after that gives it none again"


def test_a_role_whose_weights_are_not_right_is_put_right_and_the_others_keep_theirs() -> None:
    stage = dataclasses.replace(BEGUN, step=1, percent=20, step_at=ago(0.1))
    groups = [group(1, "web", weight=4), group(2, "web", weight=1), SOURCE[1], READY[1]]
    (share,) = decide(snapshot(groups, CANARY, stage=stage))
    assert isinstance(share, Share)
    assert dict(share.weights) == {groups[0].id: 4, groups[1].id: 1, SOURCE[1].id: 4, READY[1].id: 1}


def test_a_step_is_good_when_it_is_for_each_role() -> None:
    stage = dataclasses.replace(BEGUN, step=1, percent=20, step_at=ago(5))

    def judged(served: int, failed: int) -> tuple[object, ...]:
        stable = [group(1, role, weight=4, served=100) for role in ("web", "api")]
        new = [
            group(2, "web", weight=1, served=50),
            group(2, "api", weight=1, served=served, failed=failed),
        ]
        known = {one.id: Served() for one in (*stable, *new)}
        return decide(snapshot([*stable, *new], JUDGED, stage=dataclasses.replace(stage, counted=known)))

    (passed,) = judged(50, 0)
    assert isinstance(passed, Judge) and passed.verdict.passed
    (failed,) = judged(50, 25)
    assert isinstance(failed, Judge) and failed.verdict.passed is False
    assert failed.verdict.cause.startswith("role 'api': ")
    assert (failed.role, [role for role, _ in failed.others]) == ("api", ["web"]), "and how the other one was"
    assert [type(one) for one in judged(3, 0)] == [Wait], "too few have come to one of them"


def test_who_was_killed_between_the_word_and_the_switch_moves_what_has_not_moved() -> None:
    moved = [group(1, "web"), group(2, "web", weight=100), SOURCE[1], READY[1]]
    (route,) = decide(snapshot(moved, active=2))
    assert isinstance(route, Share)
    assert dict(route.weights) == {moved[1].id: 100, READY[1].id: 100}
    (both,) = decide(snapshot([*SOURCE, *READY], active=2))
    assert isinstance(both, Share | Route)


def test_a_role_that_ends_fails_the_rollout_of_all() -> None:
    fallen = dataclasses.replace(READY[1], observed=Observed(id=READY[1].id, state="stopped", exit_status=3))
    instance = dataclasses.replace(fallen.instance, created_at=ago(5), started_at=ago(5))
    (failed,) = decide(snapshot([*SOURCE, READY[0], dataclasses.replace(fallen, instance=instance)]))
    assert isinstance(failed, Fail) and failed.instances == (READY[1].id,)


def test_what_was_made_by_one_that_was_killed_before_it_wrote_that_down_is_written_down() -> None:
    begun = dataclasses.replace(READY[0].instance, started_at=None, made=False)
    unknown = dataclasses.replace(READY[0], instance=begun)
    assert decide(snapshot([*SOURCE, unknown, READY[1]])) == (Start((unknown.id,)),)
    assert READY[0].was_made, "what is known to run is not begun again"
    assert not any(isinstance(one, Start) for one in decide(snapshot([*SOURCE, *READY])))


def test_a_new_role_has_its_door_to_itself_from_the_first_step_on() -> None:
    (step,) = decide(snapshot([SOURCE[0], *READY], CANARY, api=False))
    assert isinstance(step, TakeStep)
    assert dict(step.weights) == {SOURCE[0].id: 4, READY[0].id: 1, READY[1].id: 100}


def test_a_door_stays_open_until_the_traffic_has_moved_unless_its_port_is_taken() -> None:
    left = dataclasses.replace(SETTINGS, doors={})
    stage = dataclasses.replace(BEGUN, settings_before=SETTINGS)
    assert with_left_doors(snapshot([], left, stage=stage).environment).doors == SETTINGS.doors
    assert with_left_doors(snapshot([], left, stage=stage, active=2).environment).doors == {}
    taken = dataclasses.replace(left, listen=("127.0.0.1:80", "127.0.0.1:90"))
    assert with_left_doors(snapshot([], taken, stage=stage).environment).doors == {}


def test_without_a_door_a_role_is_as_if_it_had_no_port() -> None:
    closed = dataclasses.replace(SETTINGS, doors={})
    (shift,) = decide(snapshot([*SOURCE, READY[0]], closed))[:1]
    assert not isinstance(shift, Shift), "its instances are made first"
    assert [one.key for one in wanted_plan(snapshot([], closed), release(2)).doors] == []


def test_a_verdict_says_whose_figures_it_has() -> None:
    stage = dataclasses.replace(BEGUN, step=1, percent=20, step_at=ago(5))

    def said(failed: int) -> str:
        stable = [group(1, role, weight=4, served=100) for role in ("web", "api")]
        new = [group(2, "web", weight=1, served=50), group(2, "api", weight=1, served=50, failed=failed)]
        known = {one.id: Served() for one in (*stable, *new)}
        (judge,) = decide(snapshot([*stable, *new], JUDGED, stage=dataclasses.replace(stage, counted=known)))
        assert isinstance(judge, Judge) and judge.role == ("api" if failed else "web")
        told: list[Progress] = []
        RolloutReport(report=told.append).judged(judge.verdict, judge.role, judge.others)
        return told[0].text

    assert said(0).startswith("passed · web: failed 0.00 % (before: 0.00 %) ·")
    assert " · api: failed 0.00 % (before: 0.00 %) ·" in said(0)
    assert said(50).startswith("not passed · api: failed 100.00 % (before: 0.00 %) ·")


def test_the_last_words_are_of_the_role_that_failed() -> None:
    provider, ledger = MagicMock(), MagicMock()
    provider.log_lines.side_effect = lambda name, last: [f"said by {name}"]
    executor = Executor(
        ledger=ledger, provider=provider, find_image=Mock(), bring_secrets=Mock(), report=RolloutReport(report=Mock())
    )
    seen = snapshot([*SOURCE, group(2, "web", weight=51), group(2, "api", weight=51)], JUDGED)
    verdict = Verdict(passed=False, candidate=Served(requests=9, failed=9), stable=Served(), cause="role 'api': failed")
    executor.execute(seen, Judge(verdict, "api"))
    words = ledger.end_rollout.call_args.args[2]["last_lines"]
    assert words == {"shop-production-2-api": ["said by shop-production-2-api"]}


def test_the_last_line_of_a_launch_has_all_that_were_healthy_when_the_traffic_moved() -> None:
    told: list[Progress] = []
    report = RolloutReport(report=told.append)
    starting = snapshot([*SOURCE, group(2, "web"), group(2, "api", healthy=False)])
    report.launched(starting, moves=False)
    assert told == [], "who is well by then is not the last word"
    report.launched(snapshot([*SOURCE, *READY]), moves=True)
    assert [one.kind for one in told] == ["done"] and told[0].text.startswith("release 2 · 2 of 2 healthy")


def test_too_few_requests_name_the_role_to_which_they_did_not_come() -> None:
    stage = dataclasses.replace(BEGUN, step=1, percent=20, step_at=ago(2_000))
    stable = [group(1, role, weight=4, served=100) for role in ("web", "api")]
    new = [group(2, "web", weight=1, served=50), group(2, "api", weight=1, served=3)]
    known = {one.id: Served() for one in (*stable, *new)}
    late = snapshot([*stable, *new], JUDGED, stage=dataclasses.replace(stage, counted=known))
    (failed,) = decide(late)
    assert isinstance(failed, Fail)
    assert failed.reason.startswith("its analysis cannot tell: only 3 of 10 requests came to role 'api' of release 2")
    found = awaited(late)
    assert found is not None and (found.requests, found.role) == (3, "api")


def test_the_gap_of_one_role_is_measured_and_named_where_another_serves_meanwhile() -> None:
    told: list[Progress] = []
    report = RolloutReport(report=told.append)
    provider = MagicMock()
    provider.route.return_value = 0.001
    executor = executor_of(provider, report)
    held = dataclasses.replace(API, volumes=(Volume(name="data", path="/data"),))
    made = snapshot([*SOURCE, *READY])
    changed = {number: with_api(one, held) for number, one in made.releases.items()}
    made = dataclasses.replace(made, releases=changed)
    executor.execute(made, Share(((SOURCE[0].id, 100),)))
    executor.execute(made, Shift(2, tuple(one.id for one in READY)))
    assert report.measured["gap_ms"] >= 0
    assert "ms for 'api': its volume is held by one release at a time" in told[-1].text
    assert report.touched


def test_a_role_that_several_releases_may_have_at_a_time_has_no_gap() -> None:
    report = RolloutReport(report=lambda progress: None)
    executor_of(MagicMock(), report).execute(snapshot([*SOURCE, *READY]), Share(((SOURCE[0].id, 100),)))
    assert report.gap_since is None


def executor_of(provider: MagicMock, report: RolloutReport) -> Executor:
    return Executor(ledger=Mock(), provider=provider, find_image=Mock(), bring_secrets=Mock(), report=report)


def with_api(release: Release, service: Service) -> Release:
    roles = {**release.configuration.roles, "api": service}
    return dataclasses.replace(release, configuration=dataclasses.replace(release.configuration, roles=roles))


def test_each_role_of_the_new_release_is_shown_to_who_asks_for_it() -> None:
    settings = dataclasses.replace(SETTINGS, preview="header")
    made = snapshot([*SOURCE, *READY], settings)
    (preview, *_) = decide(dataclasses.replace(made, previewed_beside={}))
    assert preview == Preview(((2, READY[0].id),), ((2, READY[1].id),))
    shown = dataclasses.replace(made, previewed={2: READY[0].id}, previewed_beside={2: (READY[1].id,)})
    assert [type(one) for one in decide(shown)] == [Shift]
    (again, *_) = decide(dataclasses.replace(shown, previewed_beside={}))
    assert again == preview, "the other one came later"
    own = dataclasses.replace(made, previewed={2: READY[0].id}, previewed_beside=None)
    assert [type(one) for one in decide(own)] == [Shift], "the provider sees to it"


def test_nobody_is_shown_at_a_door_where_no_request_can_ask_for_a_release() -> None:
    address = dataclasses.replace(SETTINGS, preview="127.0.0.1:81")
    made = dataclasses.replace(snapshot([*SOURCE, *READY], address), previewed={2: READY[0].id}, previewed_beside={})
    assert [type(one) for one in decide(made)] == [Shift], "an address of its own leads to the first role alone"
    by_bytes = dataclasses.replace(API, protocol="tcp")
    made = snapshot([*SOURCE, *READY], dataclasses.replace(SETTINGS, preview="header"))
    releases = {number: with_api(one, by_bytes) for number, one in made.releases.items()}
    made = dataclasses.replace(made, releases=releases)
    plan = wanted_plan(made, made.releases[2])
    assert [door.protocol for door in plan.doors] == ["tcp"] and not plan.previewed_roles
    router = dataclasses.replace(made, previewed={2: READY[0].id}, previewed_beside={})
    assert not any(isinstance(one, Preview) for one in decide(router)), "no request can ask there"
