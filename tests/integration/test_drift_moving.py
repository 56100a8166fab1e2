"""What moves while a check looks at it is not found: stale states, instances that went, settings of the machine."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from instar.drift.check import Checked, check
from instar.host.kernel import cgroups, namespaces, settings
from instar.host.processes import proc
from instar.ledger import Ledger
from instar.model.drift import Finding
from instar.model.environment import Settings
from instar.model.release import EnvironmentState
from instar.providers.local.inspection import processes as members
from instar.providers.machine import MachineProvider
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Target
from instar.store import Store
from instar.store.hashed_files import HashedFiles
from simulated import Effects, SimulatedRouter, SimulatedRuntime, VirtualClock
from simulated.values import ENV, configuration, image


class Empty:
    """A store whose image has no layers, so that there is nothing to hash."""

    def entered(self, digest: object) -> Any:
        return dataclasses.replace(image(), layers=())

    def unknown(self, wanted: object) -> frozenset[Any]:
        return frozenset()


class World:
    """An environment with one instance, which ``moves`` in the middle of a check when a test says how."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(limit_s=1e9)
        effects = Effects()
        self.runtime = SimulatedRuntime(clock=self.clock, effects=effects)
        self.router = SimulatedRouter(runtime=self.runtime, clock=self.clock, effects=effects)
        self.ledger = Ledger(folder / "instar.db", actor="test", clock=self.clock.now)
        self.hashed_files = HashedFiles(folder / "sealed")
        self.ledger.save_settings(ENV, Settings(listen=("127.0.0.1:8080",)))

    def release(self) -> str:
        """Add a release with an instance that has all traffic; return the instance's id."""
        release = self.ledger.add_release(ENV, image().digest, configuration())
        (made,) = self.ledger.add_instances(ENV, release.number, 1)
        self.runtime.create(made, release, image())
        self.ledger.set_made(made.id)
        self.runtime.start(made)
        started = self.ledger.set_started(made.id)
        self.ledger.set_active(ENV, release.number)
        self.router.ensure(RouterPlan.of(ENV, self.state().settings, release.service))
        self.router.attach(ENV, [Target(name=started.id, address=self.runtime.find_address(started), port=8080)])
        self.router.route(ENV, {started.id: 100})
        return started.id

    def state(self) -> EnvironmentState:
        return self.ledger.get_environment(ENV)

    def check(self, state: EnvironmentState) -> Checked:
        provider = MachineProvider(runtime=self.runtime, router=self.router)
        return check(self.ledger, cast(Store, Empty()), self.hashed_files, provider, state, at_rest=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_state_that_was_read_before_a_rollout_is_read_anew(world: World) -> None:
    world.release()
    before = world.state()
    world.release()
    assert world.check(before).findings == ()


def test_an_instance_that_went_meanwhile_has_no_findings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.release()
    found = Finding(instance=name, kind="process", path="process 7", expected="a child", observed="it is going")
    world.runtime.drifted[name] = (found,)
    assert world.check(world.state()).findings == (found,)
    inspect = world.runtime.inspect

    def goes(subjects: Any, *, deep: bool = False) -> tuple[Finding, ...]:
        findings = inspect(subjects, deep=deep)
        world.ledger.remove_instance(name, "it is no longer needed")
        return findings

    monkeypatch.setattr(world.runtime, "inspect", goes)
    world.router.remove(ENV)
    assert world.check(world.state()).findings == ()


@pytest.mark.root
def test_what_the_whole_machine_has_is_no_setting_of_a_namespace() -> None:
    """Such as what a sysctl or a module of the machine changes for everybody."""
    names = set(namespaces.in_new_network(lambda: tuple(settings.names())))
    assert {"net/ipv4/ip_forward", "net/ipv4/icmp_echo_ignore_all", "kernel/hostname"} <= names
    assert not {"net/core/rmem_max", "net/ipv4/tcp_available_congestion_control"} & names
    assert not [name for name in names if "nf_log" in name or name == "net/netfilter/nf_conntrack_max"]


@pytest.mark.root
def test_processes_of_groups_below_are_members() -> None:
    name = f"instar-test-{os.getpid()}"
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        try:
            cgroups.join_leaf(f"{name}/below/deeper", sleeper.pid)
            assert cgroups.members(name) == {sleeper.pid} == cgroups.members(f"{name}/below/deeper")
        finally:
            sleeper.kill()
            sleeper.wait()
            cgroups.remove(name)
    assert cgroups.members(name) == frozenset()


HIDDEN = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
assert libc.unshare(0x4000_0000) == 0
threading.Thread(target=time.sleep, args=(100,)).start()
print("ready", flush=True)
libc.syscall(60 if __import__("os").uname().machine == "x86_64" else 93, 0)
"""


@pytest.mark.root
def test_a_process_whose_first_thread_has_ended_is_seen() -> None:
    """It looks dead, and runs."""
    with subprocess.Popen([sys.executable, "-c", HIDDEN], stdout=subprocess.PIPE, text=True) as hidden:
        try:
            assert hidden.stdout is not None and hidden.stdout.readline() == "ready\n"
            while proc.state(hidden.pid) != "Z":
                time.sleep(0.001)
            thread = proc.living_thread(hidden.pid)
            assert thread is not None and thread != hidden.pid
            space = proc.namespaces(thread)["net"]
            assert members.sharers({space: "it"}) == {"it": {hidden.pid}}
        finally:
            hidden.kill()
    assert members.sharers({space: "it"}) == {}
