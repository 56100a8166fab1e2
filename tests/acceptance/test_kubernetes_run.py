"""A command in a pod of its own: what it has, what it gives back, and that nothing of it is left."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_kubernetes_shell import Terminal

from instar.model.occurrence import Occurrence
from instar.model.release import Command, EnvironmentId, Instance
from instar.providers.kubernetes.kinds import JOB, POD
from instar.providers.kubernetes.names import GROUP, job_name
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, authoring

pytestmark = pytest.mark.cluster
INSTAR = (sys.executable, "-c", MAIN)


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.write()
        made.deploy()
        yield made


def tasks(author: Author) -> list[tuple[str, str]]:
    found = (one["detail"] for one in author.json("history", "prod") if one["kind"] == "task")
    return [(one["task"], one["outcome"]) for one in found]


def left(author: Author) -> list[str]:
    """Return the Jobs and pods of any but the instance that serves."""
    api, namespace = author.namespace.api, author.namespace.name
    pods = [one for one in api.list(POD, namespace, {}) if one["metadata"]["labels"].get(GROUP) != "shop-prod-1-1"]
    return [str(one["metadata"]["name"]) for one in (*api.list(JOB, namespace, {}), *pods)]


def begun(author: Author, *words: str) -> subprocess.Popen[str]:
    environ = {**author.namespace.environ, "PYTHONPATH": ":".join(sys.path)}
    return subprocess.Popen(
        (*INSTAR, *words),
        cwd=author.folder,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_has_what_its_release_gives_a_pod_and_gives_back_what_came_of_it(author: Author) -> None:
    script = 'cat; echo "$INSTAR_ENVIRONMENT $1" >&2; cat /run/secrets/*; exit 7'
    process = begun(author, "run", "prod", "--", "sh", "-c", script, "sh", "a b")
    out, err = process.communicate("one\ntwo\n", timeout=180)
    assert process.returncode == 7, err
    assert out.startswith("one\ntwo\n") and "s3cret" in out
    assert "prod a b\n" in err and "run 1 · release 1 · exit status 7" in err
    assert tasks(author) == [("run 1", "exit status 7")]
    assert until(lambda: left(author) == [], Deadline.after(60), every_s=0.5), left(author)

    terminal = Terminal(author, "run", "prod", "--", "sh")
    terminal.await_shown(lambda shown: "$ " in shown or "# " in shown)
    terminal.typed("echo $((6*7)) $TERM; stty size\n")
    terminal.await_shown(lambda shown: "42 vt100" in shown and "31 97" in shown)
    terminal.typed("exit 5\n")
    assert terminal.end() == 5, terminal.shown

    missing = author.run(*INSTAR, "run", "prod", "--", "no-such-program")
    assert missing.returncode == 1 and "no-such-program" in missing.stderr
    assert [name for name, _ in tasks(author)] == ["run 1", "run 2", "run 3"]
    assert until(lambda: left(author) == [], Deadline.after(60), every_s=0.5), left(author)
    assert not any(one["kind"].endswith("taint") for one in author.json("history", "prod"))


def test_an_interruption_reaches_it_and_of_one_that_is_killed_nothing_is_left(author: Author) -> None:
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    process = begun(author, "run", "prod", "--", "sh", "-c", script)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "told\n"), err

    process = begun(author, "run", "prod", "--", "sh", "-c", "echo ready; sleep 600")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate(timeout=60)
    assert left(author) != []
    author.instar("agent", "--once")
    assert until(lambda: left(author) == [], Deadline.after(60), every_s=0.5), left(author)
    assert [outcome for _, outcome in tasks(author)][1:] == ["given up: nobody waits for its end any more"]


def test_what_is_due_by_the_clock_is_a_job_and_is_begun_once(tmp_path: Path) -> None:
    with authoring(tmp_path) as author:
        schedule = "schedule: {often: {command: [sh, -c, 'echo $INSTAR_RELEASE'], every: 10s}}"
        author.write(settings=schedule)
        author.deploy()
        named = set[str]()

        def ended() -> bool:
            author.instar("agent", "--once")
            found = author.namespace.api.list(JOB, author.namespace.name, {})
            named.update(str(one["metadata"]["name"]) for one in found)
            return sum(outcome == "done" for _, outcome in tasks(author)) >= 2

        assert until(ended, Deadline.after(150), every_s=1), tasks(author)
        launches = [one["detail"] for one in author.json("history", "prod") if one["kind"] == "launch"]
        begun_tasks = [one["task"] for one in launches if "task" in one]
        assert len(begun_tasks) == len(set(begun_tasks)) >= 2
        assert author.json("schedule", "prod")["schedule"][0]["last"]["task"].startswith("often 20")
        assert named and all(re.fullmatch(r"shop-prod-often-20[0-9]{12}-[0-9a-f]{8}", one) for one in named), named


def test_a_job_of_somebody_else_s_in_its_place_is_told_and_left(tmp_path: Path) -> None:
    with authoring(tmp_path) as author:
        api, where = author.namespace.api, author.namespace.name
        author.write(settings="schedule: {often: {command: [sh, -c, exit], every: 10s}}")
        author.deploy()
        first = datetime.fromtimestamp(time.time() // 10 * 10, UTC)
        for number in range(16):  # the first may be due yet
            at = Occurrence(entry="often", due_at=first + number * timedelta(seconds=10))
            name = job_name(due(at.name))
            pod = {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "x"}]}
            spec = {"suspend": True, "template": {"spec": pod}}
            api.create(JOB, where, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})

        def told() -> bool:
            author.instar("agent", "--once")
            return any("it is not Instar's for 'shop/prod'" in str(outcome) for _, outcome in tasks(author))

        assert until(told, Deadline.after(100), every_s=1), tasks(author)
        assert len(api.list(JOB, where, {})) == 16, "each is as it was, and there is no other"
        assert not any(outcome == "done" for _, outcome in tasks(author))


def due(task: str) -> Instance:
    environment = EnvironmentId(service="shop", name="prod")
    command, at = Command(argv=("true",)), datetime.now(UTC)
    return Instance(
        id="shop-prod-1-9", serial=9, environment=environment, release=1, created_at=at, task=task, command=command
    )


def test_where_the_image_has_no_shell_a_toolbox_waits_for_the_command(author: Author) -> None:
    from kubernetes_namespace import image_without_shell

    with_shell = f"{author.namespace.registry}/shop@{author.image}"
    author.image = image_without_shell(author.folder).digest
    author.write(section=f', toolbox: "{with_shell}"', command=["/bin/httpd", "-f", "-p", "8080", "-h", "/srv"])
    author.deploy()
    refused = author.instar("run", "prod", "--", "/bin/httpd", "-e", "a b", status=1)
    assert "add --toolbox" in refused, refused
    asked = author.verb("run", "prod", "--toolbox", "--", "/bin/httpd", "-e", "a b")
    assert (asked.returncode, asked.stdout) == (0, "a&#32;b"), asked.stderr
    terminal = Terminal(author, "run", "prod", "--toolbox", "--", "/bin/httpd", "-e", "a b")
    assert terminal.end() == 0 and "a&#32;b" in terminal.shown, terminal.shown
    api, where = author.namespace.api, author.namespace.name
    assert until(lambda: not api.list(JOB, where, {}), Deadline.after(60), every_s=0.5)
