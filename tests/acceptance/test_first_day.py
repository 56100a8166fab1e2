"""From one file to a served request, a new version, and back: what a user does on the first day."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import tarfile
from typing import Any

import load
import pytest
from project import Project

pytestmark = pytest.mark.root

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
STEADY = ("--rate", "150", "--connections", "6", "--tally", "X-Version")


def require_digest(text: Any) -> None:
    assert isinstance(text, str)
    assert DIGEST.match(text)


def require_outcome(answer: Any, *, release: int, previous: int | None, outcome: str = "done") -> None:
    assert answer["release"] == release
    assert answer["previous"] == previous
    assert answer["outcome"] == outcome
    assert isinstance(answer["seconds"], float)
    require_digest(answer["image"])


def test_bake_deploy_replace_roll_back_promote(project: Project) -> None:
    """One report, since each step needs the one before it; every answer has the shape that others build on."""
    first = project.json("bake")
    assert first["cached"] is True
    assert set(first) >= {"digest", "cached", "seconds", "layers"}
    assert [set(layer) for layer in first["layers"]] == [{"step", "digest", "diff_id", "size", "cached"}] * 4
    assert [layer["step"].split()[0] for layer in first["layers"]] == ["base", "packages", "user", "files"]

    require_outcome(project.json("deploy", "dev"), release=1, previous=None)
    assert project.get() == "hello from version 1\n"

    with load.running(project.url(), *STEADY) as traffic:
        project.set_version("2")
        deployed = project.json("deploy", "dev")
        require_outcome(deployed, release=2, previous=1)
        assert deployed["image"] != first["digest"]
        assert project.get() == "hello from version 2\n"
        rolled_back = project.json("rollback", "dev")
        require_outcome(rolled_back, release=1, previous=2)
        assert rolled_back["image"] == first["digest"]
        assert isinstance(rolled_back["switch_ms"], float | int)
        assert project.get() == "hello from version 1\n"
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert set(report["tally"]) == {"1", "2"}

    promoted = project.json("promote", "dev", "production")
    require_outcome(promoted, release=1, previous=None)
    assert promoted["environment"] == "production"
    assert promoted["image"] == first["digest"], "a promotion bakes nothing"
    assert project.get("production") == "good day from version 1\n"

    require_status(project, first["digest"])
    require_history(project)
    assert project.instar("history", "--verify").status == 0
    assert project.json("history", "--last", "2") == project.json("history")[-2:]


def require_status(project: Project, active_image: str) -> None:
    status = project.json("status", "dev")
    assert set(status) >= {"environment", "listen", "active", "releases"}
    assert (status["environment"], status["active"]) == ("dev", 1)
    assert status["listen"] == [f"127.0.0.1:{project.ports['dev']}"]
    by_number = {release["number"]: release for release in status["releases"]}
    assert {number: release["state"] for number, release in by_number.items()} == {1: "active", 2: "hot"}
    assert {number: release["weight"] for number, release in by_number.items()} == {1: 100, 2: 0}
    for release in by_number.values():
        assert set(release) >= {"number", "image", "config", "weight", "state", "instances"}
        require_digest(release["config"])
        for instance in release["instances"]:
            assert set(instance) >= {"id", "state", "healthy", "address", "started_at"}
            assert (instance["state"], instance["healthy"]) == ("running", True)
    assert by_number[1]["image"] == active_image
    assert len(project.json("status", "production")["releases"][0]["instances"]) == 2


def require_history(project: Project) -> None:
    events = project.json("history", "dev")
    keys = {"seq", "at", "actor", "kind", "release", "image", "detail", "hash"}
    assert all(set(event) >= keys for event in events)
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    database = sqlite3.connect(f"file:{project.home}/ledger/instar.db?mode=ro", uri=True)
    with database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_second_deploy_of_the_same_makes_no_release(project: Project) -> None:
    project.instar("deploy", "dev")
    before = project.instance_ids()
    again = project.json("deploy", "dev")
    assert (again["outcome"], again["release"]) == ("unchanged", 1)
    assert project.instance_ids() == before


def test_a_changed_configuration_is_a_new_release_of_the_same_image(project: Project) -> None:
    first = project.json("deploy", "dev")
    project.edit("{GREETING: hello}", "{GREETING: welcome}")
    second = project.json("deploy", "dev")
    assert (second["release"], second["image"]) == (2, first["image"])
    assert project.get() == "welcome from version 1\n"
    project.instar("rollback", "dev")
    assert project.get() == "hello from version 1\n", "rollback brings the old values back"


def test_a_plan_says_what_would_happen_and_changes_nothing(project: Project) -> None:
    assert project.try_instar("deploy", "dev", "--plan").status == 2
    assert project.json("status") == []
    project.instar("deploy", "dev")
    assert project.try_instar("deploy", "dev", "--plan").status == 0
    project.set_version("2")
    history = project.json("history")
    assert project.try_instar("deploy", "dev", "--plan").status == 2
    assert project.json("history") == history
    assert project.get() == "hello from version 1\n"


def test_only_as_many_releases_stay_hot_as_are_kept(project: Project) -> None:
    for version in "123":
        project.set_version(version)
        project.instar("deploy", "dev")
    states = {release["number"]: release["state"] for release in project.json("status", "dev")["releases"]}
    assert states == {1: "stopped", 2: "hot", 3: "active"}
    back = project.json("rollback", "dev", "--to", "1")
    require_outcome(back, release=1, previous=3)
    assert project.get() == "hello from version 1\n"


def test_rollback_goes_to_an_older_release_and_never_to_the_one_just_left(project: Project) -> None:
    for version in "123":
        project.set_version(version)
        project.instar("deploy", "dev")
    assert project.json("rollback", "dev")["release"] == 2
    assert project.json("rollback", "dev")["release"] == 1
    result = project.try_instar("rollback", "dev")
    assert result.status == 1
    assert project.get() == "hello from version 1\n"


def test_what_a_service_prints_is_kept_also_after_it_is_gone(project: Project) -> None:
    project.instar("deploy", "dev")
    (instance,) = project.instance_ids()
    assert "serving as well" in project.instar("logs", "dev").out
    assert "serving as well" in project.instar("logs", "dev", "--since", "10m").out
    assert project.instar("logs", "dev", "--since", "2100-01-01").out == ""
    for version in "23":
        project.set_version(version)
        project.instar("deploy", "dev")
    assert instance not in project.instance_ids()
    assert "serving as well" in project.instar("logs", "dev", instance).out


def test_destroy_asks_for_the_name_and_keeps_volumes(project: Project) -> None:
    volume = "  volumes: [{name: data, path: /var/lib/hello, access: shared}]\n\nenvironments:"
    project.edit("\nenvironments:", volume)
    project.instar("deploy", "dev")
    kept = project.home / "volumes/hello/dev/data"
    (kept / "entry").write_text("kept")
    assert project.try_instar("destroy", "dev", stdin="production\n").status != 0
    assert project.get() == "hello from version 1\n"
    assert project.try_instar("destroy", "dev", stdin="dev\n").status == 0
    assert (kept / "entry").read_text() == "kept"
    assert project.json("status") == []


def test_volumes_are_listed_and_removed_when_nobody_has_them(project: Project) -> None:
    assert project.instar("volumes").out == "no volume is kept here\n"
    project.edit("\nenvironments:", "  volumes: [{name: data, path: /var/lib/hello, access: shared}]\n\nenvironments:")
    project.instar("deploy", "dev")
    (instance,) = project.instance_ids()
    kept = project.home / "volumes/hello/dev/data"
    (kept / "entry").write_bytes(bytes(50_000))
    (listed,) = project.json("volumes", "list")
    assert (listed["name"], listed["environment_exists"], listed["instances"]) == ("data", True, [instance])
    assert listed["path"] == str(kept) and listed["bytes"] >= 50_000
    refused = project.try_instar("volumes", "remove", "hello/dev", "data", "--yes")
    assert refused.status == 1 and f"{instance} has it" in refused.err
    project.instar("destroy", "dev", "--yes")
    assert "nothing: the environment is gone" in project.instar("volumes", "list").out
    for environment, name in (("hello/dev", "other"), ("hello/dev", ".."), ("hello/..", "data"), ("../../etc", "data")):
        wrong = project.try_instar("volumes", "remove", environment, name, "--yes")
        assert wrong.status in (1, 64) and "Traceback" not in wrong.err, (environment, name)
    asked = project.try_instar("volumes", "remove", "hello/dev", "data", stdin="other\n")
    assert asked.status == 64 and ": nothing was removed" in asked.err and kept.exists()
    assert project.try_instar("volumes", "remove", "hello/dev", "data", stdin="data\n").status == 0
    assert not kept.exists() and project.json("volumes", "list") == []
    assert project.json("history")[-1]["kind"] == "volume-removed"


def test_release_numbers_are_never_used_again(project: Project) -> None:
    project.instar("deploy", "dev")
    project.instar("destroy", "dev", "--yes")
    assert project.json("deploy", "dev")["release"] == 2


def test_other_tools_read_an_exported_image(project: Project) -> None:
    digest = project.json("bake")["digest"]
    archive = project.folder / "image.tar"
    project.instar("export", digest, str(archive))
    with tarfile.open(archive) as opened:
        assert {"index.json", "oci-layout"} <= set(opened.getnames())
    raw = subprocess.run(["skopeo", "inspect", f"oci-archive:{archive}"], capture_output=True, text=True, check=True)
    assert digest in raw.stdout


def test_gc_removes_only_what_no_kept_release_needs(project: Project) -> None:
    project.edit("instances: 2", "instances: 1\n    keep: {hot: 1, releases: 2}")
    project.edit("config: {GREETING: hello}", "config: {GREETING: hello}\n    keep: {hot: 1, releases: 2}")
    images = []
    for version in "123":
        project.set_version(version)
        images.append(project.json("deploy", "dev")["image"])
    project.instar("gc")
    kept = {image["digest"] for image in project.json("images", "list")}
    assert kept == set(images[1:])
    assert project.json("rollback", "dev")["image"] == images[1]
    assert project.get() == "hello from version 2\n"
