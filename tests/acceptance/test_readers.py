"""A group that may look: its members see what root sees, without root, and change nothing; strangers see nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, answers, end, wait_for

from instar.model.state import StateDirectory
from reader import GROUP, Reader, group_number

pytestmark = pytest.mark.root


@contextlib.contextmanager
def agent(project: Project) -> Iterator[subprocess.Popen[str]]:
    process = project.start("agent", "--check", "0.5")
    try:
        yield process
    finally:
        if process.poll() is None:
            assert end(process, signal.SIGTERM).status == 0


@pytest.fixture
def readers_socket(project: Project) -> Iterator[Path]:
    path = StateDirectory.from_environment(project.environ).readers_socket
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def nowhere() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="instar-reader-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Asking:
    """A project, and users who ask about it: a member of the group and a stranger to it."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.member = Reader(folder, groups=[group_number()])
        self.stranger = Reader(folder, number=61_235)

    def __call__(self, *words: str, who: Reader | None = None) -> tuple[int, str, str]:
        return (who or self.member).run([self.project.command[0], *words], {"INSTAR_HOME": str(self.project.home)})

    def same(self, *words: str) -> str:
        """Have root and a member ask; what both are told is the same."""
        by_root = self.project.try_instar(*words)
        status, out, _ = self(*words)
        assert (status, out) == (by_root.status, by_root.out), words
        return out


def test_a_group_looks_at_all_that_runs_and_changes_nothing(
    project: Project, nowhere: Path, readers_socket: Path
) -> None:
    ask = Asking(project, nowhere)
    project.edit("  dev:\n", "  dev:\n    access_log: true\n")
    project.instar("deploy", "dev")
    assert answers(project)
    project.set_version("2")
    project.instar("deploy", "dev")
    (project.home / "config.yaml").write_text(f"readers: {{group: {GROUP}}}\n")
    assert "it takes root" in ask("status", "hello/dev")[2]
    with agent(project) as process:
        wait_for(lambda: "may look" in (process.stdout.readline() if process.stdout else ""), "no readers")
        check_answers(ask)
        check_last_drift(ask)
        check_refusals(ask)
        check_killed_meanwhile(ask, process)
    assert f"none runs that listens at '{readers_socket}'" in ask("status")[2]
    assert not list(nowhere.iterdir()), "looking makes nothing"


def check_answers(ask: Asking) -> None:
    (serving,) = json.loads(ask("status", "--json")[1])
    assert serving["environment"] == "dev" and serving["active"] == 2
    assert json.loads(ask.same("status", "hello/dev", "--json"))["releases"][0]["instances"][0]["healthy"] is True
    assert "RELEASE" in ask("status", "hello/dev")[1] and "hello/dev" in ask("status")[1]
    assert "hello/dev" in ask.same("history", "-n", "5") and ask.same("history", "hello/dev", "--json")
    assert "serving as well" in ask.same("logs", "hello/dev")
    assert ask.same("logs", "hello/dev", "--grep", "serving", "-n", "1").count("\n") == 1
    assert json.loads(ask.same("logs", "hello/dev", "--json", "-n", "1"))["stream"] == "stdout"
    wait_for(lambda: ask("logs", "hello/dev", "--access")[1] != "", "no request is written down")
    requests = [json.loads(line) for line in ask.same("logs", "hello/dev", "--access", "--json").splitlines()]
    assert requests[0]["method"] == "GET" and requests[0]["status"] == 200
    assert ask.same("diff", "hello/dev", "--files") and json.loads(ask.same("diff", "hello/dev", "--json"))
    assert ask.same("schedule", "hello/dev", "--json") and "hello/dev" in ask("explain", "hello/dev")[1]
    (release,) = json.loads(ask("top", "hello/dev", "--json")[1])["releases"][:1]
    assert release["figures"]["memory_bytes"] is not None
    assert ask.same("status", "hello/nosuch") == "" and "no such environment" in ask("status", "hello/nosuch")[2]
    assert "never had such an instance" in ask("logs", "hello/dev", "hello-dev-9-9")[2]


def check_last_drift(ask: Asking) -> None:
    wait_for(lambda: ask("drift", "hello/dev")[0] == 0, lambda: str(ask("drift", "hello/dev")))
    assert "checked by the agent at" in ask("drift", "hello/dev")[1]
    assert json.loads(ask("drift", "hello/dev", "--json")[1])["clean"] is True
    for words in (("drift", "hello/dev", "--deep"), ("history", "--verify")):
        status, out, err = ask(*words)
        assert (status, out) == (1, "") and "takes root" in err


def check_refusals(ask: Asking) -> None:
    before = ask.project.json("history")
    for words in ("rollback hello/dev", "destroy hello/dev --yes", "schedule hello/dev run x"):
        status, out, err = ask(*words.split())
        assert (status, out) == (1, "") and f"the group '{GROUP}' may only look" in err, err
    assert ask.project.json("history") == before
    for words in ("status", "logs hello/dev", "history"):
        status, out, err = ask(*words.split(), who=ask.stranger)
        assert (status, out) == (1, "") and f"you are not in the group '{GROUP}'" in err, err


def check_killed_meanwhile(ask: Asking, process: subprocess.Popen[str]) -> None:
    words = [ask.project.command[0], "logs", "hello/dev", "--follow"]
    following = ask.member.start(words, {"INSTAR_HOME": str(ask.project.home)})
    assert following.stdout is not None and "serving" in following.stdout.readline()
    process.kill()
    process.wait()
    _, err = following.communicate(timeout=30)
    assert following.returncode == 1 and "the agent ended while it answered" in err


MACHINE_OF_ROOTS = """
mount --make-rprivate / && mount -t tmpfs tmpfs /var/lib && mkdir -m 700 /var/lib/instar &&
exec setpriv --reuid 61234 --regid 61234 --groups "$1" -- "${@:2}"
"""  # its own of all that is below /var/lib


@pytest.mark.parametrize("groups", [str(group_number()), "61234"], ids=["member", "stranger"])
def test_on_roots_machine_nothing_is_made_and_nothing_is_told_of_nothing(
    project: Project, nowhere: Path, groups: str
) -> None:
    os.chown(nowhere, 61_234, 61_234)
    environ = {"PATH": os.environ["PATH"], "HOME": str(nowhere)}
    for words in (
        "status",
        "history",
        "images",
        "gc",
        "volumes",
        "certificates",
        "rollback hello/dev",
        "backup b -r x",
    ):
        script = ["unshare", "--mount", "bash", "-c", MACHINE_OF_ROOTS, "_", groups]
        done = subprocess.run(
            [*script, project.command[0], *words.split()],
            cwd="/", env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, ""), (words, done)
        verb = words.split()[0]
        assert (
            f"cannot run 'instar {verb}" in done.stderr
            and "it takes root" in done.stderr
            and f"sudo instar {verb}" in done.stderr
        )
    assert not list(nowhere.iterdir())
