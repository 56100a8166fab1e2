"""A command in an instance of its own: what it has, what it gives back, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from project import Project, answers, end, wait_for
from typist import at_terminal

pytestmark = pytest.mark.root


MANUAL = "rollout: {strategy: canary, steps: [{weight: 50, pause: manual}]}"


@pytest.fixture
def dev(project: Project) -> Project:
    project.instar("deploy", "dev")
    return project


def tasks(project: Project) -> list[Mapping[str, Any]]:
    """Return how dev's tasks ended, oldest first."""
    return [event["detail"] for event in project.json("history", "dev") if event["kind"] == "task"]


def launches(project: Project) -> list[Mapping[str, Any]]:
    found = (event["detail"] for event in project.json("history", "dev") if event["kind"] == "launch")
    return [detail for detail in found if "task" in detail]


def left(project: Project) -> list[str]:
    """Return what is there of any but dev's one instance that serves."""
    places = [project.home / "run" / "instances", project.home / "run" / "lock"]
    names = [path.name for place in places if place.exists() for path in place.iterdir()]
    return [name for name in names if name.startswith(("hello-dev-", "run--")) and name != "hello-dev-1-1"]


def weights(project: Project) -> Mapping[int, int]:
    return {one["number"]: one["weight"] for one in project.json("status", "dev")["releases"] if one["weight"]}


@contextlib.contextmanager
def running(project: Project, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Have ``instar run dev -- WORDS`` that has said "ready", with its input open."""
    process = project.start("run", "dev", "--", *words, stdin=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_has_what_its_release_gives_an_instance_and_gives_back_what_came_of_it(dev: Project) -> None:
    script = 'cat; echo "$GREETING $INSTAR_INSTANCE $1" >&2; cat /sys/fs/cgroup/memory.max 2>/dev/null; exit 7'
    result = dev.try_instar("run", "dev", "--", "sh", "-c", script, "sh", "a b", stdin="one\ntwo\n")
    assert result.status == 7
    assert result.out.startswith("one\ntwo\n")
    assert "hello hello-dev-1-2 a b\n" in result.err
    assert "run 1 · release 1 · exit status 7" in result.err and result.err.count("exit status 7") == 1, result.err
    assert dev.instar("run", "dev", "--", "true").out == ""
    refused = dev.try_instar("run", "dev", "--toolbox", "--", "true")
    assert refused.status == 64 and "on one machine it takes no shell in the image" in refused.err, refused.err
    assert [(one["task"], one["outcome"]) for one in tasks(dev)] == [("run 1", "exit status 7"), ("run 2", "done")]
    assert launches(dev)[0]["command"] == {"argv": ["sh", "-c", script, "sh", "a b"], "terminal": None}
    assert left(dev) == []
    assert dev.instance_ids() == {"hello-dev-1-1"} and answers(dev)
    assert not any(event["kind"] == "taint" for event in dev.json("history", "dev"))
    dev.instar("history", "--verify")


def test_secrets_and_limits_are_those_of_its_role(project: Project) -> None:
    (project.folder / "token").write_text("of nobody else's")
    project.edit(
        "config: {GREETING: hello}",
        "config: {GREETING: hello}\n    secrets: {TOKEN: {file: token}, KEY: {file: token, variable: true}}",
    )
    project.instar("deploy", "dev")
    script = (
        'cat /run/secrets/TOKEN; echo; echo "$KEY"; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max '
        "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null; touch /srv/x"
    )
    result = project.try_instar("run", "dev", "--", "sh", "-c", script)
    *values, memory, processes = result.out.splitlines()
    assert values == ["of nobody else's"] * 2
    assert (memory, processes) == (str(64 << 20), "65"), "its init is one more"
    assert result.status == 1 and "Read-only file system" in result.err
    assert "nobody else" not in project.instar("history", "dev", "--json").out


def test_all_that_it_prints_comes_whole(dev: Project) -> None:
    result = dev.instar(
        "run", "dev", "--", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    )
    assert result.out.splitlines() == [f"line {i}" for i in range(20_000)]


def test_a_terminal_is_one_inside_with_its_size_and_its_keys(dev: Project) -> None:
    with at_terminal(dev, "run", "dev", "--", "sh", columns=101, rows=33) as typist:
        typist.until("$ ")
        typist.type("busybox stty size; echo $TERM; tty; echo told | cat\n")
        typist.until("33 101")
        typist.until("xterm-256color")
        typist.until("told")
        typist.resize(77, 22)
        typist.type("sleep 0.2; busybox stty size\n")
        typist.until("22 77")
        typist.type("sh -c 'echo be\"\"gun; sleep 600'\n")
        typist.until("begun")
        typist.interrupt("$ ")
        typist.type("exit 5\n")
        assert typist.end() == 5
        assert "run 1 · release 1 · exit status 5" in typist.shown
    assert left(dev) == []


def test_a_terminal_has_its_size_before_the_command_looks(dev: Project) -> None:
    for columns in range(90, 100):
        with at_terminal(dev, "run", "dev", "--", "busybox", "stty", "size", columns=columns, rows=33) as typist:
            typist.until(f"33 {columns}")
            assert typist.end() == 0


def test_what_cannot_be_run_leaves_nothing(dev: Project) -> None:
    missing = dev.try_instar("run", "dev", "--", "no-such-program")
    assert missing.status == 1 and "command as it was given" in missing.err
    assert missing.err.count("no-such-program") == 1, missing.err
    assert dev.try_instar("run", "dev").status == 64
    assert "no role 'web'" in dev.try_instar("run", "dev", "--role", "web", "--", "true").err.replace(
        "cannot find role 'web'", "no role 'web'"
    )
    assert dev.try_instar("run", "dev", "--release", "9", "--", "true").status == 1
    assert dev.try_instar("run", "nowhere", "--", "true").status == 1
    assert left(dev) == []
    (ended,) = tasks(dev)
    assert ended["task"] == "run 1" and "no-such-program" in ended["outcome"]


def test_an_interruption_reaches_the_command_which_has_its_grace(dev: Project) -> None:
    with running(dev, "sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done") as process:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert out == "told\n" and process.returncode == 130
    assert left(dev) == []
    assert [one["outcome"] for one in tasks(dev)] == ["it was interrupted"]


def test_of_one_that_is_killed_the_next_command_leaves_nothing(dev: Project) -> None:
    with running(dev, "sh", "-c", "echo ready; exec sleep 600") as process:
        assert dev.try_instar("run", "dev", "--", "true").status == 0  # beside it, which goes on
        assert "hello-dev-1-2" in left(dev)
        process.kill()
        process.wait()
    assert "hello-dev-1-2" in left(dev)
    dev.instar("agent", "--once")
    assert [name for name in left(dev) if not name.startswith("run--")] == []
    assert [(one["task"], one["outcome"]) for one in tasks(dev)] == [
        ("run 2", "done"),
        ("run 1", "given up: nobody waits for its end any more"),
    ]
    assert answers(dev)


@pytest.mark.thorough
def test_a_rollout_goes_on_beside_it_and_a_destroyed_environment_ends_it(dev: Project) -> None:
    with running(dev, "sh", "-c", "echo ready; cat") as process:
        dev.edit("config: {GREETING: hello}", "config: {GREETING: hi}")
        dev.instar("deploy", "dev")
        assert process.poll() is None and "hello-dev-1-2" in left(dev)
        out, _ = process.communicate("still there\n", timeout=60)
        assert out == "still there\n" and process.returncode == 0
    assert "hello-dev-1-2" not in left(dev)
    with running(dev, "sh", "-c", "echo ready; cat") as process:
        dev.instar("destroy", "dev", "--yes")
        process.communicate(timeout=60)
        assert process.returncode != 0


def test_it_begins_and_ends_while_a_rollout_in_the_foreground_waits(dev: Project) -> None:
    dev.edit("config: {GREETING: hello}", f"{MANUAL}\n    config: {{GREETING: hi}}")
    deploy = dev.start("deploy", "dev", "--json")
    wait_for(lambda: weights(dev) == {1: 50, 2: 50}, "the canary never took its share")
    script = 'cat; echo "$GREETING $INSTAR_INSTANCE"'
    result = dev.try_instar("run", "dev", "--", "sh", "-c", script, stdin="one\n")
    assert (result.status, result.out) == (0, "one\nhello hello-dev-1-2\n"), result.err
    assert dev.instar("run", "dev", "--release", "2", "--", "sh", "-c", script).out == "hi hello-dev-2-2\n"
    assert left(dev) == ["hello-dev-2-1"] and weights(dev) == {1: 50, 2: 50}
    with running(dev, "sh", "-c", "echo ready; cat") as killed, running(dev, "sh", "-c", "echo ready; cat") as process:
        end(killed, signal.SIGKILL)
        wait_for(lambda: "hello-dev-1-3" not in left(dev), "what was killed is left", timeout_s=20)
        dev.instar("rollout", "resume", "dev")
        out, err = deploy.communicate(timeout=60)
        assert deploy.returncode == 0 and json.loads(out)["outcome"] == "done", err
        out, _ = process.communicate("still there\n", timeout=60)
        assert out == "still there\n" and process.returncode == 0
    assert weights(dev) == {2: 100}
    assert [one["outcome"] for one in tasks(dev)] == [
        "done",
        "done",
        "given up: nobody waits for its end any more",
        "done",
    ]
    assert [name for name in left(dev) if not name.startswith("run--")] == ["hello-dev-2-1"]
    dev.instar("history", "--verify")


@pytest.mark.thorough
def test_an_exclusive_volume_is_shared_within_a_release_and_held_against_another(project: Project) -> None:
    project.edit("  limits:", "  volumes: [{name: data, path: /data}]\n  limits:")
    project.edit("    instances: 2\n", "")
    project.instar("deploy", "dev")
    project.instar("run", "dev", "--", "sh", "-c", "echo kept >/data/own")
    assert project.instar("run", "dev", "--", "cat", "/data/own").out == "kept\n"
    with running(project, "sh", "-c", "echo ready; cat") as process:
        project.edit("config: {GREETING: hello}", "config: {GREETING: hi}")
        refused = project.try_instar("deploy", "dev")
        assert refused.status == 1 and "run 3" in refused.err and "'data'" in refused.err
        assert answers(project)
        process.communicate("", timeout=60)
    project.instar("deploy", "dev")
    other = project.try_instar("run", "dev", "--release", "1", "--", "true")
    assert other.status == 1 and "is exclusive" in other.err


@pytest.mark.thorough
def test_it_is_refused_while_an_environment_is_changed_by_others(dev: Project) -> None:
    lock = dev.home / "run" / "lock" / "hello--dev"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(str(os.getpid()))
        held.flush()
        assert dev.try_instar("run", "dev", "--", "true").status == 75
    assert left(dev) == []


@pytest.mark.thorough
def test_whenever_it_is_killed_nothing_is_left(dev: Project) -> None:
    for step in range(14):
        process = dev.start("run", "dev", "--", "sh", "-c", "sleep 0.3")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25 + step * 0.09)
        process.kill()
        process.communicate()
        assert dev.try_instar("run", "dev", "--", "true").status == 0
        assert [name for name in left(dev) if not name.startswith("run--")] == [], f"after {step}"
    assert dev.instance_ids() == {"hello-dev-1-1"} and answers(dev)
    dev.instar("history", "--verify")
