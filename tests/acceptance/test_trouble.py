"""Releases that are no good, and commands that cannot be carried out: a clear word, an exit status, nothing lost."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import load
import pytest
from project import INSTAR, Project, end, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def running(project: Project) -> Project:
    """A project whose dev runs release 1."""
    project.instar("deploy", "dev")
    return project


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("dies", "no module named redis"),  # its last words
        ("sick", "500"),
        ("late", "serving as late"),
        ("wrong-port", "8081"),
        ("deaf", "serving as deaf"),
    ],
)
def test_a_release_that_never_gets_well_takes_no_traffic(running: Project, mode: str, said: str) -> None:
    running.set_mode(mode)
    with load.running(running.url(), "--rate", "100", "--connections", "4") as traffic:
        result = running.try_instar("deploy", "dev")
        report = traffic.stop()
    assert result.status == 1
    assert said in result.err
    assert report["failed"] == 0, report
    status = running.json("status", "dev")
    assert status["active"] == 1
    assert running.get() == "hello from version 1\n"
    assert all(not release["instances"] for release in status["releases"] if release["number"] != 1)


def test_after_a_failed_release_the_next_good_one_goes_through(running: Project) -> None:
    running.set_mode("dies")
    assert running.try_instar("deploy", "dev", "--json").json["outcome"] == "failed"
    running.edit(", MODE: dies", "")
    running.set_version("2")
    assert running.json("deploy", "dev")["outcome"] == "done"
    assert running.get() == "hello from version 2\n"


def test_a_first_release_that_fails_leaves_nothing_running(project: Project) -> None:
    project.set_mode("sick")
    assert project.try_instar("deploy", "dev").status == 1
    assert not project.instance_ids()


def test_a_command_that_is_not_in_the_image(running: Project) -> None:
    running.edit("command: [/srv/serve]", "command: [/srv/sevre]")
    result = running.try_instar("deploy", "dev")
    assert result.status == 1
    assert "/srv/sevre" in result.err
    assert running.get() == "hello from version 1\n"


def test_a_port_that_is_taken(project: Project) -> None:
    with socket.create_server(("127.0.0.1", project.ports["dev"])):
        result = project.try_instar("deploy", "dev")
    assert result.status == 1
    assert str(project.ports["dev"]) in result.err
    assert project.json("status") == [] or not project.instance_ids()


def test_more_memory_than_there_is(running: Project) -> None:
    running.edit("memory: 64M", "memory: 4096G")
    result = running.try_instar("deploy", "dev")
    assert result.status == 1
    assert "memory" in result.err.lower()
    assert running.json("status", "dev")["active"] == 1


def test_promoting_to_an_environment_that_takes_from_another(running: Project) -> None:
    running.edit("promote_from: dev", "promote_from: staging")
    running.edit("environments:\n", "environments:\n  staging: {listen: '127.0.0.1:9'}\n")
    result = running.try_instar("promote", "dev", "production")
    assert result.status == 1 and "production takes releases from 'staging' only" in result.err, result.err
    assert [environment["environment"] for environment in running.json("status")] == ["dev"]


def test_an_environment_that_is_not_there(running: Project) -> None:
    for words in (["deploy", "devv"], ["status", "devv"], ["rollback", "devv"]):
        result = running.try_instar(*words)
        assert result.status in (1, 64), words
        assert "devv" in result.err
        assert "Traceback" not in result.err


def test_a_rollback_with_nowhere_to_go(running: Project) -> None:
    result = running.try_instar("rollback", "dev")
    assert result.status == 1
    assert running.get() == "hello from version 1\n"


def test_two_commands_on_one_environment(running: Project) -> None:
    running.set_mode("deaf")
    first = running.start("deploy", "dev")
    try:
        wait_for(lambda: len(running.instance_ids()) == 2, "the candidate was never created")
        second = running.try_instar("rollback", "dev")
        assert second.status == 75
        assert str(first.pid) in second.err
        assert "--take-over" in second.err
        first.send_signal(signal.SIGSTOP)
        running.edit(", MODE: deaf", "")
        assert running.json("deploy", "dev", "--take-over")["outcome"] == "done"
        assert first.wait(10) == -signal.SIGKILL
    finally:
        first.kill()
        first.communicate()
    assert running.get() == "hello from version 1\n"


def test_a_run_line_that_fails_shows_its_output_and_its_line(running: Project) -> None:
    running.edit("    - {from: app, to: /srv}\n", "    - {from: app, to: /srv}\n  run:\n    - echo so far; exit 7\n")
    result = running.try_instar("deploy", "dev")
    assert result.status == 1
    assert "so far" in result.err
    assert "instar.yaml:9" in result.err
    assert running.get() == "hello from version 1\n"


def test_a_file_that_is_missing_and_a_link_that_leads_out(running: Project) -> None:
    running.edit("from: app,", "from: ap,")
    missing = running.try_instar("bake")
    assert missing.status == 1
    assert "ap" in missing.err
    running.edit("from: ap,", "from: app,")
    (running.folder / "app/out").symlink_to("/etc/shadow")
    out = running.try_instar("bake")
    assert out.status == 1
    assert "out" in out.err


def test_a_damaged_blob_is_found_and_never_run(running: Project) -> None:
    digest = running.json("bake")["digest"]
    layer = running.json("bake")["layers"][-1]["digest"].removeprefix("sha256:")
    blob = running.home / "store/blobs/sha256" / layer
    text = bytearray(blob.read_bytes())
    text[len(text) // 2] ^= 1
    blob.unlink()  # the store's blobs are linked, not copied, between the tests' state directories
    blob.write_bytes(text)
    result = running.try_instar("export", digest, str(running.folder / "image.tar"))
    assert result.status == 1
    assert layer[:12] in result.err
    assert not (running.folder / "image.tar").exists()


@pytest.mark.parametrize("damage", ["garbage", "newer"])
def test_a_ledger_that_cannot_be_read(project: Project, damage: str, tmp_path: Path) -> None:
    project.instar("deploy", "dev")
    ledger = project.home / "ledger/instar.db"
    kept = tmp_path / "kept.db"
    shutil.copy(ledger, kept)
    if damage == "garbage":
        ledger.write_bytes(b"not a database" * 1000)
    else:
        subprocess.run(["sqlite3", ledger, "PRAGMA user_version = 9999"], check=True)
    result = project.try_instar("deploy", "dev")
    assert result.status == 1
    assert "ledger" in result.err
    assert "Traceback" not in result.err
    assert project.get() == "hello from version 1\n", "what runs does not depend on the ledger"
    shutil.copy(kept, ledger)


def test_a_missing_component_is_69(project: Project) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$(command -v conmon)" && exec "$@"', "sh"]
    result = subprocess.run(
        [*hidden, INSTAR, "doctor"],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 69
    assert "conmon" in result.stderr
    assert project.instar("doctor").status == 0


def test_interrupted_is_130_and_what_ran_runs_on(running: Project) -> None:
    running.set_mode("deaf")
    deploy = running.start("deploy", "dev")
    wait_for(lambda: len(running.instance_ids()) == 2, "the candidate was never created")
    assert end(deploy, signal.SIGINT).status == 130
    assert running.get() == "hello from version 1\n"
    running.edit(", MODE: deaf", "")
    assert running.json("deploy", "dev")["active"] == 1
    wait_for(lambda: len(running.instance_ids()) == 1, "the candidate stayed")
