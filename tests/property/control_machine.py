"""A simulated machine with a real ledger that crashes where it is told, and the loop on it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from instar.control.loop import Loop, Run
from instar.control.steps import waits_for_somebody
from instar.model.doors import Door
from instar.model.environment import Replace, RoleSettings, RolloutRules, Settings, When
from instar.model.progress import silent
from instar.model.release import RolloutKind
from instar.model.rollout_happenings import RolloutAborted, RolloutResumed
from instar.operations.converge import start_rollout
from instar.operations.data_restore import begin_restore
from instar.operations.deploy import begin
from simulated import CrashableLedger, Effects, EngineSimulation, Simulation, guarded
from simulated.bare import bare_workspace
from simulated.values import ENV, ORIGIN, configuration, image

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
    policy: RolloutRules = RolloutRules()
    preview: str | None = None
    agent: bool = False  # the loop is carried on by the agent, not by a command
    replace: Replace = Replace()
    when: When = "traffic"  # instances of roles without traffic start
    says: Literal["", "resume", "abort"] = ""  # what somebody says when the rollout is there
    waited: bool = False
    served: bool = False
    lasting: tuple[str, ...] = ()  # doors of other roles at which somebody answers as soon as once somebody did
    opened: set[str] = field(default_factory=set)
    engine: bool = False  # somewhere else, instead of this machine
    world: Simulation | EngineSimulation = field(init=False)
    ledger: CrashableLedger = field(init=False)

    def __post_init__(self) -> None:
        self.world = EngineSimulation(effects=self.effects) if self.engine else Simulation(effects=self.effects)
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

    def want(
        self, kind: RolloutKind, *, target: int | None = None, version: str = "1", data: dict[str, int] | None = None
    ) -> None:
        """Write what is wanted, by the functions of the verbs: in one transaction, and not twice."""
        settings = dataclasses.replace(
            SETTINGS,
            instances=self.instances,
            roles=self.roles,
            rollout=self.policy,
            preview=self.preview,
            replace=self.replace,
            doors={name: Door(listen=(f"127.0.0.1:{9000 + at}",)) for at, name in enumerate(self.doors)},
        )
        if target is None:
            wanted = configuration({"VERSION": version}, **self.fields)
            begin(self.workspace, ENV, settings, image(), wanted, kind, project=None, origin=ORIGIN)
            return
        with self.ledger.transaction():
            before = self.ledger.get_environment(ENV).settings
            self.ledger.save_settings(ENV, settings)
            release = self.ledger.get_release(ENV, target)
            start_rollout(self.workspace, ENV, release, kind, settings_before=before, data=data)

    def restore(self, volume: str, snapshot: int) -> None:
        """Write that a volume is to be restored, by the function of the verb, and not twice."""
        state = self.ledger.get_environment(ENV)
        if state.rollout is None:
            begin_restore(self.workspace, state, volume, snapshot)

    @property
    def roles(self) -> dict[str, RoleSettings]:
        """Two instances of each role that is not exclusive."""
        roles: Any = self.fields.get("roles", {})
        each = {name: RoleSettings(instances=1 if one.exclusive else 2, when=self.when) for name, one in roles.items()}
        return {"web": RoleSettings(instances=self.instances), **each} if roles else {}

    @property
    def doors(self) -> list[str]:
        """The roles that have a door of their own."""
        roles: Any = self.fields.get("roles", {})
        return sorted(name for name, one in roles.items() if one.port is not None)

    @property
    def workspace(self) -> Any:
        """What the verbs' functions work with."""
        return bare_workspace(self.world.provider, self.ledger, self.path.with_suffix(".home"))

    def settle(self) -> None:
        loop = Loop(
            ledger=self.ledger,
            provider=guarded(self.world.provider, self.ledger.require_none_open),
            find_image=lambda digest: image(),
            report=silent,
            pause=self.wait,
        )
        if self.agent:
            self.look_after(loop.begin(ENV, asked=False))
        else:
            loop.run(ENV)
        if self.ledger.get_environment(ENV).destroying:
            self.ledger.remove_environment(ENV)

    def wait(self, seconds: float) -> None:
        """Let time pass, and users ask meanwhile."""
        for _ in range(REQUESTS if self.policy.analysis else 1):
            self.ask()
        self.world.clock.sleep(max(seconds, SHORTEST_S))
        rollout = self.ledger.get_environment(ENV).rollout
        if rollout is not None and self.says == "resume" and waits_for_somebody(self.ledger.get_environment(ENV)):
            self.ledger.change_stage(RolloutResumed(rollout=rollout.id, step=rollout.stage.step))
        elif rollout is not None and self.says == "abort" and rollout.stage.step >= 2 and not rollout.stage.abort:
            self.ledger.change_stage(RolloutAborted(rollout=rollout.id, reason="a typo"))

    def ask(self) -> None:
        self.world.router.request(ENV)
        if self.served and self.routed and "exclusive" not in self.fields:
            assert self.world.router.serving(ENV), "a request that nobody could answer"
        for door in self.opened:
            self.world.router.request(ENV, door=door)  # type: ignore[call-arg]
            assert self._serving(door), f"a request by {door} that nobody could answer"

    def look_after(self, run: Run) -> None:
        """Pass after pass, as the agent does, until a few in a row had nothing to do."""
        idle = 0
        while idle < IDLE_PASSES:
            seconds = run.advance()
            idle = idle + 1 if seconds is None else 0
            self.wait(1.0 if seconds is None else min(seconds, 1.0))

    def summary(self) -> object:
        """Return what must be the same however often it was killed: names of instances may differ, their sum not."""
        state = self.ledger.find_environment(ENV)
        if state is None:
            return None
        groups = self.ledger.instances(ENV)
        return (
            state.active,
            state.rollout,
            sorted(zip(((one.release, one.role) for one in groups), self.world.states(groups), strict=True)),
            [(one.number, one.ran_well) for one in self.ledger.releases(ENV)],
            sorted(self.world.runtime.tasks_run),
            {} if self.engine else dict(self.world.runtime.data.holds),
            [] if self.engine else self._kept(),
        )

    def _kept(self) -> list[object]:
        """Return what snapshots hold, and of which release that is: who is killed before one is written down takes no
        other."""
        found = [one for each in self.world.runtime.data.kept.values() for one in each.values()]
        return [(one.volume, one.number, one.running, one.cause and one.cause.release, held) for one, held in found]

    def check(self) -> None:
        """Assert what must hold at rest."""
        assert self.world.runtime.violations == []
        assert len(set(self.world.runtime.tasks_run)) == len(self.world.runtime.tasks_run), "a task ran twice"
        assert self.world.previewed(ENV) == {}
        copies = self.ledger.instances(ENV)
        assert sorted(self.world.runtime.traces()) == sorted(one.id for one in copies)
        self.ledger.verify()
        state = self.ledger.find_environment(ENV)
        weighted = list(self.world.weights(ENV))
        active = [
            one.id for one in copies if state and one.release == state.active and one.role in ("", "web", *self.doors)
        ]
        assert sorted(weighted) == (sorted(active) if self.routed else [])

    def _watch(self, name: str) -> None:
        assert self.world.runtime.violations == [], name
        serving = self.world.router.serving(ENV)
        self.ask()
        if self.served and self.routed and "exclusive" not in self.fields:
            assert serving, f"no traffic after {name}"
        self.served = self.served or bool(serving)
        for door in self.opened:
            assert self._serving(door), f"no traffic at {door} after {name}"
        self.opened |= {door for door in self.lasting if self._serving(door)}

    def _serving(self, door: str) -> bool:
        return bool(self.world.router.serving(ENV, door))  # type: ignore[call-arg]
