"""Any order of writes, refusals, failures and restarts leaves the ledger as a simple model of it says."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from instar.errors import InstarError, NotFound, Refused
from instar.ledger import Ledger
from instar.ledger.addresses import next_free
from instar.ledger.chain import detail_text, link, word
from instar.model.release import Place, Process, Settings
from simulated import VirtualClock
from simulated.values import configuration, image

PLACES = st.sampled_from(
    [Place(service=service, environment=name) for service, name in (("a", "b-c"), ("a-b", "c"), ("x", "dev"))]
)
NETWORK = IPv4Network("10.0.0.0/28")  # 13 free addresses
NUMBERS = st.integers(1, 6)


@dataclass
class Modelled:
    """What a place should be."""

    instances_wanted: int
    releases: dict[int, str | None] = field(default_factory=dict)  # number → "well" once a rollout to it was done
    active: int | None = None
    rollout: int | None = None  # the target
    destroying: bool = False
    live: dict[str, int | None] = field(default_factory=dict)  # instance id → its process's pid


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "instar.db"
        self.clock = VirtualClock()
        self.ledger = Ledger(self.path, actor="ann", clock=self.clock.now)
        self.places: dict[Place, Modelled] = {}
        self.last_number: dict[Place, int] = {}
        self.last_serial = 0
        self.ids: set[str] = set()
        self.events = 0

    def teardown(self) -> None:
        assert self.ledger.verify().events == len(self.ledger.history())
        self.ledger.close()
        self.folder.cleanup()

    def refused(self, kind: type[InstarError], act: Callable[[], object]) -> None:
        """What is refused writes nothing."""
        before = len(self.ledger.history())
        with pytest.raises(kind):
            act()
        assert len(self.ledger.history()) == before

    def open_to_change(self, place: Place, act: Callable[[], object]) -> Modelled | None:
        """Return the model of a place that may be added to; else see that ``act`` is refused."""
        found = self.places.get(place)
        if found is None:
            self.refused(NotFound, act)
        elif found.destroying:
            self.refused(Refused, act)
        else:
            return found
        return None

    @rule(place=PLACES, wanted=st.integers(1, 3))
    def save_settings(self, place: Place, wanted: int) -> None:
        found = self.places.setdefault(place, Modelled(instances_wanted=wanted))
        if found.destroying and found.instances_wanted != wanted:
            self.refused(Refused, lambda: self.ledger.save_settings(place, Settings(instances=wanted)))
            return
        found.instances_wanted = wanted
        assert self.ledger.save_settings(place, Settings(instances=wanted)).settings.instances == wanted

    @rule(place=PLACES, name=st.sampled_from(["one", "two"]))
    def add_release(self, place: Place, name: str) -> None:
        def act() -> int:
            return self.ledger.add_release(place, image(name).digest, configuration({"NAME": name})).number

        found = self.open_to_change(place, act)
        if found is not None:
            number = self.last_number[place] = self.last_number.get(place, 0) + 1
            assert act() == number
            found.releases[number] = None

    @rule(place=PLACES, number=NUMBERS)
    def begin_rollout(self, place: Place, number: int) -> None:
        def act() -> object:
            return self.ledger.begin_rollout(place, "deploy", number)

        found = self.open_to_change(place, act)
        if found is None:
            return
        if found.rollout is not None:
            self.refused(Refused, act)
        elif number not in found.releases:
            self.refused(NotFound, act)
        else:
            act()
            found.rollout = number

    @rule(place=PLACES, well=st.booleans())
    def end_rollout(self, place: Place, well: bool) -> None:
        found = self.places.get(place)
        if found is None or found.rollout is None:
            return
        rollout = self.ledger.get_environment(place).rollout
        assert rollout is not None and rollout.target == found.rollout
        ended = self.ledger.end_rollout(rollout, "done" if well else "failed", {"switch_ms": 0.5})
        assert ended.detail == {"switch_ms": 0.5}
        self.refused(Refused, lambda: self.ledger.end_rollout(rollout, "done"))
        if well:
            found.releases[found.rollout] = "well"
        found.rollout = None

    @rule(place=PLACES, number=st.none() | NUMBERS)
    def set_active(self, place: Place, number: int | None) -> None:
        found = self.places.get(place)
        if found is None or (number is not None and number not in found.releases):
            self.refused(NotFound, lambda: self.ledger.set_active(place, number))
            return
        self.ledger.set_active(place, number)
        found.active = number

    @rule(place=PLACES, number=NUMBERS, count=st.integers(0, 5))
    def add_instances(self, place: Place, number: int, count: int) -> None:
        def act() -> object:
            return self.ledger.add_instances(place, number, count, NETWORK)

        found = self.open_to_change(place, act)
        if found is None:
            return
        if number not in found.releases:
            self.refused(NotFound, act)
        elif count > 13 - sum(len(each.live) for each in self.places.values()):
            self.refused(Refused, act)
        else:
            for one in self.ledger.add_instances(place, number, count, NETWORK):
                assert one.id not in self.ids and one.serial > self.last_serial
                self.ids.add(one.id)
                self.last_serial = one.serial
                found.live[one.id] = None

    @rule(data=st.data(), pid=st.integers(1, 9))
    def change_instance(self, data: st.DataObject, pid: int) -> None:
        live = [(place, name) for place, found in self.places.items() for name in found.live]
        if not live:
            self.refused(NotFound, lambda: self.ledger.set_started("a-b-c-9-9"))
            return
        place, name = data.draw(st.sampled_from(sorted(live, key=str)))
        if data.draw(st.booleans()):
            process = Process(boot_id="b", pid=pid, start_time=pid)
            assert self.ledger.set_process(name, process).process == process
            assert self.ledger.set_started(name).started_at is not None
            self.places[place].live[name] = pid
        else:
            self.ledger.remove_instance(name, "why")
            self.ledger.remove_instance(name, "again")
            self.refused(NotFound, lambda: self.ledger.set_started(name))
            del self.places[place].live[name]

    @rule(place=PLACES)
    def set_destroying(self, place: Place) -> None:
        if place not in self.places:
            self.refused(NotFound, lambda: self.ledger.set_destroying(place))
            return
        self.ledger.set_destroying(place)
        self.places[place] = dataclasses.replace(self.places[place], destroying=True, rollout=None)

    @precondition(lambda self: any(found.destroying for found in self.places.values()))
    @rule(data=st.data())
    def remove_environment(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([place for place, found in self.places.items() if found.destroying]))
        if self.places[place].live:
            self.refused(Refused, lambda: self.ledger.remove_environment(place))
        else:
            self.ledger.remove_environment(place)
            del self.places[place]

    @rule(place=PLACES)
    def write_and_give_up(self, place: Place) -> None:
        before = self.ledger.history()
        with pytest.raises(ZeroDivisionError), self.ledger.transaction():
            self.ledger.record("note", place=place)
            self.ledger.save_settings(Place(service="y", environment="z"), Settings())
            raise ZeroDivisionError
        assert self.ledger.history() == before

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.path, actor="bob", clock=self.clock.now)

    @invariant()
    def the_ledger_is_as_the_model(self) -> None:
        states = {state.place: state for state in self.ledger.environments()}
        assert states.keys() == self.places.keys()
        for place, found in self.places.items():
            state = states[place]
            assert state.settings.instances == found.instances_wanted
            assert (state.active, state.destroying) == (found.active, found.destroying)
            assert (state.rollout.target if state.rollout else None) == found.rollout
            releases = {each.number: "well" if each.ran_well else None for each in self.ledger.releases(place)}
            assert releases == found.releases
            live = {one.id: one.process.pid if one.process else None for one in self.ledger.instances(place)}
            assert live == found.live

    @invariant()
    def addresses_are_different_and_of_the_network(self) -> None:
        addresses = [IPv4Address(one.address) for one in self.ledger.instances()]
        assert len(set(addresses)) == len(addresses)
        assert all(address in NETWORK and int(address) & 15 not in (0, 1, 15) for address in addresses)

    @invariant()
    def history_only_grows(self) -> None:
        count = len(self.ledger.history())
        assert count >= self.events
        self.events = count


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


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
