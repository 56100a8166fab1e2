"""An instance that takes the whole of a long grace keeps nobody waiting: not its environment, and no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project import Project, end, wait_for

pytestmark = [pytest.mark.root, pytest.mark.thorough]
GRACE_S = 30.0
SOON_S = 2.0


@pytest.fixture
def stubborn(project: Project) -> Project:
    """A service that ends only when its grace is over. Dev runs its second release, and the first is hot; production
    is another environment."""
    project.edit("grace: 2s, drain: 5s", f"grace: {GRACE_S:g}s, drain: 1s")
    project.edit("    promote_from: dev\n", "")
    serve = project.folder / "app/serve"
    serve.write_text(serve.read_text().replace("#!/bin/sh\n", "#!/bin/sh\ntrap '' TERM\n"))
    project.instar("deploy", "production")
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("deploy", "dev")
    yield project
    for name in (*project.instance_ids("dev"), *project.instance_ids("production")):
        with contextlib.suppress(OSError):  # so that nobody waits for its grace
            os.kill(project.pid(name), signal.SIGKILL)


@contextlib.contextmanager
def agent(project: Project) -> Iterator[subprocess.Popen[str]]:
    process = project.start("agent", "--check", "0.5")
    try:
        wait_for(lambda: project.json("status", "dev")["agent"] is not None, "no agent")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=40)


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def events(project: Project, kind: str, instance: str) -> list[dict[str, Any]]:
    found = project.json("history", "dev")
    return [one for one in found if one["kind"] == kind and one["detail"].get("instance") == instance]


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])


def state(project: Project, instance: str) -> str | None:
    releases = project.json("status", "dev")["releases"]
    return next((one["state"] for found in releases for one in found["instances"] if one["id"] == instance), None)


def test_while_an_instance_has_its_grace_its_environment_and_others_are_free(stubborn: Project) -> None:
    old, pid = "hello-dev-1-1", stubborn.pid("hello-dev-1-1")
    other = next(iter(stubborn.instance_ids("production")))
    with agent(stubborn):
        stubborn.set_version("3")
        stubborn.instar("deploy", "dev", "--detach")
        wait_for(lambda: state(stubborn, old) == "ending", "it is not told to end", timeout_s=30)

        back = stubborn.instar("rollback", "dev", "--json")
        assert "for the agent" not in back.err, "it had to wait"
        assert json.loads(back.out)["outcome"] == "done" and json.loads(back.out)["seconds"] < SOON_S
        assert stubborn.get() == "hello from version 2\n"
        assert lives(pid) and state(stubborn, old) == "ending"

        os.kill(stubborn.pid(other), signal.SIGKILL)
        wait_for(lambda: other not in stubborn.instance_ids("production"), "production waits", timeout_s=10)
        assert lives(pid) and state(stubborn, old) == "ending", "all this was in the time of one grace"
        assert stubborn.json("drift", "dev")["clean"], "to end is no drift"
        again = stubborn.instar("deploy", "dev", "--json")
        assert "for the agent" not in again.err and json.loads(again.out)["outcome"] == "done"

        wait_for(lambda: not lives(pid), "it is never killed", timeout_s=GRACE_S + 10)
        wait_for(lambda: state(stubborn, old) is None, "something of it is left")
    (stopping,), (gone,) = events(stubborn, "stopping", old), events(stubborn, "destroyed", old)
    assert timedelta(seconds=GRACE_S) <= at(gone) - at(stopping) < timedelta(seconds=GRACE_S + 5)


def test_who_goes_on_after_a_kill_gives_the_rest_of_the_grace_and_then_ends_it(stubborn: Project) -> None:
    """Without an agent a command sees to it itself, as long as it lives; the next one goes on."""
    old, pid = "hello-dev-1-1", stubborn.pid("hello-dev-1-1")
    stubborn.set_version("3")
    deploy = stubborn.start("deploy", "dev")
    wait_for(lambda: state(stubborn, old) == "ending", "it is not told to end", timeout_s=30)
    end(deploy, signal.SIGKILL)
    assert lives(pid)
    with agent(stubborn):
        wait_for(lambda: not lives(pid), "nobody stops it", timeout_s=GRACE_S + 10)
        wait_for(lambda: state(stubborn, old) is None, "something of it is left")
    (stopping,), (gone,) = events(stubborn, "stopping", old), events(stubborn, "destroyed", old)
    assert timedelta(seconds=GRACE_S) <= at(gone) - at(stopping) < timedelta(seconds=GRACE_S + 10)
    assert at(gone) <= datetime.now(UTC)
