"""Checks while everything moves: no exception comes out of one, and nothing is found."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import busy
import load
import pytest
from busy import Checker
from project import Project, wait_for

from instar.drift.check import Checked
from instar.errors import NotFound

pytestmark = [pytest.mark.root, pytest.mark.thorough]

ROUNDS = [1, pytest.param(15, marks=pytest.mark.long)]
STRATEGIES = {
    "blue-green": "rollout: {strategy: blue-green}",
    "canary": "rollout: {strategy: canary, steps: [20, 60], pause: 200ms}",
    "rolling": "rollout: {strategy: rolling, batch: 1}",
}

# orphans, sessions of their own, and children that are gone before anybody has looked
STORM = """\
#!/bin/sh
busybox httpd -f -p 8080 -h /srv/www &
while :; do
  for number in 1 2 3 4 5 6; do true | cat | sort & done
  (sleep 0.05 &)
  (setsid sh -c 'sleep 0.2 & sleep 0.1' &)
  wait_for=$(cat /srv/version)
  sleep 0.01
done
"""


@dataclass
class Watch:
    """What the checks of one thread saw."""

    service: str
    environment: str
    checks: list[Checked] = field(default_factory=list)
    absent: int = 0
    failure: BaseException | None = None

    def seen(self) -> int:
        return sum(bool(one.instances) for one in self.checks)


@contextlib.contextmanager
def checked(project: Project, service: str = "hello", environment: str = "dev") -> Iterator[Watch]:
    """Check again and again inside; what was found, or came out, fails the test."""
    watch, stop = Watch(service, environment), threading.Event()

    def go_on() -> None:
        checker = Checker(project, service, environment)
        while not stop.is_set() and watch.failure is None:
            try:
                watch.checks.append(checker.check(deep=len(watch.checks) % 7 == 6))
            except NotFound:
                watch.absent += 1  # the environment is destroyed just now
                time.sleep(0.01)
            except BaseException as error:
                watch.failure = error

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
    if watch.failure is not None:
        raise watch.failure


@pytest.mark.parametrize("rounds", ROUNDS)
def test_while_processes_come_and_go(project: Project, rounds: int) -> None:
    (project.folder / "app/serve").write_text(STORM)
    project.instar("deploy", "dev")
    with checked(project) as watch:
        time.sleep(rounds)
    assert watch.seen() > rounds


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("strategy", [pytest.param("blue-green", marks=pytest.mark.long), "canary", "rolling"])
def test_while_releases_are_rolled_out_and_back(project: Project, strategy: str, rounds: int) -> None:
    project.edit(
        "config: {GREETING: hello}", f"instances: 2\n    {STRATEGIES[strategy]}\n    config: {{GREETING: hello}}"
    )
    project.instar("deploy", "dev")
    with (
        checked(project) as watch,
        checked(project) as other,
        load.running(project.url(), "--rate", "50", "--connections", "4") as traffic,
    ):
        for number in range(rounds):
            project.set_version(f"1.{number}")
            project.instar("deploy", "dev")
            project.instar("rollback", "dev")
        report = traffic.stop()
        wait_for(lambda: watch.checks[-1].at_rest or watch.failure is not None, "never at rest again")
    assert report["failed"] == 0, report
    checks = watch.checks + other.checks
    assert any(not one.at_rest for one in checks) and any(one.at_rest for one in checks), "both were seen"


@pytest.mark.parametrize("rounds", ROUNDS)
def test_while_the_environment_is_destroyed_and_made(project: Project, rounds: int) -> None:
    project.edit("config: {GREETING: hello}", "instances: 2\n    config: {GREETING: hello}")
    project.instar("deploy", "dev")
    with checked(project) as watch, checked(project) as other:
        for number in range(1 + rounds):
            project.instar("destroy", "dev", "--yes")
            if number % 2:
                project.instar("gc")
            project.instar("deploy", "dev")
    assert watch.seen() and other.seen() and watch.absent


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.long)])  # one less than the agent's budget
def test_while_the_agent_replaces_what_was_killed(project: Project, rounds: int) -> None:
    project.edit("config: {GREETING: hello}", "instances: 2\n    drift: {check: 1s}\n    config: {GREETING: hello}")
    project.edit("health: {path: /cgi-bin/health, ", "health: {command: [test, -d, /srv], ")
    project.instar("deploy", "dev")
    agent = project.start("agent", "--check", "0.5")
    try:
        wait_for(lambda: project.json("status", "dev")["agent"] is not None, "no agent")
        with checked(project) as watch, busy.probed(project, "hello"):
            for _ in range(rounds):
                _kill_one(project)
        assert watch.seen()
    finally:
        agent.terminate()
        agent.communicate(timeout=40)
    kinds = [event["kind"] for event in project.json("history", "dev")]
    assert "drift" not in kinds and "router-restored" not in kinds, "the agent's own checks found something"


def _kill_one(project: Project) -> None:
    """End an instance's first process, and wait until another instance stands in for it."""
    checker = Checker(project, "hello")
    before = [one.id for one in checker.workspace.ledger.instances(checker.environment) if one.made]
    name = before[0]
    os.kill(project.pid(name), signal.SIGKILL)

    def replaced() -> bool:
        there = [
            one.id for one in checker.workspace.ledger.instances(checker.environment) if one.started_at is not None
        ]
        return name not in there and len(there) >= 2

    wait_for(replaced, "it was not replaced", timeout_s=40)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_while_commands_check_its_health_in_a_storm(project: Project, rounds: int) -> None:
    (project.folder / "app/serve").write_text(STORM)
    project.edit("health: {path: /cgi-bin/health, ", "health: {command: [env, -i, /bin/sh, -c, 'sleep 0.7'], ")
    project.edit("deadline: 4s", "deadline: 20s")
    project.edit("timeout: 1s", "timeout: 5s")
    project.instar("deploy", "dev")
    with checked(project) as watch, busy.probed(project, "hello", threads=3) as said:
        time.sleep(1 + rounds)
    assert watch.seen() and said and all(said)


def test_an_instance_that_stops_while_it_is_looked_at(project: Project) -> None:
    """Its first process is stopped and continued: nothing of it is another's meanwhile."""
    project.instar("deploy", "dev")
    checker = Checker(project, "hello")
    pid = busy.served_by(checker)
    with checked(project) as watch:
        for _ in range(10):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.03)
            os.kill(pid, signal.SIGCONT)
    assert watch.seen()
