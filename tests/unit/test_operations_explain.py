"""Why an environment is as it is, told from what is there by the decision that the agent makes; nothing is done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_values import ago, group, release, serving, snapshot

from instar import locks
from instar.control import words
from instar.control.actions import Action
from instar.control.outlook import waits
from instar.definition import Loaded, load
from instar.model.explanation import Explanation
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import TaskEnded
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.explain import explain
from instar.operations.locks import agent_lock, environment_lock
from instar.operations.status import status
from instar.operations.taint import taint
from instar.views.explanations import explanation_json, explanation_page
from instar.views.page import Table
from instar.views.status import status_page
from simulated.behaviour import Behaviour
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
CAREFUL = EnvironmentId(service="web", name="careful")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev: {listen: 127.0.0.1:8080, instances: 2}
  busy:
    listen: 127.0.0.1:8090
    schedule:
      nightly: {command: [report], cron: "0 3 * * *"}
      poll: {command: [poll], every: 1h, missed: once}
  careful:
    listen: 127.0.0.1:8100
    rollout: {strategy: canary, steps: [20, {weight: 50, pause: manual}], pause: 5m}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def explained(workspace: SimulatedWorkspace, environment: EnvironmentId = DEV) -> Explanation:
    """Explain it, which changes nothing."""
    before = workspace.ledger.history(environment), workspace.simulation.runtime.traces()
    found = explain(workspace, workspace.ledger.get_environment(environment))
    assert (workspace.ledger.history(environment), workspace.simulation.runtime.traces()) == before
    return found


def page(workspace: SimulatedWorkspace, found: Explanation) -> str:
    return "\n".join(
        line if isinstance(line, str) else "\n".join(line.lines())
        for line in explanation_page(found, workspace.ledger.now())
    )


def test_what_is_as_wanted_is_said_to_be(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    found = explained(workspace)
    assert (found.waits, found.next) == ((), ())
    assert found.decisions[-1].kind == "rollout-done"
    assert "it is as wanted: nothing is to be done; no agent runs, so nobody sees to it" in page(workspace, found)
    with an_agent(workspace):
        assert page(workspace, explained(workspace)).endswith("it is as wanted: nothing is to be done")


@contextlib.contextmanager
def an_agent(workspace: SimulatedWorkspace) -> Iterator[None]:
    with locks.hold(agent_lock(workspace), "the agent"):
        yield


def test_who_carries_a_rollout_out_is_said_and_that_nobody_does(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    """As a deploy that was killed leaves it."""
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    configuration = workspace.ledger.get_release(DEV, 1).configuration
    release = workspace.ledger.add_release(DEV, workspace.bake("two").digest, configuration)
    workspace.ledger.begin_rollout(DEV, "deploy", release.number)
    for _ in range(2):  # then its instances are started, and only waited for
        text = page(workspace, explained(workspace))
        assert "nobody carries it out: no process works on it, and no agent runs\ngo on with: instar agent (" in text
        assert "give up with: instar rollout abort web/dev" in text and "as wanted" not in text
        workspace.simulation.runtime.behave(2, Behaviour(healthy_after_probes=None))
        Agent(workspace, Heard()).once()
    with an_agent(workspace):
        assert f"the agent (process {os.getpid()}) carries it out; give up" in page(workspace, explained(workspace))
    with locks.hold(environment_lock(workspace, DEV), "web/dev"):
        found = status_page(status(workspace, workspace.ledger.get_environment(DEV)), workspace.ledger.now())
        assert f"process {os.getpid()} carries it out; give up with: instar rollout abort web/dev" in found


def test_what_is_not_as_wanted_is_never_said_to_be(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    workspace.simulation.runtime.behave(1, Behaviour(healthy_after_probes=None))
    agent = Agent(workspace, Heard())
    for _ in range(60):
        for one in workspace.ledger.instances(DEV):
            workspace.simulation.runtime.kill(one.id)
        agent.once()
        text = page(workspace, explained(workspace))
        assert "as wanted: nothing" not in text, text
        workspace.simulation.clock.sleep(5)
    assert "somebody's word: nothing is replaced until a deploy or rollback of web/dev" in text


def test_what_happened_last_is_what_was_decided_in_words_however_much_was_done_since(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    for _ in range(60):
        workspace.ledger.record(TaskEnded(task="schedule poll 2026-01-01T00:00:00Z", outcome="done"), DEV)
    workspace.ledger.record(TaskEnded(task="schedule poll 2026-01-01T01:00:00Z", outcome="exit status 1"), DEV)
    found = explained(workspace)
    (table,) = (one for one in explanation_page(found, workspace.ledger.now()) if isinstance(one, Table))
    assert [text for _, text in table.rows] == [
        "ann made it",
        "ann began the deploy to release 1",
        "release 1 became the active one",
        "web/dev runs release 1",
        "task 'schedule poll 2026-01-01T01:00:00Z' of release None ended: exit status 1",
    ]


def test_what_the_clock_begins_next_is_named_and_what_is_due_is_next(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deploy(workspace, loaded, "busy", image=workspace.bake("one").digest)
    busy = EnvironmentId(service="web", name="busy")
    found = explained(workspace, busy)
    assert found.scheduled is not None and found.scheduled[0] == "poll" and found.next == ()
    at = found.scheduled[1]
    assert f"by the clock next: 'poll', at {at:%Y-%m-%d %H:%M:%S} UTC" in page(workspace, found)
    assert explanation_json(found)["scheduled"] == {"name": "poll", "at": at}
    workspace.simulation.clock.sleep((at - workspace.ledger.now()).total_seconds() + 5)
    found = explained(workspace, busy)
    assert found.due == (f"begin 'schedule poll {at:%Y-%m-%dT%H:%M:%SZ}' of release 1",) and found.next == ()
    assert explanation_json(found)["next"] == explanation_json(found)["due"] == found.due
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    assert explained(workspace).scheduled is None


def test_only_an_agent_is_said_to_begin_what_the_clock_says(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "busy", image=workspace.bake("one").digest)
    busy = EnvironmentId(service="web", name="busy")
    nobody, agent = "nobody begins it: no agent runs (instar agent)", f"the agent (process {os.getpid()}) begins it"
    found = explained(workspace, busy)
    assert f"UTC (instar schedule web/busy)\n  {nobody}\n" in page(workspace, found)
    assert "it is as wanted" in page(workspace, found)
    assert found.scheduled is not None
    workspace.simulation.clock.sleep((found.scheduled[1] - workspace.ledger.now()).total_seconds() + 5)
    found = explained(workspace, busy)
    due = f"  {found.due[0]}"
    assert f"due by the clock now: {nobody}\n{due}" in page(workspace, found)
    assert "it is as wanted" not in page(workspace, found)
    with locks.hold(environment_lock(workspace, busy), "web/busy"):
        found = explained(workspace, busy)
        assert f"due by the clock now: {nobody}\n{due}" in page(workspace, found)
        assert "next, by process" not in page(workspace, found), "a deploy begins nothing by the clock"
        found = dataclasses.replace(found, working=1, status=dataclasses.replace(found.status, in_charge="the agent"))
        assert f"due by the clock now: the agent begins it, once process 1 has ended\n{due}" in page(workspace, found)
    with an_agent(workspace):
        text = page(workspace, explained(workspace, busy))
        assert f"UTC (instar schedule web/busy)\n  {agent}\n" in text
        assert f"due by the clock now: {agent}\n{due}" in text
    workspace.simulation.runtime.kill("web-busy-1-1")
    found = explained(workspace, busy)
    assert found.next and found.due, "what is done besides is not hidden by it"


def test_what_ended_is_what_is_seen_to_next(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    workspace.simulation.runtime.kill("web-dev-1-1")
    found = explained(workspace)
    assert found.next == (
        "give the traffic to web-dev-1-2",
        "make 1 instance of release 1, since others have ended",
    )
    text = page(workspace, found)
    assert "web-dev-1-1" in text and "no agent runs: instar agent --once" in text and "instar deploy" not in text
    assert explanation_json(found)["next"] == found.next


def test_after_a_reboot_it_says_that_all_is_made_anew(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    workspace.simulation.reboot()
    found = explained(workspace)
    assert "remove web-dev-1-1, web-dev-1-2: it ended" in found.next
    assert "make 2 instances of release 1, since others have ended" in found.next


def test_what_failed_is_said_though_what_runs_is_as_wanted(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    workspace.simulation.runtime.behave(2, Behaviour(healthy_after_probes=None))
    assert deploy(workspace, loaded, "dev", image=workspace.bake("bad").digest).outcome == "failed"
    found = explained(workspace)
    text = page(workspace, found)
    assert "the last deploy, to release 2, failed at 20" in text and "0 of 2 healthy after 30 s" in text
    assert "release 1 is as wanted: nothing is to be done" in text
    assert explanation_json(found)["failed"]["release"] == 2
    deploy(workspace, loaded, "dev", image=workspace.bake("two").digest)
    assert explained(workspace).failed is None


def test_what_was_tainted_is_replaced_by_a_new_one_first(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    taint(workspace, workspace.ledger.get_environment(DEV), "web-dev-1-2", why="odd")
    found = explained(workspace)
    assert found.next == ("make 1 instance of release 1, since others are tainted",)
    assert "tainted" in page(workspace, found)


def test_a_rollout_says_how_long_a_step_lasts_and_whose_word_it_waits_for(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deploy(workspace, loaded, "careful", image=workspace.bake("one").digest)
    image = workspace.store.image(workspace.bake("two").digest)
    state = workspace.ledger.get_environment(CAREFUL)
    release = workspace.ledger.add_release(CAREFUL, image.digest, state_configuration(workspace))
    workspace.ledger.begin_rollout(CAREFUL, "deploy", release.number, settings_before=state.settings)
    assert explained(workspace, CAREFUL).next == ("make 1 instance of release 2",)
    agent, seen = Agent(workspace, Heard()), list[str]()
    for _ in range(40):
        assert agent.once()
        seen += explained(workspace, CAREFUL).waits
        workspace.simulation.clock.sleep(20)
    assert any(text.startswith("the end of step 1 of 2, at ") for text in seen), seen
    assert "somebody's word: instar rollout resume web/careful, or instar rollout abort web/careful" in seen


def state_configuration(workspace: SimulatedWorkspace) -> typing.Any:
    (release,) = workspace.ledger.releases(CAREFUL)
    return release.configuration


def test_there_are_words_for_all_that_can_be_done() -> None:
    assert words._WORDS.keys() == set(typing.get_args(Action))


@pytest.mark.parametrize(("hot", "since_s", "is_told"), [(1, 5, False), (0, 5, True), (0, 0, False)])
def test_last_requests_that_nobody_counts_are_awaited_where_their_release_goes_and_since_when_is_known(
    hot: int, since_s: int, is_told: bool
) -> None:
    old = group(1, healthy=True, weight=0, sessions=None)
    releases = [release(1, ran_well=True, last=60), release(2, ran_well=True)]
    made = snapshot(releases, [old, *serving(2, 1)], active=2, hot=hot, quiet_since={old.id: ago(since_s)})
    assert bool(list(waits(made))) == is_told


def test_who_does_not_answer_is_waited_for_and_no_end_of_it_is_promised() -> None:
    silent = group(1, healthy=False, weight=100, up=False, age_s=600)
    made = snapshot([release(1, ran_well=True)], [silent], active=1, failures=())
    assert list(waits(made)) == [f"{silent.id} to get healthy: GET /healthz answered 500"]


def test_nothing_is_said_to_be_next_that_the_agent_does_not_do_yet(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    agent = Agent(workspace, Heard())
    for _ in range(3):
        workspace.simulation.runtime.kill(workspace.ledger.instances(DEV)[-1].id)
        agent.once()
    missing = 2 - len(workspace.ledger.instances(DEV))
    found = explained(workspace)
    assert missing and found.next == ()  # a pause comes first, which grows with each replacement
    (text,) = found.waits
    assert text.startswith("the end of the pause after the last replacement, at ")
    assert page(workspace, found).endswith("nothing is to be done before that")
