"""Every file below the state directory, damaged in every way: each command says so, and what runs goes on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import PIPE, Told, damaged, kind_of, run
from project import Project

from simulated.damages import DAMAGES

pytestmark = [pytest.mark.root, pytest.mark.thorough]

COMMANDS = (
    ("status",),
    ("status", "dev"),
    ("deploy", "--plan", "dev"),
    ("deploy", "dev"),
    ("rollback", "dev", "--to", "1"),
    ("drift", "dev"),
    ("history", "dev"),
    ("history", "--verify"),
    ("logs", "dev", "-n", "5"),
    ("agent", "--once"),
    ("gc", "--dry-run"),
    ("images",),
    ("doctor",),
    ("replay", "dev"),
)
# What is not read as text by Instar: written by others, marked as unchangeable, or a lock
_NOT_READ = ("layers/HEX.erofs", "store/lock", "layers/lock", "run/mounts/lock", "cache/", "store/blobs/", "run/lock/")


@pytest.fixture(scope="module")
def deployed(module_project: Project) -> Project:
    project = module_project
    project.instar("deploy", "dev")
    project.edit("GREETING: hello", "GREETING: good morning")
    project.instar("deploy", "dev")
    project.edit("GREETING: good morning", "GREETING: hello")
    project.instar("rollback", "dev", "--to", "1")
    project.try_instar("shell", "dev", "--why", "to have a recording", "--command", "true")
    return project


def files(project: Project) -> dict[str, Path]:
    """Return one file of each kind that there is below the state directory."""
    found: dict[str, Path] = {}
    mounted = project.home / "run" / "mounts"
    for path in sorted(project.home.rglob("*")):
        inside = mounted in path.parents and path.parent != mounted
        if not inside and path.is_file() and not path.is_symlink():
            found.setdefault(kind_of(path, project.home), path)
    return {kind: path for kind, path in found.items() if not kind.startswith(_NOT_READ)}


def require_said(told: Told, project: Project, case: str) -> None:
    assert "Traceback" not in told.text, f"{case}\n{told.text}"
    assert "an unexpected error" not in told.text, f"{case}\n{told.text}"
    assert told.status in (0, 1, 2, 69), f"{case}: {told.status}\n{told.text}"
    if told.status == 1:
        assert "instar: " in told.text or "error" in told.text, f"{case}\n{told.text}"
    assert not (project.home / "crashes").exists(), case


WAYS: dict[str, bytes | None] = {"pipe": PIPE, **DAMAGES, "lost": None}


def tried(project: Project, combinations: Iterator[tuple[str, tuple[str, ...]]], each: int) -> None:
    """Try so many (damage, command) on each kind of file, in turns, and see that the service answers after each."""
    there = files(project)
    assert len(there) > 20, sorted(there)
    for kind, path in there.items():
        for damage, command in itertools.islice(combinations, each):
            if path.exists():  # what was to go has gone
                with damaged(path, WAYS[damage]):
                    told = run(command, folder=project.folder, home=project.home)
                require_said(told, project, f"{kind} {damage}: instar {' '.join(command)}")
        assert project.get() == "hello from version 1\n", f"after {kind} the service does not answer"


def test_no_command_meets_a_traceback_and_what_runs_goes_on(deployed: Project) -> None:
    """Two (damage, command) of each kind of file, others for each kind."""
    tried(deployed, itertools.cycle(zip(itertools.cycle(WAYS), itertools.cycle(COMMANDS[::-1]))), 2)


def test_nothing_waits_for_the_writer_of_a_pipe_in_a_file_s_place(deployed: Project) -> None:
    tried(deployed, itertools.cycle(zip(itertools.repeat("pipe"), itertools.cycle(COMMANDS))), 1)


@pytest.mark.long
def test_no_command_meets_a_traceback_of_any_file_damaged_in_any_way(deployed: Project) -> None:
    tried(deployed, itertools.cycle(itertools.product(WAYS, COMMANDS)), len(WAYS) * len(COMMANDS))
