"""A machine burns down, and its service is there again on another: backup, restore, agent, as somebody types it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import load
import pyrage
import pytest
from leftovers import remove_state
from project import Project

from postgres import PostgresServer

pytestmark = pytest.mark.root
SECRET = "of nobody else's"


@pytest.fixture
def fresh(project: Project, tmp_path: Path) -> Iterator[Project]:
    """The same definition's folder, and a machine without anything."""
    made = dataclasses.replace(project, home=tmp_path / "fresh")
    yield made
    if made.home.exists():
        made.destroy_all()
        remove_state(made.home)
    project.home.mkdir(mode=0o700, exist_ok=True)  # for whoever looks after it


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.database(template=postgres.template)
    yield name
    postgres.drop(name)


def make_identity(path: Path) -> str:
    """Write an age identity; return its public key."""
    identity = pyrage.x25519.Identity.generate()
    path.write_text(f"{identity}\n")
    path.chmod(0o600)
    return str(identity.to_public())


def test_it_is_there_again_from_the_same_bytes(project: Project, fresh: Project, tmp_path: Path) -> None:
    public_key = make_identity(tmp_path / "identity")
    (project.folder / "token").write_text(SECRET)
    project.edit("config: {GREETING: hello}", "config: {GREETING: hello}\n    secrets: {TOKEN: {file: token}}")
    project.edit("  limits:", "  volumes: [{name: data, path: /data, access: shared, size: 16M}]\n  limits:")
    project.instar("deploy", "dev")
    project.instar("promote", "dev", "production")
    (project.home / "volumes/hello/dev/data/written").write_text("by the service")
    digests = {one["environment"]: one["releases"][0]["image"] for one in project.json("status")}
    file = str(tmp_path / "backup.age")
    with load.running(project.url(), "--rate", "200", "--connections", "4", "--closing", "4") as traffic:
        for _ in range(3):
            Path(file).unlink(missing_ok=True)
            made = project.json("backup", "--volumes", "-r", public_key, file)
        report = traffic.stop()
    assert report["failed"] == 0 and report["served"] > 50, report
    assert made["volumes"] == ["hello/dev data", "hello/production data"]
    assert made["encrypted"] and made["secrets"] and made["images"] == 1
    project.instar("uninstall", "--yes", "--volumes")
    assert not project.home.exists()

    assert "whole: made" in fresh.instar("restore", "--check", "-i", str(tmp_path / "identity"), file).out
    assert not fresh.home.exists()
    restored = fresh.instar("restore", "-i", str(tmp_path / "identity"), file)
    assert "nothing runs yet" in restored.out and "instar agent --once" in restored.out
    assert digests["dev"] in restored.out
    status = fresh.json("status")
    assert {one["environment"] for one in status} == {"dev", "production"}
    assert not any(instance["healthy"] for one in status for of in one["releases"] for instance in of["instances"])
    fresh.instar("agent", "--once")
    assert fresh.get() == "hello from version 1\n" and fresh.get("production") == "good day from version 1\n"
    after = fresh.json("status")
    assert {one["environment"]: one["releases"][0]["image"] for one in after} == digests
    (instance,) = fresh.instance_ids()
    assert Path(f"/proc/{fresh.pid(instance)}/root/run/secrets/TOKEN").read_text() == SECRET
    assert (fresh.home / "volumes/hello/dev/data/written").read_text() == "by the service"
    assert (fresh.home / "volumes/hello/dev/data").is_mount(), "it has its limit again"
    fresh.instar("drift", "dev")
    fresh.instar("history", "--verify")


@pytest.mark.thorough
def test_of_several_that_share_a_ledger_one_comes_back(
    project: Project, postgres: PostgresServer, database: str, fresh: Project, tmp_path: Path
) -> None:
    own_file, file = project.home / "config.yaml", str(tmp_path / "backup.tar")
    own_file.write_text(f'ledger: "{postgres.address(database)}"\n')
    project.instar("deploy", "dev")
    (before,) = project.json("status")
    project.instar("backup", "--without-secrets", file)
    own_file.unlink()  # what runs ends by its mark, and the ledger hears nothing of it
    project.instar("uninstall", "--yes", "--volumes")
    early = fresh.try_instar("restore", "--machine-file", file)  # which names the ledger that knows it
    assert early.status == 1 and "it acted last" in early.err and "--original-is-gone" in early.err
    asked = fresh.try_instar("restore", "--original-is-gone", file)
    assert asked.status == 64 and f'  ledger: "{postgres.address(database)}"' in asked.err, asked
    assert not [path.name for path in fresh.home.rglob("*") if path.is_file()], "what is refused leaves nothing"
    fresh.instar("restore", "--original-is-gone", "--machine-file", file)
    fresh.instar("agent", "--once")
    assert fresh.get() == "hello from version 1\n"
    (after,) = fresh.json("status")
    assert after["releases"][0]["image"] == before["releases"][0]["image"]
    fresh.instar("history", "--verify")


@pytest.mark.thorough
def test_what_rm_took_is_put_back_beneath_what_runs(project: Project, tmp_path: Path) -> None:
    """The state directory is gone, all of it that rm can take, while instances and routers run on."""
    project.instar("deploy", "dev")
    (before,) = project.json("status")
    file = str(tmp_path / "backup.tar")
    project.instar("backup", "--without-secrets", file)
    with load.running(project.url(), "--rate", "100", "--connections", "4", "--closing", "4") as traffic:
        for path in project.home.iterdir():
            if path.name not in ("run", "layers"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        project.instar("restore", file)
        project.instar("agent", "--once")
        report = traffic.stop()
    assert report["failed"] == 0 and report["served"] > 50, report
    (after,) = project.json("status")
    assert after["releases"][0]["image"] == before["releases"][0]["image"]
    assert project.instance_ids() == {"hello-dev-1-1"}, "what ran runs on"
    project.instar("taint", "dev", "hello-dev-1-1", "--why", "its log and its record were removed")
    project.instar("agent", "--once")
    project.instar("agent", "--once")
    assert project.get() == "hello from version 1\n"
    project.instar("drift", "dev")
