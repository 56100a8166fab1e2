"""The verbs themselves, on the simulated provider: what they answer, write down and leave, without root or runc."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.definition import Loaded, load
from instar.errors import Cancelled, HostError, InstarError, LedgerError, NotFound, Refused, RouterError, UsageError
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.origin import Origin
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import RolloutAborted
from instar.operations.agent import Agent
from instar.operations.converge import converge
from instar.operations.deploy import begin, deploy
from instar.operations.destroy import destroy
from instar.operations.drift import drift
from instar.operations.environments import find_environment
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.maintenance import set_maintenance
from instar.operations.plan import plan, plan_promotion
from instar.operations.promote import promote
from instar.operations.rollback import rollback
from instar.operations.rollout import abort, pause, resume
from instar.operations.status import status
from instar.operations.taint import taint
from instar.views.events import sentence
from instar.views.findings import drift_json, drift_page
from instar.views.outcomes import maintenance_json, outcome_json, outcome_lines
from instar.views.page import Table
from instar.views.plans import plan_page
from instar.views.status import status_json, status_page
from simulated import Behaviour, Simulation
from simulated.effects import FaultyLedger
from simulated.listener import Heard
from simulated.values import configuration
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
PRODUCTION = EnvironmentId(service="web", name="production")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service:
  command: [serve]
  port: 8080
  health: {path: /healthz}
environments:
  dev:
    listen: 127.0.0.1:8080
    instances: 2
    config: {GREETING: hello}
  production:
    listen: 127.0.0.1:8090
    promote_from: dev
  careful:
    listen: 127.0.0.1:8100
    rollout: {strategy: canary, steps: [20, {weight: 50, pause: manual}]}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def deployed(workspace: SimulatedWorkspace, loaded: Loaded, word: str, name: str = "dev", **options: Any) -> Any:
    return deploy(workspace, loaded, name, image=workspace.bake(word).digest, **options)


def serving(workspace: SimulatedWorkspace, environment: EnvironmentId) -> set[str]:
    return set(workspace.simulation.router.serving(environment))


def test_a_deploy_answers_with_what_became_of_it_and_the_traffic_is_there(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    first = deployed(workspace, loaded, "one")
    assert (first.outcome, first.release, first.previous, first.active) == ("done", 1, None, 1)
    second = deployed(workspace, loaded, "two")
    assert (second.outcome, second.release, second.previous, second.failed) == ("done", 2, 1, 0)
    assert serving(workspace, DEV) == {"web-dev-2-1", "web-dev-2-2"}
    assert (
        outcome_json(second)["previous"] == 1 and "back with: instar rollback dev" in next(outcome_lines(second)).detail
    )
    again = deployed(workspace, loaded, "two")
    assert again.outcome == "unchanged" and len(workspace.ledger.releases(DEV)) == 2
    workspace.ledger.verify()


def test_a_bad_release_is_undone_with_the_reason_and_the_last_lines(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deployed(workspace, loaded, "one")
    workspace.simulation.runtime.behave(2, Behaviour(answers=500, says=("Traceback", "no module named redis")))
    failed = deployed(workspace, loaded, "two")
    assert (failed.outcome, failed.active, failed.touched) == ("failed", 1, False)
    assert "GET /healthz answered 500" in failed.reason
    assert [line.split(" ", 2)[-1] for line in failed.last_lines] == ["Traceback", "no module named redis"]
    assert serving(workspace, DEV) == {"web-dev-1-1", "web-dev-1-2"}


@pytest.mark.parametrize("room", range(1, 6))
def test_a_ledger_that_fails_in_a_rollout_says_what_goes_on_with_it(tmp_path: Path, loaded: Loaded, room: int) -> None:
    simulation = Simulation()
    ledger = FaultyLedger(tmp_path / "home/ledger/instar.db", actor="ann", clock=simulation.clock.now)
    workspace = SimulatedWorkspace(tmp_path / "home", simulation, ledger=ledger)
    deployed(workspace, loaded, "one")
    image = workspace.bake("two").digest
    ledger.session.room = room
    with pytest.raises(LedgerError) as caught:
        deploy(workspace, loaded, "dev", image=image)
    ledger.session.room = None
    assert caught.value.message.endswith("the rollout to release 2 of 'web/dev' is half done")
    told = caught.value.hint or ""
    assert "then the same command goes on with it" in told and "instar rollout abort web/dev" in told
    assert deploy(workspace, loaded, "dev", image=image).outcome == "done" and len(ledger.releases(DEV)) == 2
    ledger.session.room = min(room, 2)
    with pytest.raises(LedgerError, match="the destruction of 'web/dev' is half done"):
        destroy(workspace, ledger.get_environment(DEV), volumes=False)
    ledger.session.room = None
    destroy(workspace, ledger.get_environment(DEV), volumes=False)
    assert ledger.find_environment(DEV) is None
    ledger.close()


def test_a_rollback_goes_to_what_served_last_and_starts_nothing(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    with pytest.raises(NotFound):
        rollback(workspace, workspace.ledger.get_environment(DEV))
    deployed(workspace, loaded, "one")
    with pytest.raises(Refused, match="oldest that ran well"):
        rollback(workspace, workspace.ledger.get_environment(DEV))
    deployed(workspace, loaded, "two")
    made = len(workspace.ledger.instance_names(DEV))
    back = rollback(workspace, workspace.ledger.get_environment(DEV))
    assert (back.outcome, back.release, back.previous) == ("done", 1, 2)
    assert serving(workspace, DEV) == {"web-dev-1-1", "web-dev-1-2"}
    assert len(workspace.ledger.instance_names(DEV)) == made
    forward = rollback(workspace, workspace.ledger.get_environment(DEV), to=2)
    assert (forward.release, forward.active) == (2, 2)


def test_releases_of_http_and_of_http_2_do_not_run_beside_each_other(
    workspace: SimulatedWorkspace, loaded: Loaded, tmp_path: Path
) -> None:
    deployed(workspace, loaded, "one")
    other = DEFINITION.replace("health: {path: /healthz}", "protocol: h2")
    (tmp_path / "instar.yaml").write_text(other)
    with pytest.raises(Refused, match="release 1, which runs, speaks http, and this one speaks h2"):
        deployed(workspace, load(tmp_path / "instar.yaml"), "two")
    assert len(workspace.ledger.releases(DEV)) == 1
    destroy(workspace, workspace.ledger.get_environment(DEV), volumes=False)
    assert deployed(workspace, load(tmp_path / "instar.yaml"), "two").outcome == "done"


def test_maintenance_is_recorded_shown_and_said_by_who_deploys(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    state = workspace.ledger.get_environment(DEV)
    assert status_json(status(workspace, state))["maintenance"] is False
    change = set_maintenance(workspace, state, on=True, page="<p>soon")
    assert maintenance_json(change) == {"service": "web", "environment": "dev", "maintenance": True, "changed": True}
    state = workspace.ledger.get_environment(DEV)
    assert not set_maintenance(workspace, state, on=True).changed
    assert workspace.simulation.router.pages == {DEV: "<p>soon"}
    assert workspace.simulation.router.request(DEV) is None
    told = [event for event in workspace.ledger.history(DEV) if event.kind == "maintenance"]
    assert [(event.actor, event.detail) for event in told] == [("ann", {"on": True, "page": Digest.of(b"<p>soon")})]
    assert sentence(told[0]) == "web/dev: ann turned maintenance on"
    shown = status(workspace, state)
    assert status_json(shown)["maintenance"] is True
    assert "in maintenance" in "".join(map(str, status_page(shown, workspace.ledger.now())))
    said: list[Progress] = []
    workspace.report = said.append
    assert deployed(workspace, loaded, "two").outcome == "done"
    assert rollback(workspace, workspace.ledger.get_environment(DEV)).outcome == "done"
    warned = [one.text for one in said if one.kind == "warning"]
    assert warned == ["web/dev is in maintenance; end it with: instar maintenance web/dev off"] * 2
    assert set_maintenance(workspace, workspace.ledger.get_environment(DEV), on=False).changed
    assert workspace.simulation.router.pages == {DEV: "<p>soon"}, "the page of before"
    assert workspace.simulation.router.request(DEV) is not None
    workspace.ledger.verify()


@pytest.mark.parametrize("error", [RouterError("it refuses"), HostError("no space left")])
def test_maintenance_that_could_not_be_set_is_taken_back(
    workspace: SimulatedWorkspace, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, error: InstarError
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise error

    def set_it(*, on: bool) -> None:
        set_maintenance(workspace, workspace.ledger.get_environment(DEV), on=on, page=None)

    deployed(workspace, loaded, "one")
    with monkeypatch.context() as broken:
        broken.setattr(workspace.simulation.router, "set_maintenance", fails)
        with pytest.raises(type(error)):
            set_it(on=True)
        with pytest.raises(type(error)):
            set_it(on=False)
    told = [event.detail["on"] for event in workspace.ledger.history(DEV) if event.kind == "maintenance"]
    assert told == [True, False], "what was not said is not taken back"
    assert not workspace.ledger.get_environment(DEV).maintenance.on
    set_it(on=True)
    assert workspace.ledger.get_environment(DEV).maintenance.on


def test_there_is_no_maintenance_without_requests_of_http(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    worker = f"{DEFINITION.partition('environments:')[0]}environments: {{dev: {{}}}}\n".replace("  port: 8080\n", "")
    for word, text, why in (
        ("tcp", DEFINITION.replace("health: {path: /healthz}", "protocol: tcp"), "speaks tcp, and a page is for http"),
        ("worker", worker.replace("health: {path: /healthz}", "health: {command: [check]}"), "has no port"),
    ):
        (tmp_path / "instar.yaml").write_text(text)
        assert deployed(workspace, load(tmp_path / "instar.yaml"), word).outcome == "done"  # also without its port
        with pytest.raises(Refused, match=why):
            set_maintenance(workspace, workspace.ledger.get_environment(DEV), on=True)
    assert "maintenance" not in {event.kind for event in workspace.ledger.history(DEV)}


def test_a_promotion_takes_the_very_image_and_the_target_s_own_configuration(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    with pytest.raises(Refused, match="takes its releases from 'dev'"):
        deployed(workspace, loaded, "one", "production")
    first = deployed(workspace, loaded, "one")
    planned = plan_promotion(workspace, loaded, "dev", "production")
    assert planned.release and planned.image == first.image and planned.active is None
    page = [line for table in plan_page(planned) if isinstance(table, Table) for line in table.lines()]
    assert "  instances              1" in page and not any("→" in line for line in page), page
    promoted = promote(workspace, loaded, "dev", "production")
    assert (promoted.outcome, promoted.image) == ("done", first.image)
    release = workspace.ledger.get_release(PRODUCTION, 1)
    assert release.configuration.config == {} and serving(workspace, PRODUCTION) == {"web-production-1-1"}
    assert not plan_promotion(workspace, loaded, "dev", "production").changes


def test_a_plan_says_what_would_change_and_changes_nothing(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    one, two = workspace.bake("one").digest, workspace.bake("two").digest
    deploy(workspace, loaded, "dev", image=one)
    events = workspace.ledger.history(DEV)
    assert not plan(workspace, loaded, "dev", image=one).changes
    planned = plan(workspace, loaded, "dev", image=two)
    assert planned.release and [change.what for change in planned.changes] == ["image"]
    assert workspace.ledger.history(DEV) == events


def test_a_plan_says_what_is_put_right_and_what_changes_of_the_same_name(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    one = deployed(workspace, loaded, "one").image
    workspace.simulation.runtime.kill("web-dev-1-1")
    file = Path(loaded.file)
    file.write_text(file.read_text().replace("instances: 2", "instances: 3", 1))
    found = [(each.kind, each.what, each.after) for each in plan(workspace, load(file), "dev", image=one).changes]
    assert found == [("repair", "instances", "replaced"), ("settings", "instances", "3")]


def test_status_tells_of_releases_instances_and_a_dead_one(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    deployed(workspace, loaded, "two")
    workspace.simulation.runtime.kill("web-dev-2-1", out_of_memory=True)
    found = status(workspace, workspace.ledger.get_environment(DEV))
    assert found.active == 2 and [(one.number, one.state) for one in found.releases] == [(2, "active"), (1, "hot")]
    assert [one.healthy for one in found.releases[0].instances] == [False, True]
    assert found.agent is None and found.router


def test_destroy_leaves_nothing_but_what_happened(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    destroy(workspace, workspace.ledger.get_environment(DEV), volumes=False)
    assert workspace.ledger.find_environment(DEV) is None and workspace.simulation.runtime.traces() == ()
    assert not workspace.simulation.router.observe(DEV).running
    assert workspace.ledger.history(DEV)[-1].kind == "removed"


def test_a_canary_waits_for_somebody_and_hears_pause_resume_and_abort(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    careful = EnvironmentId(service="web", name="careful")
    deployed(workspace, loaded, "one", "careful")
    said: list[str] = []

    def say() -> None:
        state = workspace.ledger.get_environment(careful)
        if state.rollout is None:
            return
        stage = state.rollout.stage
        if stage.step == 1 and not said:
            said.append("pause")
            assert pause(workspace, state, why="a look").rollout.stage.paused
        elif stage.paused:
            with pytest.raises(Refused, match="is paused already"):
                pause(workspace, state)
            said.append("resume")
            assert resume(workspace, state).outcome is None, "this very process carries it on"
        elif stage.step == 2:
            shown = status(workspace, state).rollout
            assert shown is not None and (shown.percent, shown.paused) == (50, True)
            workspace.ledger.change_stage(RolloutAborted(rollout=state.rollout.id, reason="a typo"))

    workspace.meanwhile = say
    aborted = deployed(workspace, loaded, "two", "careful")
    assert (aborted.outcome, aborted.reason, aborted.active) == ("failed", "aborted: a typo", 1)
    assert said == ["pause", "resume"]
    with pytest.raises(Refused, match="no rollout is under way"):
        abort(workspace, workspace.ledger.get_environment(careful))
    with pytest.raises(Refused, match="no rollout is under way"):
        resume(workspace, workspace.ledger.get_environment(careful))


def test_a_release_is_made_of_values_without_any_folder(workspace: SimulatedWorkspace) -> None:
    environment, image = EnvironmentId(service="api", name="live"), workspace.bake("one")
    settings = Settings(listen=("127.0.0.1:8080",), instances=1)
    with hold_environment(workspace, environment), keep_from_gc(workspace):
        made, origin = configuration({"A": "b"}), Origin(by="ann", machine="web1")
        begun = begin(workspace, environment, settings, image, made, "deploy", project=None, origin=origin)
        outcome = converge(workspace, begun, time.monotonic())
    assert (outcome.outcome, outcome.image) == ("done", image.digest)
    assert serving(workspace, environment) == {"api-live-1-1"}


def cancelled_after(workspace: SimulatedWorkspace, seen: Callable[[], bool]) -> None:
    def look() -> None:
        if seen():
            workspace.cancellation.request()

    workspace.meanwhile = look


def test_a_cancelled_rollout_is_undone_and_what_served_serves_on(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    workspace.simulation.runtime.behave(2, Behaviour(healthy_after_probes=None))
    cancelled_after(workspace, lambda: "web-dev-2-1" in workspace.simulation.runtime.traces())
    with pytest.raises(Cancelled):
        deployed(workspace, loaded, "two")
    assert serving(workspace, DEV) == {"web-dev-1-1", "web-dev-1-2"}
    state = workspace.ledger.get_environment(DEV)
    assert (state.active, state.rollout) == (1, None)
    assert set(workspace.simulation.runtime.traces()) == {"web-dev-1-1", "web-dev-1-2"}, "the candidate is gone"
    assert workspace.ledger.last_rollout(DEV).detail["reason"] == "it was interrupted"  # type: ignore[union-attr]


def test_a_verb_that_was_cancelled_before_it_began_writes_nothing(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deployed(workspace, loaded, "one")
    workspace.cancellation.request()
    with pytest.raises(Cancelled):
        deployed(workspace, loaded, "two")
    state = workspace.ledger.get_environment(DEV)
    assert (state.active, state.rollout) == (1, None) and serving(workspace, DEV) == {"web-dev-1-1", "web-dev-1-2"}


def test_an_undeclared_environment_is_named_with_those_there_are(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    with pytest.raises(UsageError, match="dev, production, careful"):
        deployed(workspace, loaded, "one", "nowhere")


def test_drift_of_what_the_provider_finds(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    report = drift(workspace, workspace.ledger.get_environment(DEV))
    assert report.checked.instances == ("web-dev-1-1", "web-dev-1-2") and report.releases["web-dev-1-1"] == 1


def test_the_agent_replaces_what_ended_and_what_was_tainted(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    heard = Heard()
    agent = Agent(workspace, heard)
    workspace.simulation.runtime.kill("web-dev-1-1")
    taint(workspace, workspace.ledger.get_environment(DEV), "web-dev-1-2", why="odd")
    for _ in range(12):
        assert agent.once(), heard.errors
        workspace.simulation.clock.sleep(5)
    assert serving(workspace, DEV) == {"web-dev-1-3", "web-dev-1-4"}
    assert set(workspace.simulation.runtime.traces()) == {"web-dev-1-3", "web-dev-1-4"}


def test_the_agent_carries_on_a_rollout_that_was_left_to_it(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    with pytest.raises(Refused, match="none runs here"):
        deployed(workspace, loaded, "two", detach=True)
    image = workspace.store.image(workspace.bake("two").digest)
    state = workspace.ledger.get_environment(DEV)
    release = workspace.ledger.add_release(DEV, image.digest, configuration())
    workspace.ledger.begin_rollout(DEV, "deploy", release.number, settings_before=state.settings)
    agent = Agent(workspace, Heard())
    for _ in range(8):
        assert agent.once()
        workspace.simulation.clock.sleep(1)
    assert workspace.ledger.get_environment(DEV).active == release.number


def test_drift_says_how_many_could_be_checked_where_one_is_dead(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    workspace.simulation.runtime.kill("web-dev-1-2")
    report = drift(workspace, workspace.ledger.get_environment(DEV))
    assert report.dead == ("web-dev-1-2",) and drift_json(report)["dead"] == ["web-dev-1-2"]
    assert "1 of 2 checked, 1 dead" in str(next(drift_page(report)))


@pytest.mark.parametrize("word", ["stagin", "web/stagin"])
@pytest.mark.parametrize("service", [None, "web"])
def test_a_missing_environment_is_told_in_one_way_with_the_nearest(
    workspace: SimulatedWorkspace, word: str, service: str | None
) -> None:
    for name in ("dev", "staging"):
        workspace.ledger.save_settings(EnvironmentId(service="web", name=name), Settings())
    with pytest.raises(NotFound, match="there is no such environment") as caught:
        find_environment(workspace.ledger, word, service)
    assert caught.value.hint == "did you mean web/staging? there are: web/staging, web/dev"


def test_a_typo_in_a_deploy_is_told_the_nearest_name_and_a_plan_the_plan_of_a_promotion(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    with pytest.raises(UsageError) as typo:
        deployed(workspace, loaded, "one", "producton")
    assert str(typo.value.hint).startswith("did you mean 'production'?")
    with pytest.raises(Refused) as refused:
        plan(workspace, loaded, "production", image=workspace.bake("one").digest)
    assert str(refused.value.hint).startswith("instar promote dev production --plan, ")


def test_a_missing_secret_is_found_before_anything_is_baked(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(DEFINITION + "    secrets: {TOKEN: {file: token}}\n")
    with pytest.raises(Refused, match="cannot read secret 'TOKEN'") as refused:
        deploy(workspace, load(tmp_path / "instar.yaml"), "careful")  # the definition has no lock, and is not locked
    assert refused.value.hint is not None and f"below the definition's folder, '{tmp_path}'" in refused.value.hint
