"""Which instances can be tainted, and for what reason."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import InstarError, NotFound, Refused, UsageError
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations import taint as operation
from instar.operations.taint import get_instance, get_reason, taint
from instar.providers.traits import Traits
from instar.views.break_glass import tainted_page
from simulated.values import configuration, image

DEV, LIVE = EnvironmentId(service="web", name="dev"), EnvironmentId(service="web", name="live")
NETWORK = IPv4Network("10.9.0.0/24")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    """Dev with two instances, of which one is removed, and one that runs a task; live with one."""
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        for environment, count in ((DEV, 2), (LIVE, 1)):
            ledger.save_settings(environment, Settings())
            ledger.add_release(environment, image("one").digest, configuration())
            ledger.add_instances(environment, 1, count)
        ledger.add_instances(DEV, 1, 1, task="before 1")
        ledger.remove_instance("web-dev-1-1", "over")
        package = SimpleNamespace(traits=Traits())
        yield SimpleNamespace(ledger=ledger, provider_package=lambda name: package)


@pytest.mark.parametrize(
    ("name", "kind", "said", "hint"),
    [
        ("web-dev-1-1", NotFound, "cannot find 'web-dev-1-1': it was destroyed", "there are: web-dev-1-2"),
        ("web-live-1-1", NotFound, "it is an instance of 'web/live'", "there are: web-dev-1-2"),
        ("web-dev-7-1", NotFound, "'web/dev' never had such an instance", "there are: web-dev-1-2"),
        ("web-dev-1-3", Refused, "it runs the task 'before 1'", "instar rollout abort web/dev"),
    ],
)
def test_what_is_not_an_instance_that_serves(
    workspace: Any, name: str, kind: type[InstarError], said: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        get_instance(workspace, workspace.ledger.get_environment(DEV), name)
    assert said in caught.value.message and hint in (caught.value.hint or "")


def test_a_reason_is_one_line_and_not_none() -> None:
    assert get_reason(" a\n b\t") == "a b"
    for blank in ("", " \n\t"):
        with pytest.raises(UsageError, match="without a reason"):
            get_reason(blank)


def test_the_first_reason_stays(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "agent_pid", lambda workspace: 7)
    monkeypatch.setattr(operation, "agent_in_charge", lambda workspace, traits: "the agent (process 7)")
    state = workspace.ledger.get_environment(DEV)
    first = taint(workspace, state, "web-dev-1-2", why="odd")
    again = taint(workspace, state, "web-dev-1-2", why="odder")
    assert (first.agent, first.taint.why, again.taint) == (7, "odd", first.taint)
    assert list(tainted_page(first)) == ["web-dev-1-2 is tainted; the agent (process 7) replaces it, the new one first"]
    assert [event.detail["why"] for event in workspace.ledger.history(DEV) if event.kind == "taint"] == ["odd", "odder"]
