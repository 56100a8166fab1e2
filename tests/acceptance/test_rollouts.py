"""Rollouts that go in stages, on the real provider: traffic is never lost, and a person can say a word to them."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.error
import urllib.request
from typing import Any

import load
import pytest
from project import Project, end, wait_for

pytestmark = pytest.mark.root

CANARY = "rollout: {strategy: canary, steps: [10, 50], pause: 1s}"
MANUAL = "rollout: {strategy: canary, steps: [{weight: 50, pause: manual}]}"


def in_production(project: Project, *lines: str, config: str = "") -> None:
    """Have production roll out so; each line is a key of its section."""
    text = (project.folder / "instar.yaml").read_text()
    text = re.sub(r"    config: \{GREETING: good day.*", "", text, flags=re.DOTALL)
    more = "".join(f"    {line}\n" for line in (f"config: {{GREETING: good day{config}}}", *lines))
    (project.folder / "instar.yaml").write_text(text.replace("    promote_from: dev\n", "") + more)


def in_service(project: Project, *lines: str) -> None:
    project.edit("  limits: {memory", "".join(f"  {line}\n" for line in lines) + "  limits: {memory")


def rollout_of(project: Project) -> Any:
    return project.json("status", "production")["rollout"]


def weights(project: Project) -> dict[int, int]:
    releases = project.json("status", "production")["releases"]
    return {one["number"]: one["weight"] for one in releases if one["weight"]}


def kinds(project: Project) -> list[str]:
    return [event["kind"] for event in project.json("history", "production")]


def test_a_canary_takes_its_share_and_then_all_under_load(project: Project) -> None:
    in_production(project, f"{CANARY[:-1]}, analysis: {{min_requests: 5}}}}")
    project.instar("deploy", "production")
    project.set_version("2")
    with load.running(project.url("production"), "--rate", "150", "--connections", "6") as traffic:
        deployed = project.json("deploy", "production")
        report = traffic.stop()
    assert deployed["outcome"] == "done" and report["failed"] == 0, report
    steps = [event["detail"] for event in project.json("history", "production") if event["kind"] == "step"]
    assert [step["percent"] for step in steps] == [10, 50]
    verdicts = [event["detail"] for event in project.json("history", "production") if event["kind"] == "verdict"]
    assert all(one["passed"] and one["candidate"]["requests"] >= 5 for one in verdicts) and len(verdicts) == 2
    assert project.json("rollback", "production")["seconds"] < 5, "it ran well before: no steps"


def test_a_canary_that_fails_requests_loses_its_traffic_by_itself(project: Project) -> None:
    in_production(project, "rollout: {strategy: canary, steps: [50], pause: 60s, analysis: {min_requests: 10}}")
    project.instar("deploy", "production")
    bad = project.folder / "app/www/cgi-bin/hello"
    bad.write_text("#!/bin/sh\nprintf 'Status: 500 Oops\\r\\nContent-Length: 0\\r\\n\\r\\n'\n")
    with load.running(project.url("production"), "--rate", "100", "--connections", "4"):
        result = project.try_instar("deploy", "production", "--json")
    assert result.status == 1 and result.json["outcome"] == "failed" and result.json["active"] == 1
    assert "requests failed, the release before: 0.00 %" in result.json["reason"]
    events = project.json("history", "production")
    verdict = next(event for event in events if event["kind"] == "verdict")
    assert not verdict["detail"]["passed"]
    assert weights(project) == {1: 100}
    failed = project.json("status", "production")["releases"][0]
    assert (failed["number"], failed["state"]) == (2, "failed")
    assert "serving as well" in project.instar("logs", "production", "hello-production-2-1").out


@pytest.mark.thorough
def test_a_word_to_a_canary_is_heard_within_a_second(project: Project) -> None:
    in_production(project, MANUAL)
    project.instar("deploy", "production")
    project.set_version("2")
    deploy = project.start("deploy", "production", "--json")
    wait_for(lambda: weights(project) == {1: 50, 2: 50}, "the canary never took its share")
    assert rollout_of(project)["paused"]
    for words, says in (
        (("deploy", "production"), "a deploy to release 2, begun by"),
        (("rollback", "production"), "is under way there"),
    ):
        refused = project.try_instar(*words)
        assert refused.status == 75 and says in refused.err
    began = time.monotonic()
    project.instar("rollout", "abort", "production", "--why", "a typo")
    assert weights(project) == {1: 100}
    assert time.monotonic() - began < 10, "abort, and a status"
    out, _ = deploy.communicate(timeout=10)
    assert deploy.returncode == 1 and "aborted: a typo" in out
    again = project.try_instar("rollout", "abort", "production")
    assert again.status == 1 and "no rollout is under way" in again.err and "instar rollback" in again.err


@pytest.mark.thorough
def test_a_paused_rollout_of_a_dead_command_is_refused_then_resumed(project: Project) -> None:
    in_production(project, MANUAL)
    project.instar("deploy", "production")
    project.set_version("2")
    deploy = project.start("deploy", "production")
    wait_for(lambda: weights(project) == {1: 50, 2: 50}, "the canary never took its share")
    end(deploy, signal.SIGKILL)
    project.set_version("3")
    refused = project.try_instar("deploy", "production")
    assert refused.status == 1 and "is paused" in refused.err and "instar rollout resume" in refused.err
    assert project.json("rollout", "resume", "production")["outcome"] == "done"
    assert weights(project) == {2: 100}
    nothing = project.try_instar("rollout", "resume", "production")
    assert nothing.status == 1 and "no rollout is under way" in nothing.err


def test_a_pause_holds_any_strategy_before_the_traffic_moves(project: Project) -> None:
    in_production(project)
    in_service(project, "before: [{command: [sleep, '1.5']}]")
    project.instar("deploy", "production")
    project.set_version("2")
    deploy = project.start("deploy", "production", "--json")
    wait_for(lambda: rollout_of(project) is not None, "the rollout never began")
    project.instar("rollout", "pause", "production")
    twice = project.try_instar("rollout", "pause", "production")
    assert twice.status == 1 and "is paused already" in twice.err
    wait_for(lambda: "started" in kinds(project)[-3:] or len(project.instance_ids("production")) == 4, "no candidates")
    assert weights(project) == {1: 100} and deploy.poll() is None
    project.instar("rollout", "resume", "production")
    out, err = deploy.communicate(timeout=20)
    assert deploy.returncode == 0, out + err


def test_rolling_never_runs_more_than_a_batch_beside_what_is_wanted(project: Project) -> None:
    in_production(project, "rollout: {strategy: rolling, batch: 1}")
    project.edit("instances: 2", "instances: 3")
    project.instar("deploy", "production")
    project.set_version("2")
    since = len(kinds(project))
    with load.running(project.url("production"), "--rate", "100", "--connections", "4") as traffic:
        project.json("deploy", "production")
        rolled = kinds(project)[since:]
        back = project.json("rollback", "production")
        report = traffic.stop()
    assert back["outcome"] == "done" and report["failed"] == 0, report
    rolled = rolled[: rolled.index("rollout-done")]  # what is made hot for the way back comes after it, and doesn't run
    running = [3 + rolled[:at].count("launch") - rolled[:at].count("destroyed") for at in range(1, len(rolled) + 1)]
    assert max(running) == 4 and min(running) == 3, (rolled, "a batch of one beside the three")


def test_tasks_run_once_and_a_failing_one_keeps_the_traffic_where_it_is(project: Project) -> None:
    in_production(project)
    in_service(
        project,
        "before: [{command: [sh, -c, 'echo migrating $INSTAR_RELEASE']}]",
        "after: [{command: [sh, -c, 'exit 4']}]",
    )
    first = project.instar("deploy", "production")
    assert "after 1" in first.err and "exit status 4" in first.err, "a warning: the traffic has moved"
    tasks = [event["detail"] for event in project.json("history", "production") if event["kind"] == "task"]
    assert [(one["task"], one["outcome"]) for one in tasks] == [("before 1", "done"), ("after 1", "exit status 4")]
    assert "migrating 1" in tasks[0]["last_lines"][0]
    project.edit("echo migrating $INSTAR_RELEASE", "echo cannot; exit 3")
    failed = project.try_instar("deploy", "production")
    assert failed.status == 1 and "task 'before 1'" in failed.err and "exit status 3" in failed.err
    assert "cannot" in failed.err, "its last lines"
    assert project.get("production") == "good day from version 1\n"
    project.edit("echo cannot; exit 3", "sleep 100")
    project.edit("'sleep 100']}", "'sleep 100'], timeout: 1s}")
    hung = project.try_instar("deploy", "production")
    assert hung.status == 1 and "did not end within 1 s" in hung.err


def test_a_smoke_check_that_fails_keeps_the_candidate_from_traffic(project: Project) -> None:
    in_production(project)
    project.instar("deploy", "production")
    in_service(project, "smoke: [{path: /cgi-bin/hello, contains: version 9}]")
    failed = project.try_instar("deploy", "production")
    assert failed.status == 1 and "smoke check of hello-production-2-" in failed.err
    assert "does not contain 'version 9'" in failed.err
    assert "step" not in kinds(project) and kinds(project).count("shift") == 1


def test_a_candidate_can_be_looked_at_before_it_has_traffic(project: Project) -> None:
    in_production(
        project, "rollout: {strategy: canary, steps: [{weight: 0, pause: manual}, 50], pause: 1s}", "preview: header"
    )
    project.instar("deploy", "production")
    project.set_version("2")
    deploy = project.start("deploy", "production")

    def preview(number: int) -> str:
        request = urllib.request.Request(project.url("production"), headers={"X-Instar-Release": str(number)})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            return str(error.code)

    wait_for(lambda: "version 2" in preview(2), "the candidate cannot be seen", timeout_s=20)
    assert project.get("production") == "good day from version 1\n"
    assert preview(7) == "404"
    wait_for(lambda: bool(rollout_of(project)["paused"]), "it does not wait")
    project.instar("rollout", "resume", "production")
    deploy.communicate(timeout=30)
    assert deploy.returncode == 0
    assert project.get("production") == "good day from version 2\n"
    assert preview(2) == "404", "there is no candidate any more"


def test_a_way_back_that_could_not_read_the_data_is_refused(project: Project) -> None:
    in_production(project)
    in_service(project, "data: {version: 1}")
    project.instar("deploy", "production")
    project.edit("data: {version: 1}", "data: {version: 2, reads: [1, 2]}")
    project.instar("deploy", "production")
    refused = project.try_instar("rollback", "production")
    assert refused.status == 1 and "the data has version 2 since release 2" in refused.err
    assert "release 1 reads 1 only" in refused.err and "--force" in refused.err
    assert weights(project) == {2: 100}
    assert project.json("rollback", "production", "--force")["release"] == 1
    began = [event["detail"] for event in project.json("history", "production") if event["kind"] == "rollout"]
    assert "version 2" in began[-1]["forced"]


@pytest.mark.thorough
def test_a_dead_hot_release_is_made_anew_before_a_rollback_moves_traffic(project: Project) -> None:
    in_production(project)
    project.instar("deploy", "production")
    project.set_version("2")
    project.instar("deploy", "production")
    hot = [one for one in project.json("status", "production")["releases"] if one["state"] == "hot"]
    for instance in hot[0]["instances"]:
        os.kill(project.pid(instance["id"]), signal.SIGKILL)
    with load.running(project.url("production"), "--rate", "100", "--connections", "4") as traffic:
        assert project.json("rollback", "production")["outcome"] == "done"
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert project.get("production") == "good day from version 1\n"
