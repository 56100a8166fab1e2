"""Data that a release may change: kept before it comes, and back with a rollback that asks for it."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from project import Project

pytestmark = pytest.mark.root
KILLER = Path(__file__).with_name("killer.py")


def describe(project: Project, access: str) -> Path:
    """Have a service with a volume that each release's tasks change; return the file that they change."""
    volume = f"  volumes: [{{name: data, path: /var/lib/hello, access: {access}, snapshot: true}}]\n\nenvironments:"
    project.edit("\nenvironments:", volume)
    project.edit("instances: 2", "instances: 1")
    project.edit("command: [/srv/serve]", "command: [sh, -c, 'echo start >>/var/lib/hello/form && exec /srv/serve']")
    project.instar("deploy", "dev")
    project.set_version("2")
    project.edit(
        "  port: 8080\n", "  port: 8080\n  before: [{command: [sh, -c, 'echo migrated >>/var/lib/hello/form']}]\n"
    )
    return project.home / "volumes/hello/dev/data/form"


@pytest.mark.parametrize("access", ["exclusive", "shared"])
def test_what_a_release_leaves_comes_back_with_a_rollback_that_asks_for_it(project: Project, access: str) -> None:
    form = describe(project, access)
    planned = project.try_instar("deploy", "dev", "--plan")
    assert "a snapshot of the volume 'data' is taken first" in planned.out + planned.err
    assert project.json("volumes", "snapshots") == []
    deployed = project.instar("deploy", "dev")
    assert "the volume 'data' is kept as snapshot 1" in deployed.err
    assert ("while instances had it" in deployed.err) == (access == "shared")
    newer = form.read_text()
    assert newer == "start\nmigrated\nstart\n"
    (kept,) = project.json("volumes", "snapshots")
    assert (kept["number"], kept["release"], kept["before"], kept["running"]) == (1, 1, 2, access == "shared")

    told = project.try_instar("rollback", "dev", "--with-data")
    assert (
        told.status == 64
        and "takes away what was written since release 2 came" in told.err
        and "nothing was changed" in told.err
    )
    assert "snapshot 1" in told.err and " data     stops hello-dev-" in told.err
    assert form.read_text() == newer
    back = project.json("rollback", "dev", "--with-data", "--yes")
    assert (back["outcome"], back["release"]) == ("done", 1) and back["gap_ms"] > 0
    assert form.read_text() == "start\nstart\n", "its instance has begun once more"
    assert project.get() == "hello from version 1\n"
    again = project.json("rollback", "dev", "--to", "2", "--with-data", "--yes")
    assert again["outcome"] == "done" and form.read_text() == f"{newer}start\n"
    plain = project.instar("rollback", "dev")
    assert "instar rollback hello/dev --to 1 --with-data" in plain.err and form.read_text().startswith(newer)
    project.instar("history", "dev", "--verify")
    kept = len(project.json("volumes", "snapshots"))
    gone = project.instar("destroy", "dev", "--volumes", "--yes")
    assert f"{kept} snapshots of its volumes stay: instar volumes snapshots" in gone.err
    assert len(project.json("volumes", "snapshots")) == kept > 1


def test_a_rollback_whose_release_does_not_start_leaves_the_data_of_the_one_that_runs(project: Project) -> None:
    form = describe(project, "exclusive")
    project.instar("deploy", "dev")
    newer = form.read_text()
    snapshot = project.home / "snapshots/hello/dev/data/1/data"
    (snapshot / "form").unlink()
    (snapshot / "form").mkdir()  # the release before cannot write there, and ends
    failed = project.try_instar("rollback", "dev", "--with-data", "--yes")
    assert failed.status == 1
    assert form.read_text() == f"{newer}start\n", "the release that runs has begun once more, on its own data"
    assert project.get() == "hello from version 2\n"


def test_a_snapshot_that_somebody_took_is_restored_under_what_runs(project: Project) -> None:
    form = describe(project, "exclusive")
    project.instar("deploy", "dev")
    project.instar("volumes", "snapshot", "hello/dev", "data")
    with form.open("a") as file:
        file.write("mistake\n")
    asked = project.try_instar("volumes", "restore", "hello/dev", "data", "2")
    assert asked.status == 64 and "takes what was written since snapshot 2 out of the volume" in asked.err
    assert "stops hello-dev-2-" in asked.err and "mistake" in form.read_text()
    restored = project.instar("volumes", "restore", "hello/dev", "data", "2", "--yes")
    assert "release 3" in restored.err
    assert form.read_text() == "start\nmigrated\nstart\nmigrated\nstart\n", "its task and its instance began once more"
    assert project.get() == "hello from version 2\n"
    back = project.json("rollback", "dev", "--with-data", "--yes")
    assert back["outcome"] == "done" and "mistake" in form.read_text()
    project.instar("history", "dev", "--verify")


def test_nothing_is_begun_where_nothing_was_kept(project: Project) -> None:
    project.edit("\nenvironments:", "  volumes: [{name: data, path: /var/lib/hello}]\n\nenvironments:")
    project.edit("instances: 2", "instances: 1")
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("deploy", "dev")
    refused = project.try_instar("rollback", "dev", "--with-data", "--yes")
    assert refused.status == 1 and "no snapshot was taken of it before release 2" in refused.err
    assert project.get() == "hello from version 2\n"


def killed_back(project: Project, at: int, count: Path) -> int:
    """Roll back with data, and be killed at the ``at``-th thing that is done; return the exit status."""
    killing = replace(project, command=(sys.executable, "-IB", KILLER, str(at), count))
    return killing.try_instar("rollback", "dev", "--with-data", "--yes").status


@pytest.mark.thorough
@pytest.mark.parametrize("then", ["the agent goes on", "it is given up"])
def test_who_is_killed_while_data_is_brought_back_leaves_one_release_with_its_data(
    project: Project, tmp_path: Path, then: str
) -> None:
    """Wherever it is killed, on the real provider, and whatever comes then: each start finds its own release's data."""
    form, count = describe(project, "exclusive"), tmp_path / "count"
    project.instar("deploy", "dev")
    assert killed_back(project, 1_000_000, count) == 0
    whole = int(count.read_text())
    assert whole > 50
    project.instar("rollback", "dev", "--to", "2", "--with-data", "--yes")
    given_up = 0
    for at in range(3, whole, max(1, whole // 24)):
        status = killed_back(project, at, count)
        # it does a little more or less each time, since it looks again while it waits
        assert status == -signal.SIGKILL or (status == 0 and at > whole * 0.8), f"not killed at {at} of {whole}"
        if then == "it is given up":  # refused where no rollout is under way, or the traffic has moved
            given_up += project.try_instar("rollout", "abort", "dev").status == 0
        project.instar("agent", "--once")
        active = project.json("status", "dev")["active"]
        lines = form.read_text().split()
        assert ("migrated" in lines) == (active == 2), f"killed at {at}: release {active} on {lines}"
        assert project.get() == f"hello from version {active}\n"
        if active == 1:
            project.instar("rollback", "dev", "--to", "2", "--with-data", "--yes")
    assert (given_up > 3) == (then == "it is given up")
    project.instar("history", "dev", "--verify")
