"""A machine that is gone for good: what it had is given up in the ledger, which stays provable, and made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_benches import LedgerBench

from instar.definition import Loaded, load
from instar.errors import EnvironmentBusy, Refused
from instar.ledger import Ledger, boots
from instar.model.happenings import MachineLost
from instar.model.release import EnvironmentId
from instar.operations.agent import Agent
from instar.operations.converge import clear_orphans
from instar.operations.deploy import deploy
from instar.operations.destroy import give_up
from instar.operations.locks import hold_environment
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV, STAGING = (EnvironmentId(service="web", name=name) for name in ("dev", "staging"))
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev: {listen: 127.0.0.1:8080, instances: 2}
  staging: {listen: 127.0.0.1:8081}
"""
LOST, THERE = "lost (0a1b2c)", "there (3d4e5f)"


class Machine(SimulatedWorkspace):
    def __init__(self, path: Path, name: str, ledger: Ledger) -> None:
        super().__init__(path, ledger=ledger)
        self.name = name

    @property
    def machine(self) -> str:
        return self.name

    def deploy(self, loaded: Loaded, name: str) -> None:
        assert deploy(self, loaded, name, image=self.bake("one").digest).outcome == "done"
        self.ledger.set_machine(EnvironmentId(service="web", name=name), self.machine)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


@pytest.fixture
def machines(bench: LedgerBench, tmp_path: Path, loaded: Loaded) -> tuple[Machine, Machine]:
    """The one that will be lost, with two environments, and another."""
    lost, there = Machine(tmp_path / "a", LOST, bench.open()), Machine(tmp_path / "b", THERE, bench.open())
    lost.deploy(loaded, "dev")
    lost.deploy(loaded, "staging")
    return lost, there


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "SILENT_FOR_S", 0.0)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("word", [LOST, "lost"])
def test_what_it_had_is_gone_and_can_be_made_elsewhere(
    machines: tuple[Machine, Machine], loaded: Loaded, word: str
) -> None:
    lost, there = machines
    there.ledger.add_release(DEV, there.bake("two").digest, there.ledger.get_release(DEV, 1).configuration)
    rollout = there.ledger.begin_rollout(DEV, "deploy", 2)
    give_up(there, there.ledger.get_environment(DEV), word)
    assert there.ledger.find_environment(DEV) is None and there.ledger.get_rollout(rollout.id).state == "failed"
    assert [one.environment for one in there.ledger.instances()] == [STAGING]
    told = [event.what for event in there.ledger.history(DEV) if isinstance(event.what, MachineLost)]
    assert len(told) == 1 and told[0].machine == LOST and bool(told[0].heard_at) == there.ledger.shared
    there.ledger.verify()
    there.deploy(loaded, "dev")
    state = there.ledger.get_environment(DEV)
    assert (state.machine, state.active) == (THERE, 3)
    there.ledger.verify()
    assert set(lost.simulation.runtime.traces()) == {"web-dev-1-1", "web-dev-1-2", "web-staging-1-1"}


@pytest.mark.usefixtures("silent")
def test_one_that_comes_back_ends_what_it_still_runs_of_it(machines: tuple[Machine, Machine], loaded: Loaded) -> None:
    lost, there = machines
    give_up(there, there.ledger.get_environment(DEV), LOST)
    there.deploy(loaded, "dev")
    assert lost.simulation.router.serving(DEV)
    clear_orphans(lost, lost.simulation.provider)
    assert set(lost.simulation.runtime.traces()) == {"web-staging-1-1"}
    assert lost.simulation.router.serving(STAGING)
    if lost.ledger.shared:
        assert lost.simulation.router.observe(DEV).plan is None
        with pytest.raises(Refused, match=r"its instances are on there"), hold_environment(lost, DEV):
            pass
    assert set(there.simulation.router.serving(DEV)) == {"web-dev-2-1", "web-dev-2-2"}


@pytest.mark.usefixtures("silent")
def test_its_agent_ends_that_also_where_it_has_nothing_else(machines: tuple[Machine, Machine]) -> None:
    lost, there = machines
    for environment in (DEV, STAGING):
        give_up(there, there.ledger.get_environment(environment), LOST)
    heard = Heard()
    agent = Agent(lost, heard)
    assert agent.once() and not heard.errors
    if lost.ledger.shared:
        assert lost.simulation.runtime.traces() == ()


@pytest.mark.usefixtures("silent")
def test_only_what_is_on_the_named_machine_is_given_up(machines: tuple[Machine, Machine]) -> None:
    lost, there = machines
    state = there.ledger.get_environment(DEV)
    before = there.ledger.history()
    for workspace, word in ((there, "other"), (there, THERE), (there, "los"), (lost, LOST)):
        with pytest.raises(Refused, match=r"its instances are on lost \(0a1b2c\)"):
            give_up(workspace, state, word)
    assert there.ledger.history() == before


def test_one_that_was_heard_of_lately_is_not_lost(machines: tuple[Machine, Machine]) -> None:
    lost, there = machines
    if not there.ledger.shared:
        return  # who has a ledger alone shares it with nobody who could be heard of
    before = there.ledger.history()
    with pytest.raises(Refused, match=r"cannot give up what is on lost \(0a1b2c\): it acted last \d+ s ago"):
        give_up(there, there.ledger.get_environment(DEV), LOST)
    with hold_environment(lost, DEV), pytest.raises(EnvironmentBusy):
        give_up(there, there.ledger.get_environment(DEV), LOST)
    assert there.ledger.history() == before
