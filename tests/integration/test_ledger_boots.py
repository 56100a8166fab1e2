"""One machine twice, on one real PostgreSQL: a reboot is none; a copy of a machine is told so, and changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import LedgerError, MachineDoubled
from instar.ledger import Ledger, boots
from instar.ledger.postgresql import IDLE_AT_MOST_S, PostgreSQL
from instar.model.environment import Settings
from instar.model.progress import Progress
from instar.operations import own_boot
from instar.operations.agent import Agent
from instar.operations.locks import hold_environment
from instar.waiting import Deadline, until
from instar.workspace import MachineWorkspace
from postgres import PostgresServer
from simulated.listener import Heard
from simulated.values import ENV
from simulated.workspace import SimulatedWorkspace

RESTS_S = 0.6


class Machine:
    """One that runs from ``home``, in the boot of that name."""

    def __init__(self, home: Path, address: str, boot: str, patch: pytest.MonkeyPatch) -> None:
        self.boot, self._patch = boot, patch
        self.told: list[Progress] = []
        self.workspace = MachineWorkspace({"INSTAR_HOME": str(home), "INSTAR_LEDGER": address}, self.told.append)

    def act(self, *, take_over: bool = False) -> None:
        self._patch.setattr(own_boot, "boot_id", lambda: self.boot)
        with hold_environment(self.workspace, ENV, take_over=take_over):
            state = self.workspace.ledger.find_environment(ENV)
            more = state.settings.instances + 1 if state is not None else 1
            self.workspace.ledger.save_settings(ENV, Settings(instances=more))


class World:
    def __init__(self, home: Path, address: str, patch: pytest.MonkeyPatch) -> None:
        self.home, self.address, self._patch = home, address, patch
        self.machines: list[Machine] = []

    def boot(self, name: str) -> Machine:
        made = Machine(self.home, self.address, name, self._patch)
        self.machines.append(made)
        return made

    def acts(self) -> int:
        state = self.machines[0].workspace.ledger.find_environment(ENV)
        return state.settings.instances if state is not None else 0


@pytest.fixture
def world(tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(boots, "RESTS_AT_MOST_S", RESTS_S)
    monkeypatch.setattr(own_boot, "_ASKED_EACH_S", 0.05)
    made = World(tmp_path / "home", postgres.address(postgres.wiped()), monkeypatch)
    yield made
    for machine in made.machines:
        machine.workspace.ledger.close()


def test_a_reboot_waits_for_an_instant_at_most_and_says_so(world: World) -> None:
    world.boot("first").act()
    second = world.boot("second")
    began = time.monotonic()
    second.act()
    assert time.monotonic() - began < RESTS_S + 5
    assert [progress.stage for progress in second.told] == ["wait"]
    second.act()
    world.boot("second").act()
    assert len(second.told) == 1 and world.acts() == 4


def test_an_agent_that_waits_for_the_boot_before_hears_that_it_is_to_stop(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "RESTS_AT_MOST_S", 600.0)
    with Ledger(world.address, actor="ann") as ledger:
        workspace, heard = SimulatedWorkspace(tmp_path / "home", ledger=ledger), Heard()
        monkeypatch.setattr(own_boot, "boot_id", lambda: "first")
        with hold_environment(workspace, ENV):
            ledger.save_settings(ENV, Settings())
        monkeypatch.setattr(own_boot, "boot_id", lambda: "second")
        agent = Agent(workspace, heard)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            waits = until(lambda: "wait" in [one.stage for one in workspace.told], Deadline.after(60), every_s=0.01)
            assert waits, heard.errors
        finally:
            agent.stop()
            thread.join(60)
        assert not thread.is_alive() and not heard.errors


def test_a_reboot_after_a_rest_waits_for_nothing(world: World) -> None:
    world.boot("first").act()
    time.sleep(RESTS_S)
    later = world.boot("second")
    later.act()
    assert later.told == []


def test_several_processes_of_one_boot_are_one_machine(world: World) -> None:
    world.boot("first").act()
    others = [world.boot("second") for _ in range(3)]
    threads = [threading.Thread(target=other.act) for other in others]
    for thread in threads:
        thread.start()
        thread.join()
    assert world.acts() == 4


def test_who_is_stopped_while_it_comes_keeps_no_other_machine_waiting(world: World) -> None:
    one = world.boot("first")
    one.act()
    stopped = PostgreSQL(world.address)
    try:
        stopped.begin_beside()
        assert boots.Boots().act_as(stopped, "another machine", "its boot", take_over=False) == 0
        began = time.monotonic()
        one.act()
        assert time.monotonic() - began < IDLE_AT_MOST_S / 3, "it waited for the other's transaction"
        stopped.rollback()
    finally:
        stopped.close()
    assert world.acts() == 2


def test_a_boot_of_many_knows_its_own_and_the_newest(world: World) -> None:
    machine = world.boot("first")
    machine.act()
    for number in range(3):
        world.boot(f"later {number}").act(take_over=True)
    with pytest.raises(MachineDoubled, match="boot later 2 acted last"):
        machine.act()
    world.boot("later 2").act()
    assert world.acts() == 5


def test_a_copy_that_begins_while_the_other_acts_is_refused(world: World) -> None:
    one, copy = world.boot("11111111-one"), world.boot("22222222-copy")
    one.act()
    assert copy.workspace.ledger.leases is not None and one.workspace.ledger.leases is not None
    assert copy.workspace.ledger.leases.act_as(copy.workspace.machine, copy.boot) > 0
    one.act()
    with pytest.raises(MachineDoubled, match="two machines say that they are it") as caught:
        copy.act()
    assert caught.value.exit_status == 75
    assert "This one is boot 22222222; boot 11111111 acted last, at 2" in caught.value.message
    assert caught.value.hint and "--take-over" in caught.value.hint and "nothing was changed" in caught.value.hint
    one.act()
    assert world.acts() == 3


def test_who_was_followed_by_another_boot_is_refused_until_somebody_says_which_one_is_it(world: World) -> None:
    one, copy = world.boot("one"), world.boot("copy")
    one.act()
    copy.act()
    for _ in range(2):
        with pytest.raises(MachineDoubled):
            one.act()
    copy.act()
    one.act(take_over=True)
    one.act()
    with pytest.raises(MachineDoubled):
        copy.act()
    assert world.acts() == 5
    world.machines[0].workspace.ledger.verify()


def test_who_holds_a_lease_is_heard_of_as_it_renews_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, copy = world.boot("one"), world.boot("copy")
    one.act()
    leases, other = one.workspace.ledger.leases, copy.workspace.ledger.leases
    assert leases is not None and other is not None
    monkeypatch.setattr(own_boot, "boot_id", lambda: "one")
    with hold_environment(one.workspace, ENV):
        assert other.act_as(copy.workspace.machine, "copy") > 0
        leases.renew()
        with pytest.raises(MachineDoubled):
            other.act_as(copy.workspace.machine, "copy")


def test_a_clock_of_the_database_that_was_set_back_keeps_no_reboot_waiting(
    world: World, postgres: PostgresServer
) -> None:
    first = world.boot("first")
    first.act()
    database = world.address.partition("?")[0].rpartition("/")[2]
    postgres.execute("UPDATE instar.boots SET last_at = last_at + interval '1 day'", database=database)
    began = time.monotonic()
    world.boot("second").act()
    assert time.monotonic() - began < RESTS_S + 5


def test_what_is_known_of_boots_is_never_taken_back(world: World) -> None:
    machine = world.boot("one")
    machine.act()
    engine = machine.workspace.ledger.session.engine
    for statement, told in {
        "UPDATE boots SET number = 0": "the number of a boot only grows",
        "UPDATE boots SET boot = 'x'": "the number of a boot only grows",
        "DELETE FROM boots": "never deleted",
    }.items():
        with pytest.raises(LedgerError, match=told):
            engine.execute(statement, {}, "write")


@pytest.mark.root
def test_the_command_on_a_real_other_boot_is_refused_with_75(tmp_path: Path, postgres: PostgresServer) -> None:
    """The other machine is a process that has another boot_id and its own copy of the state directory in its mounts."""
    address = postgres.address(postgres.wiped())
    home, copy = tmp_path / "home", tmp_path / "copy"
    environ = {"INSTAR_HOME": str(home), "INSTAR_LEDGER": address}
    workspace, stop = MachineWorkspace(environ, lambda progress: None), threading.Event()
    workspace.ledger.save_settings(ENV, Settings())
    (tmp_path / "boot").write_text("99999999-8888-7777-6666-555555555555\n")

    def acts() -> None:
        while not stop.wait(0.3):
            with hold_environment(workspace, ENV):
                pass

    acting = threading.Thread(target=acts)
    with hold_environment(workspace, ENV):
        pass
    shutil.copytree(home, copy)
    acting.start()
    try:
        mounts = f"mount --bind {tmp_path}/boot /proc/sys/kernel/random/boot_id && mount --bind {copy} {home}"
        inside = f'{mounts} && exec "$@"'
        command = [sys.executable, "-B", "-m", "instar", "destroy", str(ENV), "--yes"]
        ended = subprocess.run(
            ["unshare", "-m", "sh", "-c", inside, "sh", *command],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        stop.set()
        acting.join()
    assert ended.returncode == 75, ended.stderr
    assert "two machines say that they are it. This one is boot 99999999; boot" in ended.stderr
    assert workspace.ledger.get_environment(ENV).destroying is False
    workspace.ledger.close()
