"""The examples redis and counter: a real Redis that is found by its name, while releases of both come and go."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import remove_state
from project import Project, free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "home"
    yield made
    remove_state(made)


@pytest.fixture
def projects(home: Path, tmp_path: Path) -> Iterator[tuple[Project, Project]]:
    made = []
    for name in ("redis", "counter"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
        made.append(Project(folder=tmp_path / name, home=home, ports={"dev": free_port()}))
    redis, counter = made
    counter.edit("127.0.0.1:8085", f"127.0.0.1:{counter.ports['dev']}")
    yield redis, counter
    for project in made:
        for environment in project.json("status"):
            name = f"{environment['service']}/{environment['environment']}"
            project.instar("destroy", name, "--yes", "--volumes", "--take-over")
    redis.destroy_all()


def seen(counter: Project) -> dict[str, int]:
    with urllib.request.urlopen(counter.url(path="/"), timeout=10) as answer:
        found: dict[str, int] = json.loads(answer.read())
        return found


def counted(counter: Project, release: int) -> dict[str, int]:
    """Return what an instance of a release said at its end."""
    lines = counter.instar("logs", "dev", "--release", str(release)).out.splitlines()
    return next(json.loads(line.partition("counted ")[2]) for line in lines if "counted {" in line)


def test_nothing_is_lost_beyond_the_announced_gaps(projects: tuple[Project, Project]) -> None:
    redis, counter = projects
    redis.instar("deploy", "dev", timeout_s=300)
    counter.edit("promote_from: dev", "promote_from: dev\ndefaults: {keep: {hot: 0, releases: 5}}")
    counter.instar("deploy", "dev", timeout_s=300)
    gaps = 0
    for number in range(2):
        before = seen(counter)["acknowledged"]
        redis.edit("  dev: {listen: internal", f"  dev: {{config: {{TRY: '{number}'}}, listen: internal")
        deployed = redis.json("deploy", "dev")
        redis.edit(f"config: {{TRY: '{number}'}}, ", "")
        assert deployed["outcome"] == "done" and deployed["gap_ms"] > 0, "the volume has one Redis at a time"
        gaps += 1
        wait_for(lambda before=before: seen(counter)["acknowledged"] > before + 50, "it does not count any more")
    found = seen(counter)
    assert found["refused"] == 0, "who came in the gap waited in the router"
    assert found["interrupted"] <= gaps, "what was under way when a Redis ended, and nothing else"
    counter.edit("    uses: [redis]                       #", "    config: {TRY: again}\n    uses: [redis]  #")
    assert counter.json("deploy", "dev")["release"] == 2
    wait_for(lambda: seen(counter)["acknowledged"] > 50, "the new one does not find it")
    gone, now = counted(counter, 1), seen(counter)
    done = gone["acknowledged"] + now["acknowledged"]
    unknown = gone["interrupted"] + now["interrupted"] + 2  # and one of each instance that is under way now, or was
    assert done <= seen(counter)["value"] + 1, "nothing that Redis had acknowledged is lost"
    assert now["value"] <= done + unknown, "and nothing was done twice"
    assert (now["refused"], now["interrupted"]) == (0, 0)
    for project in projects:
        assert project.instar("drift", "dev").status == 0
