"""What a refresh of ``instar top`` costs, of fifty instances behind one router."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import idle
from figures import Figure
from subject import Subject, free_port

from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.operations.top import compare, read
from instar.views.page import Page
from instar.views.top import top_page
from instar.workspace import MachineWorkspace

if TYPE_CHECKING:
    from items import Bench

INSTANCES, MOST_MS = 50, 100.0
WIDTH, HEIGHT = 120, 60
BETWEEN_S = 0.2


def refreshed(bench: Bench) -> list[Figure]:
    """From the readings to the lines of the page, in a process that has its imports, as the live page has."""
    folder, port = bench.fresh("top"), free_port()
    folder.mkdir()
    environments = f"  dev: {{listen: '127.0.0.1:{port}', instances: {INSTANCES}}}\n"
    (folder / "instar.yaml").write_text(idle.DEFINITION + environments)
    subject = Subject(folder=folder, home=bench.home, port=port)
    try:
        subject.run("deploy", "dev")
        passed, used = _looks(subject, len(bench.times(25)))
    finally:
        subject.run("destroy", "idle/dev", "--yes", json_too=False)
    what = f"a refresh of instar top, {INSTANCES} instances"
    return [
        Figure(what=what, ours=passed, unit="ms", most=MOST_MS),
        Figure(what=f"{what}: of a processor", ours=used, unit="ms"),
    ]


def _looks(subject: Subject, count: int) -> tuple[list[float], list[float]]:
    """Return how long each refresh took, and what of a processor, in milliseconds."""
    workspace, place = MachineWorkspace(subject.environ, silent), EnvironmentId(service="idle", name="dev")
    passed, used = [], []
    before = read(workspace, place)
    for _ in range(count):
        time.sleep(BETWEEN_S)
        began, began_s = time.perf_counter(), time.process_time()
        after = read(workspace, place)
        lines = _drawn(top_page(compare(before, after), WIDTH, HEIGHT))
        passed.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - began_s) * 1000)
        before = after
        if lines < INSTANCES:
            raise RuntimeError(f"the page has {lines} lines for {INSTANCES} instances")
    return passed, used


def _drawn(page: Page) -> int:
    """Lay a page out, and return how many lines it has."""
    return sum(1 if isinstance(one, str) else len(list(one.lines())) for one in page)
