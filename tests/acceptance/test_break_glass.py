"""Taint, shell and replay as a user has them: what was opened is written down, recorded and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from project import Project, answers

pytestmark = pytest.mark.root


@pytest.fixture
def two(project: Project) -> Project:
    """Dev with two instances of release 1."""
    project.edit("config: {GREETING: hello}", "instances: 2\n    config: {GREETING: hello}")
    project.instar("deploy", "dev")
    return project


def events(project: Project, kind: str) -> list[Mapping[str, Any]]:
    """Return the details of dev's events of a kind, oldest first."""
    return [event["detail"] for event in project.json("history", "dev") if event["kind"] == kind]


def instances(project: Project) -> dict[str, Mapping[str, Any]]:
    status = project.json("status", "dev")
    return {one["id"]: one for release in status["releases"] for one in release["instances"]}


def test_a_tainted_instance_is_shown_and_replaced_the_new_one_first(two: Project) -> None:
    told = two.json("taint", "dev", "hello-dev-1-1", "--why", "its cache is\nodd")
    assert (told["service"], told["environment"], told["release"]) == ("hello", "dev", 1)
    assert told["instance"] == "hello-dev-1-1" and told["agent"] is None
    assert told["taint"].keys() == {"kind", "why", "due_at", "isolated"}
    assert told["taint"]["why"] == "its cache is odd" and not told["taint"]["isolated"]
    seen = instances(two)
    assert seen["hello-dev-1-1"]["taint"] == told["taint"] and seen["hello-dev-1-2"]["taint"] is None
    shown = two.instar("status", "dev").out
    assert "running, tainted" in shown and "hello-dev-1-1 is tainted (person: its cache is odd)" in shown
    assert "instar agent --once" in shown
    assert "instar agent --once" in two.instar("taint", "dev", "hello-dev-1-1", "--why", "again").out
    two.instar("agent", "--once")
    assert answers(two)
    two.instar("agent", "--once")
    assert two.instance_ids() == {"hello-dev-1-2", "hello-dev-1-3"}
    kinds = [(event["kind"], event["detail"]) for event in two.json("history", "dev")]
    launched = next(i for i, (kind, detail) in enumerate(kinds) if detail.get("replacing") == "tainted")
    gone = next(i for i, (kind, detail) in enumerate(kinds) if kind == "destroyed")
    assert launched < gone
    assert "hello-dev-1-1 (by hand, due " in two.instar("history", "dev").out


def test_what_cannot_be_tainted(two: Project) -> None:
    def refused(*words: str) -> tuple[int, str]:
        result = two.try_instar("taint", *words)
        return result.status, result.err

    status, err = refused("staging", "hello-staging-1-1", "--why", "x")
    assert status == 1 and "cannot find" in err
    status, err = refused("dev", "hello-dev-9-9", "--why", "x")
    assert status == 1 and "never had such an instance" in err and "hello-dev-1-1, hello-dev-1-2" in err
    status, err = refused("dev", "hello-dev-1-1", "--why", "  ")
    assert status == 64 and "without a reason" in err
    status, err = refused("dev", "hello-dev-1-1")
    assert status == 64 and "--why" in err
    two.instar("deploy", "production", "--image", "hello")
    status, err = refused("dev", "hello-production-1-1", "--why", "x")
    assert status == 1 and "it is an instance of 'hello/production'" in err
    two.instar("taint", "dev", "hello-dev-1-1", "--why", "to be gone")
    two.instar("agent", "--once")
    two.instar("agent", "--once")
    status, err = refused("dev", "hello-dev-1-1", "--why", "x")
    assert status == 1 and "it was destroyed" in err
    assert len(events(two, "taint")) == 1
