"""Whose logs and history a word names, also when they are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import NotFound
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import Ending, EnvironmentId, Instance
from instar.operations.environments import find_environment_id
from instar.operations.logs import Wanted, endings, logs
from instar.providers.base import Observation, Observed, Traffic
from simulated.values import configuration, image

DEV = EnvironmentId(service="web", name="dev")


class Printed:
    """A provider of which only the logs are asked for."""

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        yield f"2026-01-01T00:00:00Z stdout {instance_id}"
        if instance_id == "web-dev-1-3":
            raise OSError("the disk is gone")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    """With an environment of three instances, the first of which is removed."""
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image("one").digest, configuration())
        ledger.add_instances(DEV, 1, 3)
        ledger.remove_instance("web-dev-1-1", "over")
        ledger.set_active(DEV, 1)
        yield SimpleNamespace(ledger=ledger, provider=lambda name: Printed())


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("word", ["nosuch", "../secret", "web-dev-1-4"])
def test_an_instance_that_the_place_never_had_is_not_looked_for(workspace: Any, word: str, follow: bool) -> None:
    with pytest.raises(NotFound, match="never had such an instance") as caught:
        list(logs(workspace, workspace.ledger.get_environment(DEV), Wanted(instance=word), follow=follow))
    assert caught.value.hint == "the newest are: web-dev-1-3, web-dev-1-2, web-dev-1-1"


@pytest.mark.parametrize("follow", [False, True])
def test_a_removed_instance_s_log_is_shown_and_following_it_ends(workspace: Any, follow: bool) -> None:
    wanted = Wanted(instance="web-dev-1-1")
    (line,) = logs(workspace, workspace.ledger.get_environment(DEV), wanted, follow=follow)
    assert line.instance == "web-dev-1-1"


def test_following_ends_with_the_error_of_any_reader(workspace: Any) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        list(logs(workspace, workspace.ledger.get_environment(DEV), Wanted(), follow=True))


def test_the_history_of_what_is_gone_is_found_by_its_events(workspace: Any) -> None:
    ledger: Ledger = workspace.ledger
    for instance in ledger.instances(DEV):
        ledger.remove_instance(instance.id, "over")
    ledger.remove_environment(DEV)
    assert find_environment_id(ledger, "web/dev", None) == find_environment_id(ledger, "dev", "web") == DEV
    for word, service in (("dev", None), ("devv", "web"), ("web/devv", None)):
        with pytest.raises(NotFound):
            find_environment_id(ledger, word, service)


def test_the_end_of_a_log_says_how_the_instance_ended(workspace: Any) -> None:
    environment, gone = workspace.ledger.get_environment(DEV), Wanted(instance="web-dev-1-1")
    assert list(endings(workspace, environment, gone, ())) == [], "an older Instar removed it without a word"
    starved = Ending(reason="out-of-memory", at=workspace.ledger.now(), why="killed: out of memory", exit_status=137)
    workspace.ledger.set_ending("web-dev-1-2", starved)
    written = workspace.ledger.find_ending("web-dev-1-2").at
    workspace.provider = lambda name: SimpleNamespace(observe=_one_that_ended)
    assert list(endings(workspace, environment, Wanted(), ())) == [
        ("web-dev-1-2", f"killed: out of memory ({written:%Y-%m-%d %H:%M:%S} UTC)"),
        ("web-dev-1-3", "exit status 3"),
    ]
    workspace.ledger.remove_instance("web-dev-1-2", "it ended")
    assert [name for name, _ in endings(workspace, environment, Wanted(instance="web-dev-1-2"), ())] == ["web-dev-1-2"]


def _one_that_ended(environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
    seen = Observed(id=groups[0].id, state="stopped", exit_status=3)
    return Observation(groups=(seen,), traffic=Traffic())
