"""A shared ledger that goes away in the middle of a rollout, for a moment or for longer: verbs wait, and go on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutting_proxy import CuttingProxy
from instar.definition import Loaded, parse
from instar.errors import LeaseLost, LedgerUnreachable
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.outcome import RolloutOutcome
from instar.model.release import EnvironmentId
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.promote import promote
from instar.operations.rollback import rollback
from instar.waiting import Deadline, until
from postgres import PASSWORD, PostgresServer
from simulated import Behaviour, Simulation
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV, PRODUCTION = (EnvironmentId(service="web", name=name) for name in ("dev", "production"))
DEFINITION = """
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev: {listen: 127.0.0.1:8080, instances: 2}
  production:
    listen: 127.0.0.1:8090
    rollout: {strategy: canary, steps: [20, 50]}
"""
AWAY_S = 1.5


class Place:
    """A machine whose ledger is reached by ``proxy``."""

    def __init__(self, home: Path, postgres: PostgresServer, password: Path) -> None:
        self.postgres, self.world, self.proxy = postgres, Simulation(), CuttingProxy(postgres.port)
        database = postgres.wiped()
        self.address = postgres.address(database)
        by_proxy = postgres.tcp_address(database, user="fay", port=self.proxy.port, passfile=password)
        self.ledger = Ledger(by_proxy, actor="ann", clock=self.world.clock.now)
        self.workspace = SimulatedWorkspace(home, self.world, ledger=self.ledger)
        self.loaded: Loaded = parse(DEFINITION, str(home / "instar.yaml"))
        self.images: list[Digest] = [self.workspace.bake(word).digest for word in ("one", "two")]

    def deploy(self, number: int, name: str = "dev") -> RolloutOutcome:
        return deploy(self.workspace, self.loaded, name, image=self.images[number])

    def promote(self) -> RolloutOutcome:
        return promote(self.workspace, self.loaded, "dev", "production")

    def rollback(self, to: int) -> RolloutOutcome:
        return rollback(self.workspace, self.ledger.get_environment(DEV), to=to)

    def waited(self) -> list[str]:
        return [one.text for one in self.workspace.told if one.stage == "wait" and "the ledger" in one.text]

    def counted(self) -> Counter[tuple[EnvironmentId | None, str]]:
        with Ledger(self.address, actor="eve") as ledger:
            ledger.verify()
            return Counter((event.environment, event.kind) for event in ledger.history())

    def close(self) -> None:
        self.ledger.close()
        self.proxy.close()


@pytest.fixture(scope="module")
def password(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    postgres.execute("DROP ROLE IF EXISTS fay", f"CREATE ROLE fay LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    path = tmp_path_factory.mktemp("password") / "pass"
    path.write_text(f"*:*:*:*:{PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def place(tmp_path: Path, postgres: PostgresServer, password: Path) -> Iterator[Place]:
    made = Place(tmp_path / "home", postgres, password)
    yield made
    made.close()


@pytest.mark.thorough  # some fifty rollouts over a connection that is cut
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("verb", ["deploy", "rollback"])
def test_a_verb_that_is_cut_anywhere_goes_on_and_does_everything_once(place: Place, verb: str, heard: bool) -> None:
    """Before its decision is written it may say that nothing was, and is asked again; from then on it needs nobody."""

    def act(number: int) -> RolloutOutcome:
        return place.deploy(number % 2) if verb == "deploy" else place.rollback(to=1 + number % 2)

    for number in (0, 1):
        place.deploy(number)
    act(0)
    before = place.counted()
    place.proxy.arm(10**9)
    act(1)
    expected, said, waited = place.counted() - before, place.proxy.said, 0
    for number, at in enumerate(range(3 + heard, said, max(said // 12, 1))):
        before = place.counted()
        place.workspace.told.clear()
        place.proxy.arm(at, heard=heard)
        try:
            outcome = act(number)
        except LedgerUnreachable:
            assert place.counted() == before and at < said / 2, "nothing was written"
            place.proxy.arm(None)
            outcome = act(number)
        place.proxy.arm(None)
        assert outcome.outcome == "done"
        did = place.counted() - before
        assert did <= expected, "done twice"
        assert {kind for _, kind in expected - did} <= {"created"}, "what is there already is not made again to say so"
        waited += len(place.waited())
    assert place.proxy.cuts and waited


def slowly(place: Place, sleep: Callable[[float], None]) -> None:
    """Let real time pass where the simulated one does."""
    virtual = place.workspace.cancellation.sleep

    def both(seconds: float) -> None:
        sleep(seconds)
        virtual(seconds)

    place.workspace.cancellation.sleep = both


@pytest.mark.parametrize("verb", ["deploy", "promote"])
def test_a_server_that_is_started_again_in_a_rollout_is_waited_for(place: Place, verb: str) -> None:
    place.deploy(0)
    place.workspace.told.clear()
    place.world.runtime.behave(2 if verb == "deploy" else 1, Behaviour(healthy_after_probes=3))
    halted: list[float] = []
    started: list[float] = []

    def meanwhile(seconds: float) -> None:
        if not halted:
            place.postgres.halt()
            halted.append(time.monotonic())
        elif not started and time.monotonic() > halted[0] + AWAY_S:
            place.postgres.start()
            started.append(time.monotonic())
        time.sleep(seconds)

    slowly(place, meanwhile)
    try:
        outcome = place.deploy(1) if verb == "deploy" else place.promote()
    finally:
        if not started:
            place.postgres.start()
    assert halted and (outcome.outcome, outcome.release) == ("done", 2 if verb == "deploy" else 1)
    begins, ends = place.waited()
    assert begins.startswith("for the ledger (30 s at most): cannot ") and "is over: the ledger answers again" in ends
    counted = place.counted()
    assert counted[DEV if verb == "deploy" else PRODUCTION, "rollout-done"] == (2 if verb == "deploy" else 1)


def test_who_lost_its_lease_meanwhile_does_nothing_any_more(place: Place) -> None:
    place.deploy(0)
    place.world.runtime.behave(2, Behaviour(healthy_after_probes=3))
    taken: list[int] = []
    effects: list[str] = []
    with Ledger(place.address, actor="bob") as other:
        assert other.leases is not None
        holding = other.leases.holding(DEV, "bob on web2", machine="web2", take_over=True)

        def take(seconds: float) -> None:
            if not taken:
                place.proxy.cut_all()
                taken.append(holding.__enter__())
                effects.extend(place.world.effects.names)

        slowly(place, take)
        with pytest.raises(LeaseLost, match="bob on web2 has it since"):
            place.deploy(1)
        written = place.counted()
        assert taken and place.world.effects.names == effects
        holding.__exit__(None, None, None)
    assert written == place.counted() and written[DEV, "rollout-done"] == 1
    place.workspace.cancellation.sleep = place.world.clock.sleep
    assert place.deploy(1).outcome == "done"


def test_who_waits_for_it_can_be_ended(place: Place) -> None:
    place.deploy(0)
    place.world.runtime.behave(2, Behaviour(healthy_after_probes=3))

    def end(seconds: float) -> None:
        place.proxy.close()
        if place.waited():
            place.workspace.cancellation.request()

    slowly(place, end)
    with pytest.raises(LedgerUnreachable, match="the rollout to release 2 of 'web/dev' is half done"):
        place.deploy(1)
    assert len(place.waited()) == 1


def test_an_agent_goes_on_when_it_is_back(place: Place) -> None:
    place.deploy(0)
    heard = Heard()
    agent = Agent(place.workspace, heard, check_s=0.1)
    place.workspace.cancellation.sleep = time.sleep
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        assert until(lambda: heard.seen, Deadline.after(60))
        place.postgres.halt()
        time.sleep(AWAY_S)
        place.postgres.start()
        assert until(lambda: any("is over" in text for text in place.waited()), Deadline.after(60))
        seen = len(heard.seen)
        assert until(lambda: len(heard.seen) > seen, Deadline.after(60)) and thread.is_alive()
        assert len([text for text in place.waited() if text.startswith("for the ledger: ")]) == 1
    finally:
        agent.stop()
        thread.join(60)
    assert not thread.is_alive()
