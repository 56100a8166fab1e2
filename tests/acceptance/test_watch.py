"""After a rollout, on the real provider: a release that does not stay well, and what is said of those that end."""

from __future__ import annotations

import os
import signal

import load
import pytest
from project import Project, wait_for

pytestmark = pytest.mark.root


def watched(project: Project, *, watch: str = "4s") -> None:
    """Have dev watch its releases, and have one of them there."""
    project.edit(
        "config: {GREETING: hello}", f"instances: 2\n    rollout: {{watch: {watch}}}\n    config: {{GREETING: hello}}"
    )
    project.instar("deploy", "dev")


def pids(project: Project, release: int) -> dict[str, int]:
    created = [event["detail"] for event in project.json("history", "dev") if event["kind"] == "created"]
    names = [one["instance"] for one in created if one["instance"].split("-")[-2] == str(release)]
    return {name: project.pid(name) for name in names}


def active(project: Project) -> int:
    number: int = project.json("status", "dev")["active"]
    return number


def test_a_release_that_does_not_stay_well_is_left_for_the_one_before_without_a_failed_request(
    project: Project,
) -> None:
    watched(project, watch="60s")
    project.set_version("2")
    with load.running(project.url(), "--rate", "50", "--connections", "4", "--closing", "4") as traffic:
        deploy = project.start("deploy", "dev", "--watch", "--json")
        wait_for(lambda: active(project) == 2, "the traffic never moved", timeout_s=30)
        wait_for(lambda: project.json("status", "dev")["rollout"] is None, "it was never done")
        one, _ = pids(project, 2).values()
        os.kill(one, signal.SIGKILL)
        out, err = deploy.communicate(timeout=60)
        report = traffic.stop()
    assert deploy.returncode == 1, err
    assert '"outcome": "failed"' in out and '"active": 1' in out
    assert "did not stay well: an instance of it ended: killed: SIGKILL" in err and "going back to release 1" in err
    assert project.get() and active(project) == 1
    events = project.json("history", "dev")
    (ended,) = [event["detail"] for event in events if event["kind"] == "ended"]
    assert ended["reason"] == "signal" and ended["why"].startswith("killed: SIGKILL")
    (back,) = [event["detail"] for event in events if event["kind"] == "watch-failed"]
    assert back["back_to"] == 1
    rollouts = [event for event in events if event["kind"] == "rollout"]
    assert [one["detail"]["kind"] for one in rollouts] == ["deploy", "deploy", "rollback"]
    assert report["failed"] <= 4, report  # what was in flight with the one that died
    assert f"{ended['instance']}: killed: SIGKILL" in project.instar("logs", "dev", ended["instance"]).err


def test_who_watches_a_release_that_stays_well_is_told_so_and_ends(project: Project) -> None:
    watched(project, watch="2s")
    project.set_version("2")
    done = project.try_instar("deploy", "dev", "--watch", "--json")
    assert done.status == 0 and done.json["outcome"] == "done"
    assert "release 2 is healthy so far; it is watched until" in done.err
    unwatched = project.try_instar("deploy", "production", "--watch", "--break-promotion")
    assert unwatched.status == 64 and "nothing says for how long" in unwatched.err


def test_more_instances_are_nobodys_replacements_and_are_told_so(project: Project) -> None:
    project.instar("deploy", "dev")
    project.edit("config: {GREETING: hello}", "instances: 3\n    config: {GREETING: hello}")
    scaled = project.try_instar("deploy", "dev")
    assert scaled.status == 0 and "2 more instances" in scaled.err and "had ended" not in scaled.err
    launches = [event["detail"] for event in project.json("history", "dev") if event["kind"] == "launch"]
    assert [("replacing" in one, len(one["instances"])) for one in launches] == [(False, 1), (False, 2)]
