"""Commands by the clock as a user has them: the agent begins each once, and says what came of it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from project import Project, answers, end, wait_for

pytestmark = pytest.mark.root

SCHEDULE = """\
    schedule:
      often: {command: [sh, -c, 'echo at $INSTAR_RELEASE'], every: 10s}
      failing: {command: [sh, -c, 'echo no; exit 3'], every: 10s, retries: 1}
      never: {command: [no-such-program], cron: '0 3 * * *', zone: Europe/Berlin}
"""


@pytest.fixture
def dev(project: Project) -> Project:
    project.edit("config: {GREETING: hello}\n", f"config: {{GREETING: hello}}\n{SCHEDULE}")
    project.instar("deploy", "dev")
    return project


@contextlib.contextmanager
def agent(project: Project) -> Iterator[None]:
    process = project.start(
        "agent", "--notify-command", f"sh -c 'cat >>{project.home}/told; echo >>{project.home}/told'"
    )
    try:
        yield
    finally:
        end(process, signal.SIGTERM)


def tasks(project: Project) -> list[Mapping[str, Any]]:
    return [event["detail"] for event in project.json("history", "dev") if event["kind"] == "task"]


def launched(project: Project, entry: str) -> list[str]:
    found = (event["detail"].get("task") for event in project.json("history", "dev") if event["kind"] == "launch")
    return [task for task in found if task and task.startswith(f"schedule {entry} ")]


def outcomes(project: Project, entry: str) -> list[str]:
    return [one["outcome"] for one in tasks(project) if one["task"].startswith(f"schedule {entry} ")]


def test_the_agent_begins_each_once_and_tries_again_what_fails(dev: Project) -> None:
    listed = {one["name"]: one for one in dev.json("schedule", "dev")["schedule"]}
    assert listed.keys() == {"often", "failing", "never"} and listed["often"]["last"] is None
    assert "nobody begins them" in dev.instar("schedule", "dev").out
    with agent(dev):
        wait_for(lambda: outcomes(dev, "often") and len(outcomes(dev, "failing")) >= 2, "it begins", timeout_s=60)
    dev.instar("agent", "--once")
    told = [json.loads(line) for line in (dev.home / "told").read_text().splitlines()]
    noticed = {one["text"] for one in told if one["kind"] == "task"}
    assert any("failing" in text and "exit status 3" in text for text in noticed), "who is told of failures hears of it"
    assert not any("often" in text for text in noticed), "and of nothing that went well"
    shown = dev.instar("schedule", "dev").out
    assert "what 'failing' printed last: instar logs hello/dev hello-dev-1-" in shown and "'often' printed" not in shown
    assert set(outcomes(dev, "often")) == {"done"} and set(outcomes(dev, "failing")) == {"exit status 3"}
    often = launched(dev, "often")
    assert len(often) == len(set(often)), "each time once"
    failing = launched(dev, "failing")
    assert len(failing) == len(set(failing)) and failing[1] == f"{failing[0]} try 02"
    assert launched(dev, "never") == []
    listed = {one["name"]: one for one in dev.json("schedule", "dev")["schedule"]}
    assert listed["often"]["last"]["outcome"] == "done" and listed["never"]["last"] is None
    last = [one["last_lines"] for one in tasks(dev) if one["task"] == often[0]]
    assert "at 1" in json.dumps(last)
    assert dev.instance_ids() == {"hello-dev-1-1"} and answers(dev)
    dev.instar("history", "--verify")


def test_one_is_begun_by_hand_and_a_release_takes_its_schedule_along(dev: Project) -> None:
    begun = dev.json("schedule", "dev", "run", "often")
    assert begun["task"] == "often by hand 1" and begun["release"] == 1
    # each look of the agent may begin one that the clock wants as well
    hand = "often by hand"
    wait_for(lambda: (dev.instar("agent", "--once"), outcomes(dev, hand))[1] == ["done"], "it ends", timeout_s=60)
    missing = dev.try_instar("schedule", "dev", "run", "never")
    assert missing.status == 1 and "no-such-program" in missing.err
    unknown = dev.try_instar("schedule", "dev", "run", "other")
    assert unknown.status == 1 and "there are failing, never, often" in unknown.err
    dev.edit(SCHEDULE, "    schedule: {later: {command: ['true'], cron: '0 3 * * *'}}\n")
    assert "no agent runs here" in dev.instar("deploy", "dev").err
    assert [one["name"] for one in dev.json("schedule", "dev")["schedule"]] == ["later"]
    dev.instar("rollback", "dev")
    assert len(dev.json("schedule", "dev")["schedule"]) == 3


def test_one_that_never_ends_has_its_time_and_what_serves_goes_on(dev: Project) -> None:
    endless = "{command: [sh, -c, 'trap \"\" TERM; echo begun; exec sleep 600'], every: 10s, timeout: 1s}"
    dev.edit(SCHEDULE, f"    schedule: {{endless: {endless}}}\n")
    dev.instar("deploy", "dev")
    late = "it did not end within 1 s"
    with agent(dev):
        wait_for(lambda: outcomes(dev, "endless").count(late) >= 2, "it goes on for ever", timeout_s=90)
        assert answers(dev)
    wait_for(
        lambda: (dev.instar("agent", "--once"), len(launched(dev, "endless")) == len(outcomes(dev, "endless")))[1],
        "it is not ended",
        timeout_s=60,
    )
    assert set(outcomes(dev, "endless")) == {late}
    told = [json.loads(line)["text"] for line in (dev.home / "told").read_text().splitlines()]
    assert any("endless" in text and late in text for text in told)
    (last,) = (one["last"] for one in dev.json("schedule", "dev")["schedule"])
    assert last["outcome"] == late
    wait_for(lambda: len(dev.instance_ids()) == 2, "it is there still: the active one and the hot one are to be alone")
    assert "endless" not in "".join(dev.traces())


@pytest.mark.thorough
def test_an_agent_that_is_killed_again_and_again_begins_each_once(dev: Project) -> None:
    for seconds in (0.9, 1.1, 1.3, 1.7, 2.1, 2.9, 4.3, 5.9):
        process = dev.start("agent")
        with contextlib.suppress(Exception):
            process.wait(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with agent(dev):
        wait_for(lambda: len(outcomes(dev, "often")) >= 2, "it goes on", timeout_s=90)
    often = launched(dev, "often")
    assert len(often) == len(set(often))
    assert set(outcomes(dev, "often")) <= {"done", "nobody saw how it ended"}
