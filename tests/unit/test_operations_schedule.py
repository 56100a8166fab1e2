"""``instar schedule``: what was begun of each entry last, by whomever, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.definition import Loaded, load
from instar.errors import NotFound
from instar.model.environment import Settings
from instar.model.occurrence import Occurrence
from instar.model.release import Command, EnvironmentId
from instar.model.schedule import Begun
from instar.operations.deploy import deploy
from instar.operations.schedule import await_end, begin_now, schedule
from instar.views.page import Table
from instar.views.schedules import ended_page, schedule_json, schedule_page
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev:
    listen: 127.0.0.1:8080
    schedule:
      nightly: {command: [report], cron: "0 3 * * *"}
      poll: {command: [poll], every: 15m}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def page(workspace: SimulatedWorkspace) -> str:
    parts = schedule_page(schedule(workspace, workspace.ledger.get_environment(DEV)))
    return "\n".join("\n".join(part.lines()) if isinstance(part, Table) else part for part in parts)


def begun(workspace: SimulatedWorkspace, occurrence: Occurrence, outcome: str | None, *lines: str) -> Begun:
    command = Command(argv=("report",))
    instance = workspace.ledger.schedules.begin(DEV, 1, occurrence, command)
    assert instance is not None
    if outcome is not None:
        workspace.ledger.end_task(DEV, 1, occurrence.name, outcome, {"last_lines": lines})
    name = occurrence.name.removeprefix("schedule ")
    return Begun(environment=DEV, release=1, task=name, instance=instance.id, agent=None)


def test_before_the_first_release_it_is_said_that_none_is_active(workspace: SimulatedWorkspace) -> None:
    workspace.ledger.save_settings(DEV, Settings())
    assert page(workspace) == (
        "no release of web/dev is active, so nothing begins by the clock; instar deploy makes one"
    )


def test_what_somebody_had_begin_is_the_last_where_it_is(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    assert page(workspace).count("never") == 2 and "every 15m" in page(workspace)
    begun(workspace, Occurrence(entry="nightly", number=1), "done")
    begun(workspace, Occurrence(entry="nightly", number=2), "exit status 3")
    shown = page(workspace)
    assert shown.count("never") == 1 and " by hand  exit status 3" in shown
    workspace.simulation.clock.sleep(5)
    due = workspace.ledger.now().replace(microsecond=0)
    begun(workspace, Occurrence(entry="nightly", due_at=due), "done")
    shown = page(workspace)
    assert f"{due:%Y-%m-%d %H:%M:%S}  done" in shown and "by hand" not in shown
    (nightly, poll) = schedule_json(schedule(workspace, workspace.ledger.get_environment(DEV)))["schedule"]
    assert nightly["last"]["due_at"] == due and nightly["by_hand"]["task"] == "nightly by hand 2"
    assert (poll["last"], poll["by_hand"]) == (None, None)


def test_the_last_lines_of_a_command_that_failed_are_shown(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    one = begun(workspace, Occurrence(entry="nightly", number=1), "exit status 3", "2026-01-01T00:00:00Z stderr no db")
    ended = await_end(workspace, one)
    assert list(ended_page(one, ended)) == [
        "nightly by hand 1 ended: exit status 3",
        "last lines of its log:",
        "  no db",
    ]
    two = begun(workspace, Occurrence(entry="nightly", number=2), "done", "2026-01-01T00:00:00Z stdout fine")
    assert list(ended_page(two, await_end(workspace, two))) == ["nightly by hand 2 ended: done"]


def test_an_entry_that_is_not_there_is_answered_with_the_nearest(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    with pytest.raises(NotFound, match="release 1 has no such entry in its schedule") as told:
        begin_now(workspace, workspace.ledger.get_environment(DEV), "nihgtly")
    assert told.value.hint == "did you mean 'nightly'? there are nightly, poll"
