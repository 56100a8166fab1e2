"""What gc takes and what it leaves, as a user sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import load
import pytest
from project import Project, Result

pytestmark = pytest.mark.root

KILLER = Path(__file__).with_name("killer.py")
POINTS = 3  # of those at which gc changes something


@pytest.fixture
def aged(project: Project) -> Project:
    """Five releases of five images, of which ``keep`` wants one; the third failed."""
    project.edit("config: {GREETING: hello}", "keep: {hot: 0, releases: 1}\n    config: {GREETING: hello}")
    for version in "12345":
        project.set_version(version)
        if version == "3":
            project.set_mode("dies")
            assert project.try_instar("deploy", "dev").status == 1
            project.edit(", MODE: dies", "")
        else:
            project.instar("deploy", "dev")
    return project


def images(project: Project) -> dict[int, str]:
    return {one["number"]: one["image"] for one in project.json("status", "dev")["releases"]}


def of_releases(project: Project) -> dict[int, str]:
    events = project.json("history", "dev")
    return {event["release"]: event["image"] for event in events if event["kind"] == "release"}


def there(project: Project) -> set[str]:
    return {image["digest"] for image in project.json("images", "list")}


def test_the_way_back_and_what_is_pinned_stay(aged: Project) -> None:
    by_release = of_releases(aged)
    assert aged.json("pin", "dev", "1")["pinned"]
    aged.instar("pin", "dev", "1")
    pinned = {one["number"]: one["pinned"] for one in aged.json("status", "dev")["releases"]}
    assert pinned == {5: False, 1: True}, "it is shown though keep.releases is 1"
    assert "pinned" in aged.instar("status", "dev").out
    unknown = aged.try_instar("pin", "dev", "77")
    assert unknown.status == 1 and "there is no such release" in unknown.err
    before = there(aged)
    dry = aged.json("gc", "--dry-run")
    assert there(aged) == before and dry["images"], "a dry run removes nothing"
    assert set(dry["images"]) == {by_release[2], by_release[3]}
    done = aged.json("gc")
    assert {key: done[key] for key in ("images", "logs", "fetched")} == {
        key: dry[key] for key in ("images", "logs", "fetched")
    }
    assert there(aged) == before - set(dry["images"])
    assert any(event["kind"] == "gc" for event in aged.json("history"))
    assert aged.json("rollback", "dev")["release"] == 4, "the way back is there though keep.releases is 1"
    assert aged.json("rollback", "dev", "--to", "1")["release"] == 1
    gone = aged.try_instar("rollback", "dev", "--to", "2")
    late = aged.try_instar("pin", "dev", "2")
    assert late.status == 1 and "its image is gone" in late.err
    assert gone.status == 1 and aged.get() == "hello from version 1\n"
    assert not aged.json("unpin", "dev", "1")["pinned"]


@pytest.mark.thorough
def test_what_instances_stand_on_stays(aged: Project) -> None:
    """The plate too, which is in no image."""
    aged.instar("gc")
    assert aged.json("drift", "dev", "--deep")["findings"] == []


def test_logs_go_with_their_releases_but_that_of_a_fresh_failure_stays(aged: Project) -> None:
    aged.edit("keep: {hot: 0, releases: 1}", "keep: {hot: 0, releases: 3}")
    aged.instar("deploy", "dev")
    removed = aged.json("gc")["logs"]
    assert removed == ["hello-dev-1-1"]
    assert "no module named redis" in aged.instar("logs", "dev", "hello-dev-3-1").out
    aged.edit("keep: {hot: 0, releases: 3}", "keep: {hot: 0, releases: 1}")
    aged.instar("deploy", "dev")
    assert "hello-dev-3-1" in aged.json("gc")["logs"]
    assert "no module named redis" not in aged.instar("logs", "dev", "hello-dev-3-1").out


@pytest.mark.thorough
def test_fetched_files_that_no_lock_needs_go(project: Project) -> None:
    stray = project.home / "cache/sha256" / ("0" * 64)
    project.instar("deploy", "dev")
    needed = {path.name for path in stray.parent.iterdir()}
    stray.write_bytes(b"left of another lock")
    assert project.json("gc", "--dry-run")["fetched"] == 1 and stray.exists()
    assert project.json("gc")["fetched"] == 1 and not stray.exists()
    assert {path.name for path in stray.parent.iterdir()} == needed, "and those of this one stay"


@pytest.mark.thorough
def test_what_a_rollback_goes_to_stays_also_when_newer_ones_ran_well(project: Project) -> None:
    project.edit("config: {GREETING: hello}", "keep: {hot: 0, releases: 1}\n    config: {GREETING: hello}")
    for version in "12":
        project.set_version(version)
        project.instar("deploy", "dev")
    project.instar("rollback", "dev")
    project.set_version("3")
    project.instar("deploy", "dev")
    project.instar("gc")
    assert project.json("rollback", "dev")["release"] == 1 and project.get() == "hello from version 1\n"


@pytest.mark.thorough
def test_more_can_be_kept_again(aged: Project) -> None:
    aged.instar("gc")
    aged.edit("releases: 1", "releases: 5")
    aged.set_version("6")
    aged.instar("deploy", "dev")
    assert not any(aged.json("gc").values())


@pytest.mark.thorough
def test_gc_killed_here_and_there_costs_nothing(project: Project) -> None:
    project.edit("config: {GREETING: hello}", "keep: {hot: 0, releases: 1}\n    config: {GREETING: hello}")
    for version in "123":
        project.set_version(version)
        project.instar("deploy", "dev")
    count = collect(project, kill_at=10**9)
    assert count is not None and count > 20
    for point in range(1, POINTS + 1):
        project.set_version(f"3.{point}")
        project.instar("bake")
        (project.home / "cache/sha256" / f"{point:064x}").write_bytes(b"stray")
        assert collect(project, kill_at=max(1, count * point // (POINTS + 1))) is None
        assert project.json("rollback", "dev")["outcome"] == "done"
        assert project.json("rollback", "dev", "--to", "3")["outcome"] == "done"
    project.set_version("4")
    assert project.json("deploy", "dev")["outcome"] == "done" and project.get() == "hello from version 4\n"
    project.instar("gc")
    assert len(there(project)) == 2 and project.json("gc", "--dry-run")["bytes"] == 0
    assert "events" in project.instar("history", "--verify").out


@pytest.mark.thorough
def test_gc_again_and_again_beside_deploys_takes_nothing_that_they_need(project: Project) -> None:
    project.edit("config: {GREETING: hello}", "keep: {hot: 0, releases: 1}\n    config: {GREETING: hello}")
    project.instar("deploy", "dev")
    over = threading.Event()
    failed = list[Result]()

    def collects() -> None:
        while not over.is_set():
            result = project.try_instar("gc")
            if result.status:
                failed.append(result)

    collector = threading.Thread(target=collects)
    collector.start()
    try:
        with load.running(project.url(), "--rate", "50", "--connections", "2") as traffic:
            for version in "23":
                project.set_version(version)
                assert project.json("deploy", "dev")["outcome"] == "done"
                assert project.json("rollback", "dev")["outcome"] == "done"
                assert project.json("deploy", "dev")["outcome"] == "done"
            report = traffic.stop()
    finally:
        over.set()
        collector.join()
    assert not failed and report["failed"] == 0, (failed, report)


def collect(project: Project, *, kill_at: int) -> int | None:
    """Run gc; return how many things it did, None when it was killed."""
    counted = project.folder.parent / "count"
    words = [sys.executable, "-IB", str(KILLER), str(kill_at), str(counted), "gc"]
    ended = subprocess.run(words, cwd=project.folder, env=project.environ, capture_output=True, text=True, check=False)
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr
    return int(counted.read_text())


def test_a_lock_says_what_it_needs_before_anything_is_baked_from_it(project: Project) -> None:
    record = project.home / "cache/needed/service-hello"
    record.unlink()
    project.instar("lock")
    needed = set(record.read_text().split())
    assert needed <= {path.name for path in (project.home / "cache/sha256").iterdir()} and needed
    project.instar("gc")
    assert needed <= {path.name for path in (project.home / "cache/sha256").iterdir()}
