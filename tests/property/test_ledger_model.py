"""Any order of writes, refusals, failures and restarts leaves the ledger as a simple model of it says."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from instar.errors import InstarError, NotFound, Refused
from instar.ledger import Ledger
from instar.ledger.chain import detail_text, link, word
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.local.addresses import next_free
from postgres import PostgresServer
from simulated import VirtualClock
from simulated.values import configuration, image, note

ENVIRONMENTS = st.sampled_from(
    [EnvironmentId(service=service, name=name) for service, name in (("a", "b-c"), ("a-b", "c"), ("x", "dev"))]
)
NUMBERS = st.integers(1, 6)


@dataclass
class Modelled:
    """What an environment should be."""

    instances_wanted: int
    releases: dict[int, str | None] = field(default_factory=dict)  # number → "well" once a rollout to it was done
    active: int | None = None
    rollout: int | None = None  # the target
    destroying: bool = False
    live: dict[str, bool] = field(default_factory=dict)  # instance id → whether it is made


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.address = self.make()
        self.ledger = Ledger(self.address, actor="ann", clock=self.clock.now)
        self.environments: dict[EnvironmentId, Modelled] = {}
        self.last_number: dict[EnvironmentId, int] = {}
        self.last_serial = 0
        self.ids: set[str] = set()
        self.events = 0

    def teardown(self) -> None:
        assert self.ledger.verify().events == len(self.ledger.history())
        self.ledger.close()
        self.clear()

    def make(self) -> Path | str:
        """Return where the ledger of this run is."""
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name) / "instar.db"

    def clear(self) -> None:
        self.folder.cleanup()

    def refused(self, kind: type[InstarError], act: Callable[[], object]) -> None:
        """What is refused writes nothing."""
        before = len(self.ledger.history())
        with pytest.raises(kind):
            act()
        assert len(self.ledger.history()) == before

    def open_to_change(self, environment: EnvironmentId, act: Callable[[], object]) -> Modelled | None:
        """Return the model of an environment that may be added to; else see that ``act`` is refused."""
        found = self.environments.get(environment)
        if found is None:
            self.refused(NotFound, act)
        elif found.destroying:
            self.refused(Refused, act)
        else:
            return found
        return None

    @rule(environment=ENVIRONMENTS, wanted=st.integers(1, 3))
    def save_settings(self, environment: EnvironmentId, wanted: int) -> None:
        found = self.environments.setdefault(environment, Modelled(instances_wanted=wanted))
        if found.destroying and found.instances_wanted != wanted:
            self.refused(Refused, lambda: self.ledger.save_settings(environment, Settings(instances=wanted)))
            return
        found.instances_wanted = wanted
        assert self.ledger.save_settings(environment, Settings(instances=wanted)).settings.instances == wanted

    @rule(environment=ENVIRONMENTS, name=st.sampled_from(["one", "two"]))
    def add_release(self, environment: EnvironmentId, name: str) -> None:
        def act() -> int:
            return self.ledger.add_release(environment, image(name).digest, configuration({"NAME": name})).number

        found = self.open_to_change(environment, act)
        if found is not None:
            number = self.last_number[environment] = self.last_number.get(environment, 0) + 1
            assert act() == number
            found.releases[number] = None

    @rule(environment=ENVIRONMENTS, number=NUMBERS)
    def begin_rollout(self, environment: EnvironmentId, number: int) -> None:
        def act() -> object:
            return self.ledger.begin_rollout(environment, "deploy", number)

        found = self.open_to_change(environment, act)
        if found is None:
            return
        if found.rollout is not None:
            self.refused(Refused, act)
        elif number not in found.releases:
            self.refused(NotFound, act)
        else:
            act()
            found.rollout = number

    @rule(environment=ENVIRONMENTS, well=st.booleans())
    def end_rollout(self, environment: EnvironmentId, well: bool) -> None:
        found = self.environments.get(environment)
        if found is None or found.rollout is None:
            return
        rollout = self.ledger.get_environment(environment).rollout
        assert rollout is not None and rollout.target == found.rollout
        ended = self.ledger.end_rollout(rollout, "done" if well else "failed", {"switch_ms": 0.5})
        assert ended.detail == {"switch_ms": 0.5}
        self.refused(Refused, lambda: self.ledger.end_rollout(rollout, "done"))
        if well:
            found.releases[found.rollout] = "well"
        found.rollout = None

    @rule(environment=ENVIRONMENTS, number=st.none() | NUMBERS)
    def set_active(self, environment: EnvironmentId, number: int | None) -> None:
        found = self.environments.get(environment)
        if found is None or (number is not None and number not in found.releases):
            self.refused(NotFound, lambda: self.ledger.set_active(environment, number))
            return
        self.ledger.set_active(environment, number)
        found.active = number

    @rule(environment=ENVIRONMENTS, number=NUMBERS, count=st.integers(0, 5))
    def add_instances(self, environment: EnvironmentId, number: int, count: int) -> None:
        def act() -> object:
            return self.ledger.add_instances(environment, number, count)

        found = self.open_to_change(environment, act)
        if found is None:
            return
        if number not in found.releases:
            self.refused(NotFound, act)
        else:
            for one in self.ledger.add_instances(environment, number, count):
                assert one.id not in self.ids and one.serial > self.last_serial
                self.ids.add(one.id)
                self.last_serial = one.serial
                found.live[one.id] = False

    @rule(data=st.data())
    def change_instance(self, data: st.DataObject) -> None:
        live = [(environment, name) for environment, found in self.environments.items() for name in found.live]
        if not live:
            self.refused(NotFound, lambda: self.ledger.set_started("a-b-c-9-9"))
            return
        environment, name = data.draw(st.sampled_from(sorted(live, key=str)))
        if data.draw(st.booleans()):
            assert self.ledger.set_made(name).made
            assert self.ledger.set_started(name).started_at is not None
            self.environments[environment].live[name] = True
        else:
            self.ledger.remove_instance(name, "why")
            self.ledger.remove_instance(name, "again")
            self.refused(NotFound, lambda: self.ledger.set_started(name))
            del self.environments[environment].live[name]

    @rule(environment=ENVIRONMENTS)
    def set_destroying(self, environment: EnvironmentId) -> None:
        if environment not in self.environments:
            self.refused(NotFound, lambda: self.ledger.set_destroying(environment))
            return
        self.ledger.set_destroying(environment)
        self.environments[environment] = dataclasses.replace(
            self.environments[environment], destroying=True, rollout=None
        )

    @precondition(lambda self: any(found.destroying for found in self.environments.values()))
    @rule(data=st.data())
    def remove_environment(self, data: st.DataObject) -> None:
        environment = data.draw(
            st.sampled_from([environment for environment, found in self.environments.items() if found.destroying])
        )
        if self.environments[environment].live:
            self.refused(Refused, lambda: self.ledger.remove_environment(environment))
        else:
            self.ledger.remove_environment(environment)
            del self.environments[environment]

    @rule(environment=ENVIRONMENTS)
    def write_and_give_up(self, environment: EnvironmentId) -> None:
        before = self.ledger.history()
        with pytest.raises(ZeroDivisionError), self.ledger.transaction():
            self.ledger.record(note(), environment=environment)
            self.ledger.save_settings(EnvironmentId(service="y", name="z"), Settings())
            raise ZeroDivisionError
        assert self.ledger.history() == before

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.address, actor="bob", clock=self.clock.now)

    @invariant()
    def the_ledger_is_as_the_model(self) -> None:
        states = {state.id: state for state in self.ledger.environments()}
        assert states.keys() == self.environments.keys()
        for environment, found in self.environments.items():
            state = states[environment]
            assert state.settings.instances == found.instances_wanted
            assert (state.active, state.destroying) == (found.active, found.destroying)
            assert (state.rollout.target if state.rollout else None) == found.rollout
            releases = {each.number: "well" if each.ran_well else None for each in self.ledger.releases(environment)}
            assert releases == found.releases
            live = {one.id: one.made for one in self.ledger.instances(environment)}
            assert live == found.live

    @invariant()
    def history_only_grows(self) -> None:
        count = len(self.ledger.history())
        assert count >= self.events
        self.events = count


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_the_same_on_postgresql(postgres: PostgresServer) -> None:
    class OnPostgreSQL(LedgerMachine):
        def make(self) -> str:
            return postgres.address(postgres.wiped())

        def clear(self) -> None:
            """Whoever is next wipes it."""

    run_state_machine_as_test(OnPostgreSQL, settings=settings(max_examples=12, stateful_step_count=30, deadline=None))


@given(
    size=st.integers(24, 32),
    held=st.sets(st.integers(0, 255)),
    last=st.none() | st.integers(0, 255),
    count=st.integers(0, 300),
)
def test_addresses_are_free_and_in_the_order_of_a_clock(
    size: int, held: set[int], last: int | None, count: int
) -> None:
    network = IPv4Network(f"10.0.0.0/{size}")
    taken = {f"10.0.0.{each}" for each in held}
    given_out = next_free(network, taken, None if last is None else f"10.0.0.{last}", count)
    usable = [f"10.0.0.{each}" for each in range(2, network.num_addresses - 1)]
    free = [address for address in usable if address not in taken]
    assert len(given_out) == min(count, len(free)) == len(set(given_out))
    assert set(given_out) <= set(free)
    start = last if last is not None and last < network.num_addresses else 1
    ahead = [address for address in free if int(address.rsplit(".")[-1]) > start]
    assert given_out == tuple((ahead + [address for address in free if address not in ahead])[:count])


@given(st.lists(st.text(), min_size=2, max_size=2), st.dictionaries(st.text(), st.text()))
def test_different_lines_have_different_hashes(words: list[str], detail: dict[str, str]) -> None:
    """No two fields can be shifted into each other: the separator is in none but the last."""
    first, second = (word(text) for text in words)
    text = detail_text(detail)
    if (first, second) != (second, first):
        assert link("", first, second, text) != link("", second, first, text)
    assert "|" not in first + second and "\n" not in first + second + text
