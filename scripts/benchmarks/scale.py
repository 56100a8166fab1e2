"""Many instances in one environment, and many events in the ledger, on the simulated provider of the tests."""

from __future__ import annotations

import gc
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from figures import Figure  # noqa: E402

from instar.control.loop import Loop, Run  # noqa: E402
from instar.ledger import Ledger  # noqa: E402
from instar.model.environment import Settings  # noqa: E402
from instar.model.progress import silent  # noqa: E402
from instar.model.release import EnvironmentId, Release  # noqa: E402
from instar.model.state import StateDirectory  # noqa: E402
from instar.providers.doors import Ports  # noqa: E402
from instar.providers.machine import MachineProvider  # noqa: E402
from instar.providers.router_plan import RouterPlan  # noqa: E402
from simulated import Effects, SimulatedRouter, SimulatedRuntime, VirtualClock  # noqa: E402  (tests are no package)
from simulated.values import ENV, configuration, image, note  # noqa: E402

COUNTS = (1_000, 3_000, 10_000)


class Fleet:
    """An environment of ``count`` instances, all as wanted, half a minute after they began."""

    def __init__(self, path: Path, count: int) -> None:
        self.clock = VirtualClock(limit_s=1e9)
        effects = Effects()
        self.runtime = SimulatedRuntime(clock=self.clock, effects=effects)
        self.router = SimulatedRouter(runtime=self.runtime, clock=self.clock, effects=effects)
        self.provider = MachineProvider(runtime=self.runtime, router=self.router)
        self.path = path
        self.ledger = Ledger(path, actor="bench", clock=self.clock.now)
        self._fill(count)
        gc.collect()
        gc.freeze()  # the simulated machine is not what is measured: nobody has to walk through it
        self.clock.sleep(timedelta(seconds=30).total_seconds())

    def run(self) -> Run:
        """Return a run of the loop as the agent has it."""
        loop = Loop(ledger=self.ledger, provider=self.provider, find_image=lambda digest: image(), report=silent)
        return loop.begin(ENV, asked=False)

    def change(self) -> None:
        """Write something, of which nobody knows what it changes before the rows are read again."""
        self.ledger.record(note(0), ENV)

    def read(self) -> object:
        """Read the same rows as SQL gives them, and nothing else: what any ledger would cost."""
        with sqlite3.connect(self.path) as connection:
            return connection.execute("SELECT * FROM instances WHERE removed_at IS NULL ORDER BY serial").fetchall()

    def _fill(self, count: int) -> None:
        settings = Settings(listen=("127.0.0.1:8080",), instances=count)
        with self.ledger.transaction():
            self.ledger.save_settings(ENV, settings)
            release = self.ledger.add_release(ENV, image().digest, configuration())
            self.ledger.end_rollout(self.ledger.begin_rollout(ENV, "deploy", release.number), "done")
            self.ledger.set_active(ENV, release.number)
            self._launch(release, count)
        self.router.ensure(RouterPlan.of(ENV, settings, release.service))
        ports = {(release.number, ""): Ports(door="", port=8080)}
        targets = self.provider.inspects.targets(self.ledger.instances(ENV), ports)
        self.router.attach(ENV, targets)
        self.router.route(ENV, {target.name: 100 for target in targets})

    def _launch(self, release: Release, count: int) -> None:
        for instance in self.ledger.add_instances(ENV, release.number, count):
            self.ledger.set_made(instance.id)
            self.runtime.found_running(self.ledger.set_started(instance.id), release)


def passes(folders: Mapping[int, Path], rounds: int) -> list[Figure]:
    """Return what a pass over each of ``COUNTS`` instances takes, where nothing has changed since the last one and
    where something has; in ``folders``."""
    figures, peer_name = list[Figure](), "the same rows by plain SQL"
    unchanged, changed = dict[int, Figure](), dict[int, Figure]()
    for count, folder in folders.items():
        fleet = Fleet(folder / "instar.db", count)
        run = fleet.run()
        same, after_changes, reads = list[float](), list[float](), list[float]()
        for _ in range(rounds):
            same += milliseconds(run.advance, 1)
            fleet.change()
            after_changes += milliseconds(run.advance, 1)
            reads += milliseconds(fleet.read, 1)
        what, most = f"a pass of the loop over {count:,} instances", 5 if count == max(COUNTS) else None
        unchanged[count] = Figure(what=what, ours=same, beside=reads, unit="ms", peer=peer_name, most=most)
        after = f"{what}, of which any may have changed"
        changed[count] = Figure(what=after, ours=after_changes, beside=reads, unit="ms", peer=peer_name, most=most)
    for each in (unchanged, changed):
        growth = [(each[max(COUNTS)].ratio or 0) / (each[min(COUNTS)].ratio or 1)]
        of_growth = f"{each[max(COUNTS)].what}: against SQL, to that over {min(COUNTS):,}"
        figures += [*each.values(), Figure(what=of_growth, ours=growth, unit="×", most=1.5)]
    return figures


def milliseconds(what: Callable[[], object], rounds: int) -> list[float]:
    """Return how much of a processor's time each round takes: nothing that is measured here waits."""
    found = []
    for _ in range(rounds):
        gc.collect()  # nobody pays for what another has left
        began = time.process_time()
        what()
        found.append(1000 * (time.process_time() - began))
    return found


def write_events(ledger: Ledger, count: int) -> None:
    """Fill the ledger with a history of other environments."""
    environments = [EnvironmentId(service="other", name=f"env-{number}") for number in range(20)]
    for first in range(0, count, 5_000):
        with ledger.transaction():
            for number in range(first, min(first + 5_000, count)):
                ledger.record(note(number), environments[number % len(environments)])


def history(home: Path, count: int) -> None:
    """Make a state directory whose ledger has ``count`` events, nearly all of other environments."""
    with Ledger(StateDirectory.from_environment({"INSTAR_HOME": str(home)}).ledger, actor="bench") as ledger:
        ledger.save_settings(ENV, Settings(listen=("127.0.0.1:8080",)))
        release = ledger.add_release(ENV, image().digest, configuration())
        ledger.end_rollout(ledger.begin_rollout(ENV, "deploy", release.number), "failed")
        write_events(ledger, count)
