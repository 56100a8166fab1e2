"""Who waits for an environment, for whom, and for how long: with real processes that hold it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.cancellation import Cancellation
from instar.errors import EnvironmentBusy
from instar.ledger import Ledger
from instar.model.definition import Stop
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.leading import agent_in_charge
from instar.operations.locks import agent_lock, agent_pid, environment_lock, hold_environment
from instar.providers.traits import Traits
from instar.waiting import Deadline, until
from simulated.values import ENV, configuration, image

HOLDER = """
import contextlib, sys
from ipaddress import IPv4Network
from pathlib import Path
from instar import process
from instar import locks

with contextlib.ExitStack() as held:
    if sys.argv[2]:
        held.enter_context(locks.hold(Path(sys.argv[2]), "the agent", inherited=False))
    with locks.hold(Path(sys.argv[1]), "it"):
        print(flush=True)
        process.run(["sh", "-c", f"sleep {sys.argv[3]}"], timeout_s=300)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    state = StateDirectory(tmp_path, tmp_path / "run")
    said: list[str] = []
    with Ledger(state.ledger, actor="somebody") as ledger:
        ledger.save_settings(ENV, Settings())
        yield SimpleNamespace(
            ledger=ledger,
            state=state,
            said=said,
            report=lambda progress: said.append(progress.text),
            cancellation=Cancellation(),
        )


@contextlib.contextmanager
def holder(workspace: Any, *, agent: bool, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process hold the environment for as long as a child of its lives."""
    argv = [environment_lock(workspace, ENV), agent_lock(workspace) if agent else "", str(seconds)]
    with subprocess.Popen([sys.executable, "-c", HOLDER, *argv], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_the_agent_is_waited_for_as_long_as_its_longest_hold_takes_whatever_time_instances_have_to_stop(
    workspace: Any,
) -> None:
    release = workspace.ledger.add_release(ENV, image().digest, configuration(stop=Stop(grace_ms=45_000)))
    workspace.ledger.add_instances(ENV, release.number, 1)
    with holder(workspace, agent=True, seconds=1.5) as process, hold_environment(workspace, ENV):
        assert workspace.said == [f"for the agent (process {process.pid}), which works there: 30 s at most"]


def test_what_a_dead_process_began_is_waited_for_and_a_living_one_is_not(workspace: Any) -> None:
    with holder(workspace, agent=False, seconds=1.5) as process:
        with pytest.raises(EnvironmentBusy) as busy, hold_environment(workspace, ENV):
            pass
        assert busy.value.pid == process.pid and not workspace.said
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(EnvironmentBusy), hold_environment(workspace, ENV, patient=False):
            pass
        with hold_environment(workspace, ENV):
            assert workspace.said == [f"for what process {process.pid}, which has ended, began there: 30 s at most"]


def test_a_dead_agent_is_none_although_what_it_began_goes_on(workspace: Any) -> None:
    with holder(workspace, agent=True, seconds=1.5) as process:
        assert agent_pid(workspace) == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert until(lambda: agent_pid(workspace) is None, Deadline.after(1.0), every_s=0.01)
        with hold_environment(workspace, ENV):
            assert agent_pid(workspace) is None


def test_who_is_in_charge_is_the_agent_that_leads_of_what_no_machine_has_alone(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, anywhere = Traits(), Traits(of_one_machine=False)
    assert agent_in_charge(workspace, anywhere) is None
    with holder(workspace, agent=True, seconds=1.5) as process:
        own = f"the agent (process {process.pid})"
        assert [agent_in_charge(workspace, traits) for traits in (alone, anywhere)] == [own, own]
        leading = ("the agent on web2 (process 7)", datetime.now(UTC))
        monkeypatch.setattr(workspace.ledger, "leases", SimpleNamespace(leader=lambda: leading))
        assert [agent_in_charge(workspace, traits) for traits in (alone, anywhere)] == [own, leading[0]]
        monkeypatch.undo()


def test_no_two_environments_have_one_lock(workspace: Any) -> None:
    """Those that only one of them ever had are called as they always were: an older Instar may hold them still."""
    words = ("a", "b", "c", "a-", "b-", "a--b", "b--c", "c-b")
    ids = [EnvironmentId(service=service, name=name) for service in words for name in words]
    locks = {str(one): environment_lock(workspace, one).name for one in ids}
    assert len(set(locks.values())) == len(words) ** 2
    assert locks["a/b"] == "a--b" and locks["c-b/a"] == "c-b--a"
