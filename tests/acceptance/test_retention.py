"""What gc takes and what it leaves, as a user sees it."""

from __future__ import annotations

import pytest
from project import Project

pytestmark = pytest.mark.root


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
    assert gone.status == 1 and aged.get() == "hello from version 1\n"
    assert not aged.json("unpin", "dev", "1")["pinned"]


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


def test_fetched_files_that_no_lock_needs_go(project: Project) -> None:
    stray = project.home / "cache/sha256" / ("0" * 64)
    project.instar("deploy", "dev")
    needed = {path.name for path in stray.parent.iterdir()}
    stray.write_bytes(b"left of another lock")
    assert project.json("gc", "--dry-run")["fetched"] == 1 and stray.exists()
    assert project.json("gc")["fetched"] == 1 and not stray.exists()
    assert {path.name for path in stray.parent.iterdir()} == needed, "and those of this one stay"
