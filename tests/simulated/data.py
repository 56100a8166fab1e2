"""What volumes hold, in memory: who has written it, so that nothing of one release's is ever beside another's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from instar.errors import HalfDone, HostError, NotFound
from instar.model.release import EnvironmentId
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.base import StoredVolume
from simulated.clock import VirtualClock
from simulated.effects import Effects

Key = tuple[EnvironmentId, str]


class SimulatedSnapshots:
    """Implements providers.facets.Snapshots. ``holds`` has what was written to each volume, in its order; ``has`` says
    which instances were made with one, ``violated`` is told what must not be."""

    def __init__(self, *, clock: VirtualClock, effects: Effects) -> None:
        self._clock = clock
        self._effects = effects
        self.holds: dict[Key, tuple[str, ...]] = {}
        self.kept: dict[Key, dict[int, tuple[VolumeSnapshot, tuple[str, ...]]]] = {}
        self.has: Callable[[EnvironmentId, str], list[str]] = lambda environment, name: []
        self.violated: Callable[[str], None] = lambda text: None
        self.free = 1 << 40
        self.fails = ""  # who restores is told so
        self.fails_once = False
        self.half_done = False  # the next one who restores is told that it may have happened or not; it has

    def wrote(self, environment: EnvironmentId, name: str, word: str) -> None:
        """Something has a volume from now on, and writes into it."""
        held = self.holds.get((environment, name), ())
        if word not in held:
            self.holds[environment, name] = (*held, word)

    def snapshots(self, environment: EnvironmentId | None = None) -> Iterator[VolumeSnapshot]:
        for (of, _), found in self.kept.items():
            if environment in (None, of):
                yield from (one for one, _ in found.values())

    @contextlib.contextmanager
    def shown(self, environment: EnvironmentId, name: str) -> Iterator[Path]:
        raise HostError("nothing in memory can be shown")
        yield

    def copied_bytes(self, environment: EnvironmentId, name: str) -> int | None:
        return len(self._held(environment, name)) << 20

    def free_bytes(self) -> int:
        return self.free

    def take_snapshot(
        self, environment: EnvironmentId, name: str, *, running: bool, cause: SnapshotCause | None = None
    ) -> VolumeSnapshot:
        held, kept = self._held(environment, name), self.kept.setdefault((environment, name), {})
        with self._effects.step(f"keep {name}"):
            made = VolumeSnapshot(
                environment=environment,
                volume=name,
                number=max(kept, default=0) + 1,
                at=self._clock.peek(),
                running=running,
                where="",
                used_bytes=len(held) << 20,
                cause=cause,
            )
            kept[made.number] = (made, held)
        return made

    def restore_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        _, held = self.kept[environment, name][number]
        if self.fails:
            text, self.fails = self.fails, "" if self.fails_once else self.fails
            raise HostError(text)
        having = self.has(environment, name)
        if having:
            self.violated(f"what '{name}' holds is replaced under {', '.join(having)}")
        with self._effects.step(f"restore {name}"):
            self.holds[environment, name] = held
        if self.half_done:
            self.half_done = False
            raise HalfDone(f"cannot be sure of what '{name}' holds")

    def remove_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        with self._effects.step(f"remove snapshot {number} of {name}"):
            del self.kept[environment, name][number]

    def copy_volume(self, source: EnvironmentId, name: str, to: EnvironmentId, as_name: str) -> None:
        with self._effects.step(f"copy {name}"):
            self.holds[to, as_name] = self._held(source, name)

    def _held(self, environment: EnvironmentId, name: str) -> tuple[str, ...]:
        if (environment, name) not in self.holds:
            raise NotFound(f"cannot find the volume '{name}' of '{environment}'")
        return self.holds[environment, name]


class SimulatedVolumes:
    """Implements providers.facets.Volumes. ``volumes_of`` are those that there are."""

    def keep_volumes(self, clock: VirtualClock, effects: Effects) -> None:
        self.volumes_of: set[Key] = set()
        self.data = SimulatedSnapshots(clock=clock, effects=effects)

    @property
    def snapshots(self) -> SimulatedSnapshots:
        return self.data

    def volumes(self) -> tuple[StoredVolume, ...]:
        return tuple(StoredVolume(environment=of, name=name, where="", used_bytes=0) for of, name in self.volumes_of)

    def kept_of(self, environment: EnvironmentId) -> tuple[StoredVolume, ...]:
        return tuple(one for one in self.volumes() if one.environment == environment)

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        self.volumes_of.discard((environment, name))
