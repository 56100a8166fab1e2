"""A secret that is rotated: which release has which value, in real instances, and what a rollback says and does."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project

pytestmark = pytest.mark.root


def values(project: Project) -> set[str]:
    """Return what the instances of the active release have as TOKEN, as a file and as a variable."""
    status = project.json("status", "dev")
    active = next(one for one in status["releases"] if one["number"] == status["active"])
    found = set()
    for one in active["instances"]:
        process = Path(f"/proc/{project.pid(one['id'])}")
        found.add((process / "root/run/secrets/TOKEN").read_text())
    found.add(project.instar("run", "dev", "--", "sh", "-c", "echo $KEY").out.strip())
    return found


def test_a_release_has_its_secrets_and_a_rollback_says_which_values_come_back(project: Project) -> None:
    token = project.folder / "token"
    token.write_text("the first")
    named = "secrets: {TOKEN: {file: token}, KEY: {file: token, variable: true}}"
    project.edit("config: {GREETING: hello}", f"config: {{GREETING: hello}}\n    {named}")
    project.instar("deploy", "dev")
    assert values(project) == {"the first"}

    token.write_text("the second")
    project.set_version("2")
    rotated = project.instar("deploy", "dev")
    assert "other values than before: KEY, TOKEN" in rotated.err
    assert values(project) == {"the second"}
    begun = [one["detail"].get("secrets") for one in project.json("history", "dev") if one["kind"] == "rollout"]
    assert begun == [None, ["KEY", "TOKEN"]]

    back = project.instar("rollback", "dev")
    told = " ".join(back.err.split())
    assert "as release 1 was made with, not as release 2 has it" in told and "--keep-secrets" in told
    assert values(project) == {"the first"} and project.get() == "hello from version 1\n"

    project.instar("rollback", "dev", "--to", "2")
    kept = project.json("rollback", "dev", "--to", "1", "--keep-secrets")
    assert (kept["release"], kept["outcome"]) == (3, "done"), "a release of its own"
    assert values(project) == {"the second"} and project.get() == "hello from version 1\n"
    assert project.json("drift", "dev")["clean"]
    for words in (("history", "dev", "--json"), ("status", "dev", "--json"), ("config", "dev")):
        printed = project.instar(*words).out
        assert "the first" not in printed and "the second" not in printed
