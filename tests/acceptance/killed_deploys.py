"""A deploy that is killed at points all over it, under load at two doors."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import load
from project import Project

KILLER = Path(__file__).parent / "killer.py"


def killed(project: Project, last: int) -> int | None:
    """Deploy, and kill that at the ``last`` thing that it does; return how many there were, None when it was killed."""
    count = project.folder.parent / "count"
    words = [sys.executable, "-IB", str(KILLER), str(last), str(count), "deploy", "dev"]
    ended = subprocess.run(
        words, cwd=project.folder, env=project.environ, capture_output=True, text=True, timeout=120, check=False
    )
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr
    return int(count.read_text())


def deploy_killed_all_over(
    project: Project, second: str, answers: Callable[[], tuple[str, ...]], said: Callable[[int], tuple[str, ...]]
) -> None:
    """Deploy again and again, kill that at points all over it, and deploy what was being deployed: no request may be
    lost at the project's door in dev, nor at its ``second``, and both give the ``answers`` that are ``said`` by the
    version then."""
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("bake")
    steps = killed(project, 10**9)
    assert steps is not None
    options = ("--rate", "60", "--connections", "3")
    with load.running(project.url(), *options) as one, load.running(project.url(second), *options) as other:
        for version, last in enumerate(range(steps // 8, steps, steps // 4), 3):
            project.set_version(str(version))
            project.instar("bake")
            killed(project, last)
            assert project.json("deploy", "dev")["outcome"] in ("done", "unchanged")
            assert answers() == said(version)
        reports = one.stop(), other.stop()
    assert [report["failed"] for report in reports] == [0, 0], reports
    assert project.json("drift", "dev")["clean"]
