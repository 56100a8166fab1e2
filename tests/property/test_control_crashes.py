"""Kill the loop before and after every side effect of every scenario, go on in a new one, and compare.

The side effects are counted by running each scenario once; nobody keeps a list of them. Held each time: traffic
never falls to nothing (but for the gap of an exclusive volume), nothing that clashes runs at once, exactly the
active release has weight, nothing is orphaned, the ledger verifies, and the end is the one without a crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from instar.control.canary import waits_for_somebody
from instar.control.loop import Loop, Run
from instar.model.definition import Analysis, Check, Replace, Rollout, Step, Task
from instar.model.progress import silent
from instar.model.release import RolloutKind, Settings
from simulated import Behaviour, Crash, CrashableLedger, Effects, Simulation
from simulated.values import PLACE, configuration, image

REQUESTS, IDLE_PASSES = 8, 4
SHORTEST_S = 0.2  # else the loop looks fifty times a second
SETTINGS = Settings(listen=("127.0.0.1:8080",), instances=2)


@dataclass
class Machine:
    """A simulated machine with a real ledger, and the loop on it."""

    path: Path
    effects: Effects
    fields: dict[str, object]
    instances: int = 2
    policy: Rollout = Rollout()
    preview: str | None = None
    agent: bool = False  # the loop is carried on by the agent, not by a command
    replace: Replace = Replace()
    says: Literal["", "resume", "abort"] = ""  # what somebody says when the rollout is there
    waited: bool = False
    served: bool = False
    world: Simulation = field(init=False)
    ledger: CrashableLedger = field(init=False)

    def __post_init__(self) -> None:
        self.world = Simulation(effects=self.effects)
        self.open()
        self.effects.watch(self._watch)

    @property
    def routed(self) -> bool:
        return self.fields.get("port", 8080) is not None

    def open(self) -> None:
        self.ledger = CrashableLedger(self.path, actor="tester", clock=self.world.clock.now)
        self.ledger.effects = self.effects

    def restart(self) -> None:
        """The process was killed: another opens the ledger."""
        self.ledger.close()
        self.effects.revive()
        self.open()

    def want(self, kind: RolloutKind, *, target: int | None = None, version: str = "1") -> None:
        """Write what is wanted, as a verb does: in one transaction, and not twice."""
        with self.ledger.transaction():
            settings = dataclasses.replace(
                SETTINGS, instances=self.instances, rollout=self.policy, preview=self.preview, replace=self.replace
            )
            before = self.ledger.find_environment(PLACE)
            self.ledger.save_settings(PLACE, settings)
            if target is None:
                wanted = configuration({"VERSION": version}, **self.fields)
                known = self.ledger.releases(PLACE, last=1)
                same = known and known[0].configuration == wanted
                target = known[0].number if same else self.ledger.add_release(PLACE, image().digest, wanted).number
            state = self.ledger.get_environment(PLACE)
            if state.rollout is None and state.active != target:
                self.ledger.begin_rollout(PLACE, kind, target, settings_before=before.settings if before else None)

    def settle(self) -> None:
        loop = Loop(
            ledger=self.ledger,
            provider=self.world.provider,
            find_image=lambda digest: image(),
            report=silent,
            pause=self.wait,
        )
        if self.agent:
            self.look_after(loop.begin(PLACE, asked=False))
        else:
            loop.run(PLACE)
        if self.ledger.get_environment(PLACE).destroying:
            self.ledger.remove_environment(PLACE)

    def wait(self, seconds: float) -> None:
        """Let time pass, and users ask meanwhile."""
        for _ in range(REQUESTS if self.policy.analysis else 1):
            self.ask()
        self.world.clock.sleep(max(seconds, SHORTEST_S))
        rollout = self.ledger.get_environment(PLACE).rollout
        if rollout is not None and self.says == "resume" and waits_for_somebody(self.ledger.get_environment(PLACE)):
            word = {"paused": False} if rollout.stage.paused else {"resumed": True}
            self.ledger.change_stage(rollout, "resumed", {}, **word)
        elif rollout is not None and self.says == "abort" and rollout.stage.step >= 2 and not rollout.stage.abort:
            self.ledger.change_stage(rollout, "abort", {}, abort="a typo")

    def ask(self) -> None:
        self.world.router.request(PLACE)
        if self.served and self.routed and "exclusive" not in self.fields:
            assert self.world.router.serving(PLACE), "a request that nobody could answer"

    def look_after(self, run: Run) -> None:
        """Pass after pass, as the agent does, until a few in a row had nothing to do."""
        idle = 0
        while idle < IDLE_PASSES:
            seconds = run.advance()
            idle = idle + 1 if seconds is None else 0
            self.wait(1.0 if seconds is None else min(seconds, 1.0))

    def summary(self) -> object:
        """Return what must be the same however often it was killed: names of instances may differ, their sum not."""
        state = self.ledger.find_environment(PLACE)
        if state is None:
            return None
        copies = self.ledger.instances(PLACE)
        seen = self.world.runtime.observe(copies)
        return (
            state.active,
            state.rollout,
            sorted((one.release, what.state) for one, what in zip(copies, seen, strict=True)),
            [(one.number, one.ran_well) for one in self.ledger.releases(PLACE)],
            sorted(self.world.runtime.tasks_run),
        )

    def check(self) -> None:
        """Assert what must hold at rest."""
        assert self.world.runtime.violations == []
        assert len(set(self.world.runtime.tasks_run)) == len(self.world.runtime.tasks_run), "a task ran twice"
        assert self.world.router.observe(PLACE).previewed == {}
        copies = self.ledger.instances(PLACE)
        assert sorted(self.world.runtime.traces()) == sorted(one.id for one in copies)
        self.ledger.verify()
        state = self.ledger.find_environment(PLACE)
        weighted = [item.target.name for item in self.world.router.observe(PLACE).targets if item.weight]
        active = [one.id for one in copies if state and one.release == state.active]
        assert sorted(weighted) == (sorted(active) if self.routed else [])

    def _watch(self, name: str) -> None:
        assert self.world.runtime.violations == [], name
        serving = self.world.router.serving(PLACE)
        self.ask()
        if self.served and self.routed and "exclusive" not in self.fields:
            assert serving, f"no traffic after {name}"
        self.served = self.served or bool(serving)


Act = Callable[[Machine], None]


def first(machine: Machine) -> None:
    machine.want("deploy", version="1")


def second(machine: Machine) -> None:
    machine.want("deploy", version="2")


def third(machine: Machine) -> None:
    machine.want("deploy", version="3")


def back(machine: Machine) -> None:
    machine.want("rollback", target=1)


def broken(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(answers=500, says=("Traceback",)))
    machine.want("deploy", version="2")


def falling(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(dies_after_s=0))
    machine.want("deploy", version="2")


def fewer(machine: Machine) -> None:
    machine.instances = 1
    machine.want("deploy", version="1")


def revived(machine: Machine) -> None:
    machine.world.reboot()
    machine.served = False
    machine.want("deploy", version="1")


def gone(machine: Machine) -> None:
    machine.served = False
    machine.fields["exclusive"] = machine.fields.get("exclusive", False)  # traffic may end now
    if machine.ledger.find_environment(PLACE) is not None:
        machine.ledger.set_destroying(PLACE)


def careful(machine: Machine) -> None:
    """The next deploy is a canary with everything that there is."""
    analysis = Analysis(min_requests=1, checks=(Check(kind="url", url="http://example.test/"),))
    steps = (Step(weight_percent=20, pause_ms=400), Step(weight_percent=60, pause_ms=400))
    machine.policy, machine.preview = Rollout(strategy="canary", steps=steps, analysis=analysis), "header"
    machine.fields |= {
        "before": (Task(command=("migrate",)), Task(command=("migrate", "more"))),
        "after": (Task(command=("tidy",)),),
        "smoke": (Check(kind="http", path="/healthz"),),
    }


def canary(machine: Machine) -> None:
    careful(machine)
    machine.want("deploy", version="2")


def bad_canary(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(fails_share=1.0))
    canary(machine)


def smoking_canary(machine: Machine) -> None:
    careful(machine)
    machine.world.runtime.behave(2, Behaviour(fails_checks=frozenset({"/healthz"})))
    machine.want("deploy", version="2")


def failing_task(machine: Machine) -> None:
    careful(machine)
    machine.world.runtime.behave(2, Behaviour(task_exit_status=3))
    machine.want("deploy", version="2")


def aborted(machine: Machine) -> None:
    """Somebody says so, at the second step."""
    machine.says = "abort"
    if not _asked(machine):
        canary(machine)


def aborted_batches(machine: Machine) -> None:
    machine.says, machine.instances = "abort", 3
    machine.world.runtime.behave(2, Behaviour(healthy_after_probes=2))
    if not _asked(machine):
        batches(machine)


def _asked(machine: Machine) -> bool:
    """Nobody asks again for what was given up."""
    return machine.ledger.releases(PLACE, last=1)[0].number == 2


def paused(machine: Machine) -> None:
    """Somebody pauses it before its first step, and has to say too when its last one is over."""
    machine.says = "resume"
    careful(machine)
    steps = (*machine.policy.steps[:1], dataclasses.replace(machine.policy.steps[1], pause_ms=None))
    machine.policy = dataclasses.replace(machine.policy, steps=steps)
    machine.want("deploy", version="2")
    rollout = machine.ledger.get_environment(PLACE).rollout
    if rollout is not None and rollout.stage.step == 0:
        machine.ledger.change_stage(rollout, "paused", {}, paused=True)


def batches(machine: Machine) -> None:
    machine.policy = Rollout(strategy="rolling", batch=1)
    machine.want("deploy", version="2")


def bad_batches(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(answers=500))
    batches(machine)


def batches_back(machine: Machine) -> None:
    machine.policy = Rollout(strategy="rolling", batch=1)
    machine.want("rollback", target=1)


def dead_one(machine: Machine) -> None:
    """An instance ends, and the agent looks."""
    machine.agent = True
    for one in machine.ledger.instances(PLACE)[:1]:
        if one.id.endswith("-1-1") and one.id in machine.world.runtime.traces():
            machine.world.runtime.kill(one.id)


def deaf_one(machine: Machine) -> None:
    """An instance no longer answers."""
    machine.agent = True
    for one in machine.ledger.instances(PLACE)[:1]:
        if one.id.endswith("-1-1") and one.id in machine.world.runtime.traces():
            machine.world.runtime.change(one.id, answers=500)


def old_ones(machine: Machine) -> None:
    """All instances have become too old."""
    machine.agent, machine.replace = True, Replace(max_age_ms=60_000)
    machine.want("deploy", version="1")
    if not machine.waited:
        machine.world.clock.sleep(61)
        machine.waited = True


def left_canary(machine: Machine) -> None:
    machine.agent = True
    canary(machine)


def left_batches(machine: Machine) -> None:
    machine.agent = True
    batches(machine)


SCENARIOS: dict[str, tuple[dict[str, object], tuple[Act, ...], Act]] = {
    "canary": ({}, (first,), canary),
    "canary that is left to the agent": ({}, (first,), left_canary),
    "canary that fails its analysis": ({}, (first,), bad_canary),
    "canary that fails its smoke check": ({}, (first,), smoking_canary),
    "canary whose task fails": ({}, (first,), failing_task),
    "canary that is aborted": ({}, (first,), aborted),
    "rollback after a canary": ({}, (first, canary), back),
    "rolling": ({}, (first,), batches),
    "rolling that is left to the agent": ({}, (first,), left_batches),
    "rolling that fails": ({}, (first,), bad_batches),
    "rolling that is aborted": ({}, (first,), aborted_batches),
    "rolling back": ({}, (first, batches), batches_back),
    "rolling worker": ({"port": None}, (first,), batches),
    "canary that is paused and resumed": ({}, (first,), paused),
    "an instance that died": ({}, (first,), dead_one),
    "an instance that no longer answers": ({}, (first,), deaf_one),
    "instances that are too old": ({}, (first,), old_ones),
    "an old instance, exclusive": ({"exclusive": True}, (first,), old_ones),
    "first deploy": ({}, (), first),
    "second deploy": ({}, (first,), second),
    "third deploy": ({}, (first, second), third),
    "rollback to the hot release": ({}, (first, second), back),
    "rollback to a retired release": ({}, (first, second, third), back),
    "a candidate that answers 500": ({}, (first,), broken),
    "a candidate that dies": ({}, (first,), falling),
    "a first deploy that dies": ({}, (), falling),
    "fewer instances": ({}, (first,), fewer),
    "after a reboot": ({}, (first,), revived),
    "destroy": ({}, (first, second), gone),
    "first deploy, exclusive": ({"exclusive": True}, (), first),
    "second deploy, exclusive": ({"exclusive": True}, (first,), second),
    "rollback, exclusive": ({"exclusive": True}, (first, second), back),
    "a broken candidate, exclusive": ({"exclusive": True}, (first,), broken),
    "worker": ({"port": None}, (first,), second),
    "rollback of a worker": ({"port": None}, (first, second), back),
    "destroy a worker": ({"port": None}, (first,), gone),
}


@contextlib.contextmanager
def prepared(path: Path, name: str) -> Iterator[Machine]:
    fields, before, _ = SCENARIOS[name]
    machine = Machine(path, Effects(), dict(fields), instances=1 if "exclusive" in fields else 2)
    for step in before:
        step(machine)
        machine.settle()
    try:
        yield machine
    finally:
        machine.ledger.close()


def without_a_crash(path: Path, name: str) -> tuple[object, int]:
    with prepared(path, name) as machine:
        began = len(machine.effects.names)
        SCENARIOS[name][2](machine)
        machine.settle()
        machine.check()
        return machine.summary(), len(machine.effects.names) - began


def killed(path: Path, name: str, *kills: tuple[str, int]) -> object:
    """Run a scenario with one crash a life; return how it ended."""
    with prepared(path, name) as machine:
        lives = [*kills, None]
        for life, kill in enumerate(lives):
            done = len(machine.effects.names)
            if kill is not None:
                setattr(machine.effects, f"_{kill[0]}", done + kill[1])
            try:
                if life == 0 or not _begun(machine) or _under_way(machine):
                    SCENARIOS[name][2](machine)
                if machine.ledger.find_environment(PLACE) is not None:
                    machine.settle()
            except Crash:
                machine.restart()
        machine.check()
        return machine.summary()


def _begun(machine: Machine) -> bool:
    """Tell whether the verb's own commit had happened before it was killed: if not, the user asks again."""
    state = machine.ledger.find_environment(PLACE)
    return state is not None and (state.rollout is not None or state.destroying)


def _under_way(machine: Machine) -> bool:
    """Tell whether a rollout runs: what was asked for may be asked again, and changes nothing."""
    state = machine.ledger.find_environment(PLACE)
    return state is not None and state.rollout is not None


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_point_changes_nothing_about_the_end(name: str, tmp_path: Path) -> None:
    """Killed before an effect is killed after the one before it."""
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    assert count > 0
    for when, index in (("before", 0), *(("after", index) for index in range(count))):
        ended = killed(tmp_path / f"{when}-{index}.db", name, (when, index))
        assert ended == expected, f"killed {when} effect {index}"


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_kills_at_any_points_change_nothing_either(name: str, tmp_path: Path) -> None:
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    print(f"{name}: {count} points")
    for index in range(count):
        for again in range(0, count, 3):
            ended = killed(tmp_path / f"{index}-{again}.db", name, ("after", index), ("after", again))
            assert ended == expected, f"killed after effect {index}, and {again} effects later"


TWICE = [
    "second deploy",
    "rollback to a retired release",
    "second deploy, exclusive",
    "canary",
    "canary that is left to the agent",
    "canary that fails its analysis",
    "rolling",
    "rolling that is left to the agent",
    "an instance that died",
]


@pytest.mark.parametrize("name", TWICE)
def test_a_second_kill_while_recovering_changes_nothing_either(name: str, tmp_path: Path) -> None:
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    for index in range(count):
        again = (index * 7) % 5
        ended = killed(tmp_path / f"{index}.db", name, ("after", index), ("after", again))
        assert ended == expected, f"killed after effect {index}, and {again} effects later"
