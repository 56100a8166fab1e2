"""What a program has that a provider runs: its role's command, its settings, streams, a log and an end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import pytest
from provider_benches import REAL_BENCHES, patiently
from provider_stage import Stage

from instar.model.configuration import Configuration
from instar.model.definition import Health, Service, Task
from instar.model.release import Command, Instance, Release
from instar.providers.base import Streams

pytestmark = pytest.mark.parametrize("stage", REAL_BENCHES, indirect=True)

WORKS = 'echo "$GREETING from a worker"; echo "careful, $GREETING" >&2; exec sleep 600'
WORKER = Service(command=("sh", "-c", WORKS), health=Health(kind="none"))
FAILING = Task(command=("sh", "-c", 'echo "$GREETING from a task"; exit 3'))
CONFIG = {"GREETING": "good day"}


@pytest.fixture
def release(stage: Stage) -> Release:
    """A release of two roles, of which one is for requests, with a task."""
    web = dataclasses.replace(stage.bench.service, before=(FAILING,))
    roles = Configuration(service=web, role="web", roles={"worker": WORKER}, config=CONFIG)
    return dataclasses.replace(stage.release, configuration=roles)


def printed(stage: Stage, one: Instance) -> list[str]:
    """Return what a group printed, in alphabetical order: an engine need not know which stream came first, or which."""
    return sorted(line.split(" ", 2)[2] for line in patiently(lambda: list(stage.provider.log_lines(one.id))))


def end(stage: Stage, one: Instance, release: Release) -> None:
    stage.bench.until(lambda: patiently(lambda: stage.provider.destroy(one, release)))
    stage.bench.until(lambda: stage.seen(one).state == "absent")


def test_each_role_runs_its_own_command_with_its_settings_and_its_lines_outlive_it(
    stage: Stage, release: Release
) -> None:
    web, worker = release.of_role("web"), release.of_role("worker")
    settings = stage.bench.settings
    members = stage.provider.layout(settings, web.service)[0]
    serving = stage.make(stage.group(members, role="web"), web)
    working = stage.make(stage.group(1, role="worker"), worker)
    for one in (serving, working):
        patiently(lambda one=one: stage.provider.start(one))  # type: ignore[misc]

    lines = ["careful, good day", "good day from a worker"]
    stage.bench.until(lambda: printed(stage, working) == lines)
    stage.bench.until(lambda: patiently(lambda: stage.provider.ask(working, worker)).healthy)
    assert not [line for line in printed(stage, serving) if "worker" in line]

    end(stage, working, worker)
    assert stage.seen(serving).state == "running", "roles end each for themselves"
    assert stage.provider.has_log(working.id)
    assert printed(stage, working) == lines
    stage.provider.forget_logs([working.id])
    assert not stage.provider.has_log(working.id)


def test_a_task_runs_once_with_the_settings_of_its_release_and_its_status_is_seen(
    stage: Stage, release: Release
) -> None:
    web = release.of_role("web")
    by_release = stage.group(1, role="web", task="before 1")
    by_clock = stage.group(
        1,
        role="worker",
        task="schedule nightly 2026-01-01T03:00:00Z",
        command=Command(argv=("sh", "-c", 'echo "$GREETING from the clock"; exit 4')),
    )
    for one, of in ((by_release, web), (by_clock, release.of_role("worker"))):
        stage.make(one, of)
        patiently(lambda one=one: stage.provider.start(one))  # type: ignore[misc]
    for one, of, text, status in (
        (by_release, web, "good day from a task", 3),
        (by_clock, release.of_role("worker"), "good day from the clock", 4),
    ):
        stage.bench.until(lambda one=one: stage.seen(one).state == "stopped")  # type: ignore[misc]
        assert stage.seen(one).exit_status == status
        assert printed(stage, one) == [text]
        end(stage, one, of)
        assert printed(stage, one) == [text]


def test_a_command_of_a_person_has_their_streams_and_its_status_is_theirs(
    stage: Stage, release: Release, tmp_path: Path
) -> None:
    runs = stage.provider.runs
    if runs is None:
        return
    web = release.of_role("web")
    script = 'read line; echo "$GREETING, $line"; echo why >&2; exit 5'
    one = stage.make(stage.group(1, role="web", task="run 1", command=Command(argv=("sh", "-c", script))), web)
    patiently(lambda: stage.provider.start(one))
    stage.bench.until(lambda: stage.seen(one).state == "running" and stage.seen(one).ready != 0)
    with contextlib.ExitStack() as opened:
        theirs, ours = os.pipe()
        out, err = (opened.enter_context((tmp_path / name).open("w+b")) for name in ("out", "err"))
        os.write(ours, b"stranger\n")
        os.close(ours)
        opened.callback(os.close, theirs)
        given = Streams(stdin=theirs, stdout=out.fileno(), stderr=err.fileno())
        attached = opened.enter_context(contextlib.closing(runs.attach(one, web, given)))
        assert attached.wait() == 5
    assert (tmp_path / "out").read_bytes() == b"good day, stranger\n"
    assert (tmp_path / "err").read_bytes() == b"why\n"
    end(stage, one, web)
