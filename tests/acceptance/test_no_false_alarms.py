"""What is busy and clean has no findings, however often it is checked."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import busy
import load
import pytest
from busy import Checker
from leftovers import remove_state
from project import Project, wait_for

pytestmark = [pytest.mark.root, pytest.mark.thorough]

COUNTS = [12, pytest.param(250, marks=pytest.mark.long)]
Make = Callable[..., Project]


@pytest.fixture(scope="module")
def busy_baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose image all busy services stand on. Only to be copied from."""
    folder = tmp_path_factory.mktemp("busy")
    made = busy.new_busy(folder / "busy", folder / "home", "nginx")
    made.instar("deploy", "dev", timeout_s=600)
    made.destroy_all()
    yield made
    remove_state(made.home)


@pytest.fixture
def make(busy_baked: Project, tmp_path: Path) -> Iterator[Make]:
    """Deploy a busy service in a state directory of its own; in the end nothing of it may be left."""
    made: list[Project] = []

    def deploy(kind: str, **options: str) -> Project:
        project = busy.new_busy(tmp_path / kind, tmp_path / "home", kind, **options)
        shutil.copy(busy_baked.folder / "instar.lock", project.folder)
        busy.copy_baked(busy_baked.home, project.home)
        made.append(project)
        project.instar("deploy", "dev")
        return project

    yield deploy
    for project in made:
        project.destroy_all()
        remove_state(project.home)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", busy.COMMANDS)
def test_a_busy_service_has_no_findings(make: Make, kind: str, count: int) -> None:
    project = make(kind)
    checker = Checker(project, kind)
    with load.running(project.url(path=busy.PATHS[kind]), "--rate", "100", "--connections", "8") as traffic:
        for _ in range(3):
            if kind == "nginx":
                os.kill(busy.served_by(checker), signal.SIGHUP)  # four workers go, four come
            checker.check_often(count // 3 + 1)
        report = traffic.stop()
    assert report["served"] > 5, report


@pytest.mark.parametrize("count", COUNTS)
def test_commands_that_check_its_health_are_its_own(project: Project, count: int) -> None:
    """Each is runc inside the instance for a moment, with all that runc may."""
    project.edit("health: {path: /cgi-bin/health, ", "health: {command: [sh, -c, 'test -d /srv && sleep 0.05'], ")
    project.instar("deploy", "dev")
    checker = Checker(project, "hello")
    with (
        load.running(project.url(), "--rate", "100", "--connections", "4") as traffic,
        busy.probed(project, "hello", threads=2) as said,
    ):
        checker.check_often(count)
        wait_for(lambda: len(said) > 4, "no health check ran")
        report = traffic.stop()
    assert all(said) and report["failed"] == 0, report


def test_a_check_that_is_slow_to_begin_is_the_instance_s_own(make: Make) -> None:
    """An instance that has used up its share of the processors lets runc inside wait for it too."""
    project = make("python", health=busy.BY_COMMAND, cpus="0.3")
    checker = Checker(project, "python")
    with busy.probed(project, "python", threads=3) as said:
        wait_for(lambda: len(said) > 0, "no health check ran", timeout_s=60)
        checker.check_often(10)
