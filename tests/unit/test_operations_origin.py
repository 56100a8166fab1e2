"""The commit that a definition is at: asked of the real git, as whoever has the folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from instar.definition import load
from instar.model.origin import Commit, Origin, Promotion
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.operations.origin import commit_of
from instar.operations.promote import promote
from instar.operations.status import status
from instar.views.events import detail_line
from instar.views.page import Table
from instar.views.status import status_page
from simulated.workspace import SimulatedWorkspace

SOMEBODY = 12_345
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: ["true"], port: 8080}
environments:
  dev: {listen: 127.0.0.1:8080}
  production: {listen: 127.0.0.1:8090, promote_from: dev}
"""


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=Ann", "-c", "user.email=ann@example.invalid", "-c", "safe.directory=*")
    return subprocess.run(
        ["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "web").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "web/instar.yaml").write_text("name: web\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_what_is_committed_is_clean_and_what_is_not_is_told(workspace: SimulatedWorkspace, repository: Path) -> None:
    folder, head = repository / "web", git(repository, "rev-parse", "HEAD")
    assert commit_of(workspace, folder) == Commit(id=head, branch="main", clean=True)
    (repository / "elsewhere").write_text("not baked from here")
    assert commit_of(workspace, folder) == Commit(id=head, branch="main", clean=True)
    (folder / "new").write_text("a file that a bake may copy")
    assert commit_of(workspace, folder) == Commit(id=head, branch="main", clean=False)
    git(repository, "checkout", "-q", "--detach")
    assert commit_of(workspace, folder) == Commit(id=head, branch=None, clean=False)


def test_there_is_no_commit_outside_of_git_or_before_the_first(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert commit_of(workspace, tmp_path / "plain") is None
    git(tmp_path / "plain", "init", "-q")
    assert commit_of(workspace, tmp_path / "plain") is None and not workspace.told


def test_a_repository_that_cannot_be_read_is_told_and_stops_nobody(
    workspace: SimulatedWorkspace, repository: Path
) -> None:
    (repository / ".git/HEAD").write_text("\x1b[31mnothing that git writes\n")
    assert commit_of(workspace, repository / "web") is None
    assert "does not say of which commit it is" in workspace.told[-1].text and workspace.told[-1].text.isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_programs_that_a_repository_names_run_as_its_owner_at_most(
    workspace: SimulatedWorkspace, repository: Path, tmp_path: Path
) -> None:
    for above in (tmp_path, *tmp_path.parents):
        if not above.stat().st_mode & 0o001:
            above.chmod(0o755)
    marks = tmp_path / "marks"
    marks.mkdir(mode=0o777)
    marks.chmod(0o777)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nid -u > {marks}/$1.$$\ngrep -h Cap /proc/self/status >> {marks}/$1.$$\ncat\n")
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=own\n")
    git(repository, "config", "filter.own.clean", f"{program} filter")
    git(repository, "config", "core.fsmonitor", f"{program} fsmonitor")
    (repository / "web/instar.yaml").write_text("name: wob\n")  # as long as before: only its content tells
    for path in (repository, *repository.rglob("*")):
        os.lchown(path, SOMEBODY, SOMEBODY)
    found = commit_of(workspace, repository / "web")
    assert found is not None and not found.clean
    ran = {mark.name.partition(".")[0]: mark.read_text().split() for mark in marks.iterdir()}
    assert ran.keys() == {"filter"}, "git asks it, and the monitor is never asked"
    assert ran["filter"][0] == str(SOMEBODY) and ran["filter"][2::2] == ["0" * 16] * 5


def test_a_release_says_where_it_comes_from_wherever_it_is_promoted_to(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    loaded = load(tmp_path / "instar.yaml")
    dev, production = (EnvironmentId(service="web", name=name) for name in ("dev", "production"))
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest, message="faster\n\nby \x1b[31m half")
    promote(workspace, loaded, "dev", "production")
    ledger = workspace.ledger
    first, second = ledger.get_release(dev, 1), ledger.get_release(production, 1)
    assert first.origin == Origin(by=workspace.actor, machine=workspace.machine, message="faster by ?[31m half")
    assert second.origin is not None and second.origin.promoted == Promotion(environment="dev", release=1)
    assert second.origin.message == first.origin.message
    page = status_page(status(workspace, ledger.get_environment(production)), ledger.now())
    shown = "".join(line for part in page for line in (part.lines() if isinstance(part, Table) else [part]))
    assert f"from dev 1 · {workspace.actor} on {workspace.machine} · faster by" in shown
    made = next(event for event in ledger.history(dev) if event.kind == "release")
    line = detail_line(made.kind, made.detail, width=None)
    assert line.startswith(f"{workspace.actor} on {workspace.machine} · faster by")
    ledger.verify()
