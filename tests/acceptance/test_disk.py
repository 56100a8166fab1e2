"""A disk that fails under the ledger or the router's file, at each of their writes: what was said to be done is done,
the traffic stays, and with the disk well again the next command goes on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import pytest
from project import INSTAR, Project, Result

pytestmark = [pytest.mark.root, pytest.mark.thorough]

SOURCE = Path(__file__).with_name("failing_disk.c")
FILES = {"ledger": "/ledger/instar.db", "router": "/routers/hello/"}
FEW = 2  # writes of each file that fail in the normal run; with --long all of them


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("disk") / "failing_disk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
    return made


class Disk:
    """Runs commands on a disk that fails."""

    def __init__(self, project: Project, library: Path, path: str) -> None:
        self.project = project
        self.counted = project.folder.parent / "changes"
        self.environ = {"LD_PRELOAD": str(library), "FAIL_PATH": path, "FAIL_COUNT": str(self.counted)}

    def run(self, *words: str, fail_from: int | None = None, error: int = errno.EIO) -> Result:
        more = {} if fail_from is None else {"FAIL_FROM": str(fail_from), "FAIL_ERRNO": str(error)}
        environ = {**self.project.environ, **self.environ, **more}
        ended = subprocess.run(
            [INSTAR, *words], cwd=self.project.folder, env=environ, capture_output=True, text=True, check=False
        )
        return Result(status=ended.returncode, out=ended.stdout, err=ended.stderr)

    def changes(self) -> int:
        return int(self.counted.read_text())


@pytest.fixture(params=FILES)
def disk(request: pytest.FixtureRequest, project: Project, failing_disk: Path) -> Iterator[Disk]:
    project.edit("grace: 2s", "grace: 100ms")
    project.edit(
        "config: {GREETING: hello}",
        "rollout: {strategy: canary, steps: [50], pause: 50ms}\n    config: {GREETING: hello}",
    )
    project.instar("deploy", "dev")
    with load.running(project.url(), "--rate", "60", "--connections", "4") as traffic:
        yield Disk(project, failing_disk, FILES[request.param])
        report = traffic.stop()
    assert report["failed"] == 0, report


def fail_at(disk: Disk, version: int, point: int, error: int) -> None:
    """Deploy with the disk failing from the ``point``-th write on, then once more with the disk well."""
    project = disk.project
    project.set_version(str(version))
    project.instar("bake")
    failed = disk.run("deploy", "dev", "--json", fail_from=point, error=error)
    said: dict[str, Any] = json.loads(failed.out) if failed.out else {}
    assert failed.status in (0, 1), failed.err
    assert "Traceback" not in failed.err, failed.err
    assert failed.status == 0 or failed.err.strip(), "it says what happened"
    status = project.json("status", "dev")
    if said.get("outcome") == "done":
        assert status["active"] == said["release"], f"at write {point} it said what is not so"
    assert project.json("deploy", "dev")["outcome"] in ("done", "unchanged")
    assert project.get() == f"hello from version {version}\n"
    project.instar("history", "--verify")
    status = project.json("status", "dev")
    assert sum(one["weight"] for one in status["releases"]) == 100


def writes(disk: Disk) -> int:
    disk.project.set_version("2")
    whole = disk.run("deploy", "dev", "--json")
    assert whole.status == 0, whole.err
    return disk.changes()


def test_a_disk_that_fails_here_and_there_loses_no_decision(disk: Disk) -> None:
    count = writes(disk)
    assert count >= FEW
    for turn in range(FEW):
        fail_at(disk, 3 + turn, 1 + count * turn // FEW, (errno.EIO, errno.ENOSPC)[turn % 2])


@pytest.mark.long
def test_a_disk_that_fails_at_any_write_loses_no_decision(disk: Disk) -> None:
    count = writes(disk)
    step = int(os.environ.get("INSTAR_DISK_STEP", "1"))  # to try every N-th only
    for point in range(1, count + 1, step):
        for error in (errno.EIO, errno.ENOSPC):
            fail_at(disk, 10 * point + error, point, error)
