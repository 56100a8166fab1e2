"""What an environment uses, as a user sees it: once as JSON or a page, and live on a terminal."""

from __future__ import annotations

import signal

import pytest
from project import Project, answers
from typist import at_terminal

pytestmark = pytest.mark.root


def test_figures_are_shown_once_and_live_until_they_are_interrupted(project: Project) -> None:
    missing = project.try_instar("top", "hello/nosuch")
    assert (missing.status, "there is no such environment" in missing.err) == (1, True)
    project.instar("deploy", "dev")
    assert answers(project)
    told = project.json("top", "dev")
    assert (told["environment"], told["service"], told["active"], told["unknown"]) == ("dev", "hello", 1, [])
    (release,) = told["releases"]
    (instance,) = release["roles"][0]["instances"]
    figures = instance["figures"]
    assert instance["state"] == "running" and 0 < figures["memory_bytes"] < figures["limit_bytes"]
    assert figures["processes"] >= 2 and figures["sent_bytes_per_s"] is not None
    assert 0 <= figures["processors"] <= 4 and figures["failed_per_s"] == 0
    page = project.instar("top", "dev").out
    assert "\x1b" not in page and instance["id"] in page and page.count("CPU") == 1
    with at_terminal(project, "top", "dev", "--every", "0.5") as typist:
        for _ in range(3):
            typist.until(instance["id"])
        typist.process.send_signal(signal.SIGINT)
        assert typist.end() == 130
    assert project.instance_ids() == {instance["id"]}
