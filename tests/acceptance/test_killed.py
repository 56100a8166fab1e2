"""kill -9 at any moment: no request is lost, and the next command goes on where the ledger says."""

from __future__ import annotations

import signal
import time

import leftovers
import load
import pytest
from project import Project, end

pytestmark = [pytest.mark.root, pytest.mark.thorough]


def test_deploy_and_rollback_killed_again_and_again(project: Project) -> None:
    """Each round's moment is later than the one before, from the first instruction to past the end."""
    project.instar("deploy", "dev")
    with load.running(project.url(), "--rate", "100", "--connections", "4") as traffic:
        for round_number in range(5):
            project.set_version(str(round_number + 2))
            words = ("deploy", "dev") if round_number % 4 else ("rollback", "dev")
            command = project.start(*words)
            time.sleep(0.1 + 0.12 * round_number)  # not awaited: the moment is what varies
            end(command, signal.SIGKILL)
            assert project.json("deploy", "dev")["outcome"] in ("done", "unchanged")
            assert project.get() == f"hello from version {round_number + 2}\n"
        report = traffic.stop()
    assert report["failed"] == 0, report
    project.instar("history", "--verify")
    assert len(project.instance_ids()) == 2, "the active and the hot release's, and no other"


def test_a_bake_killed_again_and_again_gives_the_same_image(project: Project) -> None:
    undisturbed = project.json("bake")["digest"]
    run = "    - {from: app, to: /srv}\n  run:\n    - sleep 0.4; mkdir /made; seq 100000 >/made/numbers\n"
    project.edit("    - {from: app, to: /srv}\n", run)
    for round_number in range(5):
        command = project.start("bake")
        time.sleep(0.1 + 0.15 * round_number)  # not awaited: the moment is what varies
        end(command, signal.SIGKILL if round_number % 2 else signal.SIGINT)
    whole = project.json("bake")
    assert whole["digest"] != undisturbed
    project.instar("gc")
    assert leftovers.remaining(project.traces) == []
    for image in project.json("images", "list"):
        project.instar("images", "show", image["digest"])
    project.instar("export", whole["digest"], str(project.folder / "image.tar"))


def test_the_router_and_instances_outlive_the_tool(project: Project) -> None:
    project.instar("deploy", "dev")
    deploy = project.start("deploy", "dev")
    end(deploy, signal.SIGKILL)
    assert project.get() == "hello from version 1\n"
