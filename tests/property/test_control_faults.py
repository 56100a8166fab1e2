"""Everything at once: rollouts of every kind, people who change their minds, and a machine that misbehaves.

A machine of rules makes up sequences of verbs and faults. Held at every side effect and every request: as long as no
fault took the last copy that could answer, somebody answers; no task runs twice; nothing that clashes runs at once.
Held when the faults are over: the rollout has ended, the active release has all traffic and all its copies, nothing is
orphaned, and the ledger verifies.

The normal run makes thirty sequences, ``scripts/test --thorough`` a hundred more, ``--long`` ten thousand
(``INSTAR_SEQUENCES`` says otherwise). A failure prints its steps and ``@reproduce_failure(…)``: put that above
``run_sequences`` to replay it, or run with ``--hypothesis-seed=N`` and the seed that pytest prints.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from instar.control.loop import Loop, Run
from instar.control.replace import counted_for
from instar.control.steps import waits_for_somebody
from instar.errors import InstarError
from instar.model.definition import Task
from instar.model.environment import Analysis, Check, Replace, RolloutRules, RolloutStep, Settings
from instar.model.progress import silent
from instar.model.release import TaintKind
from instar.model.rollout_happenings import RolloutAborted, RolloutPaused, RolloutResumed
from instar.operations.converge import start_rollout
from instar.operations.deploy import begin
from simulated import Behaviour, Crash, Effects, EngineSimulation, FaultyLedger, Simulation, guarded
from simulated.bare import bare_workspace
from simulated.values import ENV, ORIGIN, configuration, image

FEW, MORE, MANY, PASSES, LEFT_ALONE_PASSES, CALM_PASSES = 30, 100, 10_000, 6, 15, 1000
STEPS = (RolloutStep(weight_percent=20, pause_ms=300), RolloutStep(weight_percent=60, pause_ms=None))
POLICIES = {
    "blue-green": RolloutRules(),
    "watched": RolloutRules(watch_ms=20_000),
    "canary": RolloutRules(strategy="canary", steps=STEPS),
    "judged": RolloutRules(strategy="canary", steps=STEPS[:1], analysis=Analysis(min_requests=1, wait_ms=2_000)),
    "rolling": RolloutRules(strategy="rolling", batch=1),
    "rolling, judged": RolloutRules(strategy="rolling", batch=2, analysis=Analysis(min_requests=1, wait_ms=2_000)),
}
BEHAVIOURS = {
    "well": Behaviour(),
    "never healthy": Behaviour(healthy_after_probes=None),
    "sick": Behaviour(answers=500),
    "dies": Behaviour(dies_after_s=0.2),
    "hangs": Behaviour(hangs=True),
    "cannot be created": Behaviour(create_fails="no such command"),
    "cannot be started": Behaviour(start_fails="the kernel says no"),
    "smoking": Behaviour(fails_checks=frozenset({"/smoke"})),
    "failing": Behaviour(fails_share=1.0),
    "its task fails": Behaviour(task_exit_status=2),
    "its task hangs": Behaviour(task_hangs=True),
    "takes its time to end": Behaviour(ends_after_s=3.0),
    "has to be killed": Behaviour(ends_after_s=1e6),
}
SERVICES: dict[str, dict[str, object]] = {
    "web": {"smoke": (Check(kind="http", path="/smoke"),)},
    "exclusive": {"smoke": (Check(kind="http", path="/smoke"),), "exclusive": True},
    "worker": {"port": None},
}
KINDS = st.sampled_from(["person", "shell", "drift"])
TASKS = (Task(command=("migrate",), timeout_ms=2_000),)


class Faults(RuleBasedStateMachine):
    """One environment that an agent looks after while all this happens."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.effects = Effects()
        self.world = self.made_world()
        self.served = False  # somebody could answer, and no fault has changed that
        self.effects.watch(self._watch)
        self.ledger = self._open()
        self.run: Run | None = None
        self.version = 0
        self.behaviours: dict[int, str] = {}

    def made_world(self) -> Simulation | EngineSimulation:
        return Simulation(effects=self.effects)

    def teardown(self) -> None:
        with contextlib.suppress(Crash):
            self.ledger.verify()
        self.ledger.close()
        self.folder.cleanup()

    # what people do

    @initialize(
        instances=st.integers(1, 3),
        service=st.sampled_from(["web", "web", "web", "exclusive", "worker"]),
        preview=st.sampled_from([None, "header"]),
        max_age_ms=st.sampled_from([None, 60_000]),
    )
    def begin(self, instances: int, service: str, preview: str | None, max_age_ms: int | None) -> None:
        self.service = service
        self.settings = Settings(
            listen=("127.0.0.1:1",),
            instances=1 if service == "exclusive" else instances,
            preview=preview if service != "worker" and self.world.provider.previews is not None else None,
            replace=Replace(budget=3, within_ms=60_000, max_age_ms=max_age_ms),
        )
        self.deploy("blue-green", "well", self.settings.instances)
        self.calm()

    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        behaviour=st.sampled_from(["well", "well", *sorted(BEHAVIOURS)]),
        instances=st.integers(1, 3),
        paused=st.booleans(),
    )
    def deploy(self, policy: str, behaviour: str, instances: int, paused: bool = False) -> None:
        self.settings = Settings(
            listen=self.settings.listen,
            instances=1 if self.service == "exclusive" else instances,
            preview=self.settings.preview,
            replace=self.settings.replace,
            rollout=POLICIES["blue-green" if self.service == "exclusive" else policy],
        )
        with self.acting():
            self._want(behaviour, paused)
        self.settings = self.ledger.get_environment(ENV).settings
        self.served &= behaviour != "dies"  # it may do so when it has just got the traffic
        self.passes()

    def _want(self, behaviour: str, paused: bool) -> None:
        """Write it down by the function of the verb. Raises Refused where it waits for a person."""
        self.version += 1
        fields = {**SERVICES[self.service], "before": TASKS, "after": TASKS}
        made = configuration({"V": str(self.version)}, **fields)
        number = begin(self.workspace, ENV, self.settings, image(), made, "deploy", project=None, origin=ORIGIN).number
        self.behaviours[number] = behaviour
        self.world.runtime.behave(number, BEHAVIOURS[behaviour])
        begun = self.ledger.get_environment(ENV).rollout
        if paused and begun is not None:
            self.ledger.change_stage(RolloutPaused(rollout=begun.id, reason=""))

    @property
    def workspace(self) -> Any:
        """What the verbs' functions work with."""
        return bare_workspace(self.world.provider, self.ledger, Path(self.folder.name))

    @rule()
    def rollback(self) -> None:
        with self.acting():
            state = self.ledger.get_environment(ENV)
            older = [one for one in self.ledger.releases(ENV) if one.ran_well and one.number != state.active]
            if not older:
                return
            self.served &= self.behaviours[older[0].number] != "dies"
            with self.ledger.transaction():
                if state.rollout is not None:
                    self.ledger.end_rollout(state.rollout, "failed", {"reason": "rolled back"})
                start_rollout(self.workspace, ENV, older[0], "rollback")
        self.passes()

    @rule(word=st.sampled_from(["pause", "resume", "abort"]))
    def say(self, word: str) -> None:
        with self.acting():
            rollout = self.ledger.get_environment(ENV).rollout
            if rollout is None:
                return
            said = {
                "pause": RolloutPaused(rollout=rollout.id, reason=""),
                "resume": RolloutResumed(rollout=rollout.id, step=rollout.stage.step),
                "abort": RolloutAborted(rollout=rollout.id, reason="a typo"),
            }
            self.ledger.change_stage(said[word])
        self.passes()

    @rule(effect=st.integers(0, 12))
    def destroy(self, effect: int) -> None:
        """Killed in the middle, gone on with; then it is made anew."""
        self.served = False
        self.ledger.set_destroying(ENV)
        self.effects._after = len(self.effects.names) + effect
        for _ in range(CALM_PASSES):
            self._pass()
            if self.ledger.find_environment(ENV) is None:
                break
        self.effects.revive()
        assert self.ledger.find_environment(ENV) is None
        assert self.world.runtime.traces() == ()
        assert not self.world.weights(ENV)
        self.deploy("blue-green", "well", self.settings.instances)
        self.calm()

    @rule(which=st.integers(0, 5), kind=KINDS, isolated=st.booleans(), after_ms=st.sampled_from([0, 0, 3_000]))
    def somebody_taints(self, which: int, kind: TaintKind, isolated: bool, after_ms: int) -> None:
        with self.acting():
            for one in self.ledger.instances(ENV)[which : which + 1]:
                self.ledger.taint(one.id, kind, "a look", after_ms=after_ms, isolated=isolated)
        self.passes()

    @rule(which=st.integers(0, 5), weight=st.sampled_from([1, 7, 256]))
    def a_weight_is_changed_by_hand(self, which: int, weight: int) -> None:
        weights = dict(self.world.weights(ENV))
        for name in sorted(weights)[which : which + 1]:
            weights[name] = weight
            with self.acting():
                self.world.router.route(ENV, weights)
        self.passes()

    # what the machine does

    @rule(which=st.integers(0, 5), half=st.booleans())
    def instances_die(self, which: int, half: bool) -> None:
        names = sorted(self.world.runtime.traces())
        for name in names[which % 2 :: 2] if half else names[which : which + 1]:
            self.world.runtime.kill(name)
        self._disturbed()

    @rule(which=st.integers(0, 5), answers=st.sampled_from([200, 500]))
    def health_flaps(self, which: int, answers: int) -> None:
        for name in sorted(self.world.runtime.traces())[which : which + 1]:
            self.world.runtime.change(name, answers=answers)
        self._disturbed()

    @rule(verb=st.sampled_from(["ensure", "attach", "route", "detach", "preview"]))
    def the_router_refuses(self, verb: str) -> None:
        self.world.router.refuses.add(verb)
        self.passes()
        self.world.router.refuses.clear()
        self.passes()

    @rule()
    def the_router_dies(self) -> None:
        self.world.router.die()
        self._disturbed()

    @rule(room=st.integers(0, 8))
    def the_disk_is_full_for_a_while(self, room: int) -> None:
        self.ledger.session.room = room
        self.passes()
        self.ledger.session.room = None
        self.passes()

    @rule()
    def the_machine_reboots(self) -> None:
        self.world.reboot()
        self.run = None
        self._disturbed()

    @rule(seconds=st.sampled_from([-3600, -1, 5, 120]))
    def the_clock_jumps(self, seconds: int) -> None:
        self.world.clock.jump(seconds)
        self.passes()

    @rule(effect=st.integers(0, 20), again=st.integers(0, 20))
    def the_agent_is_killed(self, effect: int, again: int) -> None:
        """And once more while it recovers."""
        for kill in (effect, again):
            self.effects._after = len(self.effects.names) + kill
            self.passes()
            self.effects.revive()

    @rule()
    def nothing_happens(self) -> None:
        """Left alone, what was well serves again, whatever a rollout waits for."""
        self._heal()
        for _ in range(LEFT_ALONE_PASSES):
            self._pass()
        state = self.ledger.get_environment(ENV)
        if self.service == "web" and state.active is not None and self.behaviours[state.active] == "well":
            policy = self.settings.replace
            since = self.ledger.now() - counted_for(policy, self.ledger.get_release(ENV, state.active))
            if len(self.ledger.replacements(ENV, state.active, since, policy.max_age_ms)) < policy.budget:
                assert self.world.router.serving(ENV), "nobody serves"

    @rule()
    def all_is_well_for_a_long_time(self) -> None:
        """No fault any more: whatever was going on comes to an end."""
        self.calm()

    # how it works

    def passes(self) -> None:
        for _ in range(PASSES):
            self._pass()

    def calm(self) -> None:
        """Let the faults be over, everybody say resume, and look at what is left."""
        self._heal()
        self.ledger.set_alarm(ENV, None)
        idle = 0
        for _ in range(CALM_PASSES):
            waits = self._pass() is not None or self._is_tainted()
            idle = 0 if waits else idle + 1
            state = self.ledger.get_environment(ENV)
            if state.rollout is not None and waits_for_somebody(state):
                self.ledger.change_stage(RolloutResumed(rollout=state.rollout.id, step=state.rollout.stage.step))
            if idle > PASSES:
                break
        else:
            raise AssertionError("it does not come to rest")
        self._look_at_rest()
        self.served = bool(self.world.router.serving(ENV)) and self.service == "web"

    def _is_tainted(self) -> bool:
        state = self.ledger.get_environment(ENV)
        kept = state.alarm is None and state.active is not None and self.behaviours[state.active] == "well"
        return kept and any(one.taint for one in self.ledger.instances(ENV))

    def _heal(self) -> None:
        for one in self.world.runtime.traces():
            self.world.runtime.change(one, answers=200)

    def _look_at_rest(self) -> None:
        state, copies = self.ledger.get_environment(ENV), self.ledger.instances(ENV)
        assert state.rollout is None
        assert self.world.previewed(ENV) == {}
        assert sorted(self.world.runtime.traces()) == sorted(one.id for one in copies), "orphans"
        weighted = set(self.world.weights(ENV))
        active = {one.id for one in copies if one.release == state.active}
        if weighted & active or state.alarm is None:  # else another answers in its place
            assert weighted <= active, "traffic beside the active release"
            ran_well = {one.number for one in self.ledger.releases(ENV) if one.ran_well}
            others = {one.release for one in copies} - {state.active}
            assert others <= ran_well and len(others) <= state.settings.keep.hot, "more is hot than may be"
        if state.active is not None and state.alarm is None and self.behaviours[state.active] == "well":
            assert sum(one.members for one in copies if one.id in active) == state.settings.instances
            assert not any(one.taint for one in copies), "it was never replaced"
            assert weighted == (set() if self.service == "worker" else active)
            running = self.world.states([one for one in copies if one.id in active])
            assert set(running) == {"running"}
            assert self.service == "worker" or set(self.world.router.serving(ENV)) == active

    def _pass(self) -> float | None:
        """One pass of the agent, users who ask, and a little time."""
        seconds: float | None = 0.5
        with self.acting():
            if self.run is None:
                provider = guarded(self.world.provider, self.ledger.require_none_open)
                loop = Loop(ledger=self.ledger, provider=provider, find_image=lambda digest: image(), report=silent)
                self.run = loop.begin(ENV, asked=False)
            seconds = self.run.advance()
            self._look_at_shares()
            if seconds is None and self.ledger.get_environment(ENV).destroying:
                self.ledger.remove_environment(ENV)
        for _ in range(3):
            self._ask()
        self.world.clock.sleep(0.5 if seconds is None else min(max(seconds, 0.1), 2.0))
        return seconds

    def _look_at_shares(self) -> None:
        """When the loop waits in a canary's step, the target has the step's share, where others could have the rest."""
        state = self.ledger.get_environment(ENV)
        rollout, steps = state.rollout, state.settings.rollout.steps
        if rollout is None or rollout.kind == "rollback" or state.active == rollout.target or self.service != "web":
            return
        weights = self.world.weights(ENV)
        of_target = [weight for name, weight in weights.items() if name.split("-")[-2] == str(rollout.target)]
        others = [name for name in self.world.reachable(ENV) if f"-{rollout.source}-" in name]
        if 0 < rollout.stage.step <= len(steps) and of_target and others:
            percent = 100 * sum(of_target) / sum(weights.values())
            assert abs(percent - steps[rollout.stage.step - 1].weight_percent) <= 1

    def _ask(self) -> None:
        serving = self.world.router.serving(ENV)
        answered = self.world.router.request(ENV)
        if self.served:
            fails = {name for name in serving if self.behaviours[int(name.split("-")[-2])] == "failing"}
            assert answered or fails, "a request that nobody answers"

    def _disturbed(self) -> None:
        """A fault that took the last one who could answer is no fault of ours."""
        back = self.settings.rollout.watch_ms and "dies" in self.behaviours.values()  # it may go back to one that does
        self.served &= bool(self.world.router.serving(ENV)) and not back
        self.passes()

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What goes wrong inside goes wrong for a process: another one comes."""
        try:
            yield
        except InstarError:
            self.run = None
        except Crash:
            self.run = None
            self.ledger.close()
            self.effects.revive()
            self.ledger = self._open()

    def _open(self) -> FaultyLedger:
        opened = FaultyLedger(Path(self.folder.name, "instar.db"), actor="tester", clock=self.world.clock.now)
        opened.effects = self.effects
        return opened

    def _watch(self, name: str) -> None:
        assert self.world.runtime.violations == [], name
        if self.served:
            assert self.world.router.serving(ENV), f"no traffic after {name}"

    @invariant()
    def what_must_always_be_true(self) -> None:
        tasks = self.world.runtime.tasks_run
        assert len(set(tasks)) == len(tasks), "a task ran twice"
        assert self.world.runtime.violations == []


def run_sequences(machine: type[Faults], count: int) -> None:
    wanted = int(os.environ.get("INSTAR_SEQUENCES", str(count)))
    profile = settings(
        max_examples=wanted,
        stateful_step_count=12,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=profile)


def test_a_few_sequences_of_verbs_and_faults() -> None:
    run_sequences(Faults, FEW)


@pytest.mark.thorough
def test_a_hundred_sequences_of_verbs_and_faults() -> None:
    run_sequences(Faults, MORE)


@pytest.mark.long
def test_ten_thousand_sequences_of_verbs_and_faults() -> None:
    run_sequences(Faults, MANY)
