"""Two projects that have one name: the environment stays the one's that made it, until somebody says otherwise."""

from __future__ import annotations

import json

import pytest
from project import Project

pytestmark = pytest.mark.root


def test_another_project_of_the_name_takes_nothing_over_without_a_word(project: Project) -> None:
    assert project.json("deploy", "dev")["release"] == 1
    lock = project.folder / "instar.lock"
    own = json.loads(lock.read_text())["id"]
    other = "f" * 32
    lock.write_text(lock.read_text().replace(own, other))
    project.set_version("2")
    for words in (
        ("deploy", "dev"),
        ("deploy", "--plan", "dev"),
        ("destroy", "dev", "--yes"),
        ("promote", "dev", "production"),
    ):
        refused = project.try_instar(*words)
        assert refused.status == 1, words
        assert "another project of that name has it" in refused.err
    assert project.get() == "hello from version 1\n"
    assert project.instar("status", "dev").status == 0, "looking is free"
    assert project.json("deploy", "dev", "--adopt-name")["release"] == 2
    (adopted,) = [event for event in project.json("history", "dev") if event["kind"] == "name-adopted"]
    assert adopted["detail"] == {"from": own, "project": other}
    assert project.json("deploy", "dev")["outcome"] == "unchanged"
    assert project.json("rollback", "dev")["release"] == 1
    lock.write_text(lock.read_text().replace(other, own))
    assert project.try_instar("rollback", "dev").status == 1
    assert project.json("rollback", "hello/dev", "--to", "2")["release"] == 2, "by its whole name it is meant"
    project.instar("history", "--verify")
