"""The loop: observe, decide, act, record, until nothing is left to do.

``deploy``, ``rollback`` and ``promote`` write what is wanted and run it in the foreground; after a crash the next
run goes on where the ledger says. The caller holds the environment's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from instar.control.actions import Action, Fail, Plan, Wait
from instar.control.decide import decide
from instar.control.executor import Executor
from instar.control.observe import observe
from instar.control.story import Story
from instar.control.world import World
from instar.errors import InstarError, LedgerError
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.progress import Report
from instar.model.release import Place, Settings
from instar.providers.base import Provider


@dataclass(frozen=True, kw_only=True)
class Loop:
    """``pause`` is real by default; tests give a virtual one, as they give the ledger its clock."""

    ledger: Ledger
    provider: Provider
    find_image: Callable[[Digest], Image]
    report: Report
    pause: Callable[[float], None] = time.sleep

    def run(self, place: Place, settings_before: Settings | None = None) -> Story:
        """Act until ``place`` is as wanted. A rollout that can't end well is ended as failed, and undone.

        ``settings_before`` are what a failed rollout falls back to. What interrupts it (``^C``) before the traffic
        has moved undoes the rollout too, and is raised afterwards.
        """
        story = Story(report=self.report)
        executor = Executor(
            ledger=self.ledger,
            provider=self.provider,
            find_image=self.find_image,
            story=story,
            settings_before=settings_before,
        )
        began = self.ledger.now()
        interruption: KeyboardInterrupt | None = None
        replaced: set[int] = set()
        while True:
            try:
                if not self._step(place, executor, story, began, replaced):
                    break
            except KeyboardInterrupt as error:
                if interruption is not None or not self._undo(place, executor, story):
                    raise
                interruption = error
        if interruption is not None:
            raise interruption
        return story

    def _step(self, place: Place, executor: Executor, story: Story, began: datetime, replaced: set[int]) -> bool:
        """Observe and decide once, and act on it. False when nothing is left to do."""
        world = observe(self.ledger, self.provider, place, began=began, tried=frozenset(replaced))
        story.world = world
        todo = decide(world)
        story.launching(world)
        for action in todo:
            self._act(world, executor, action)
            if isinstance(action, Plan) and action.replacing:
                replaced.add(action.release)
            if isinstance(action, Wait):
                self.pause(action.seconds)
        return bool(todo)

    def _act(self, world: World, executor: Executor, action: Action) -> None:
        try:
            executor.execute(world, action)
        except LedgerError:
            raise
        except (InstarError, OSError) as error:
            if world.environment.rollout is None or isinstance(action, Fail):
                raise
            culprits = getattr(action, "instances", ())
            executor.fail(world, Fail(_cause(error), tuple(culprits)))

    def _undo(self, place: Place, executor: Executor, story: Story) -> bool:
        """Fail the running rollout if its target has no traffic yet; False when there is nothing to undo."""
        world = observe(self.ledger, self.provider, place)
        rollout = world.environment.rollout
        if rollout is None or world.environment.active == rollout.target:
            return False
        executor.fail(world, Fail("it was interrupted"))
        story.undone(world, "interrupted")
        return True


def _cause(error: InstarError | OSError) -> str:
    if isinstance(error, InstarError):
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return str(error)
