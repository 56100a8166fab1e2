"""Carries actions out: writes each decision to the ledger, then acts on it through the provider.

Everything here may be killed at any instruction; every action is such that observing again and deciding again
leads on from wherever it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from instar.control import actions
from instar.control.story import Story
from instar.control.world import World, wanted_plan
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.release import Instance, Release, Settings
from instar.providers.base import Provider, Target

T = TypeVar("T")
_AT_ONCE = 8
LAST_LINES = 12


class Executor:
    """One per run of the loop. ``find_image`` gives the image of a digest from the store; ``settings_before`` are what
    a failed rollout falls back to."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        provider: Provider,
        find_image: Callable[[Digest], Image],
        story: Story,
        settings_before: Settings | None = None,
    ) -> None:
        self._ledger = ledger
        self._runtime = provider.runtime
        self._router = provider.router
        self._find_image = find_image
        self._story = story
        self._settings_before = settings_before

    def execute(self, world: World, action: actions.Action) -> None:
        """Do ``action``. Raises ProviderError, RouterError, StoreError or HostError when it can't be done."""
        match action:
            case actions.Plan():
                self._plan(world, action)
            case actions.Create():
                self._create(world, action)
            case actions.Start():
                self._start(self._instances(world, action.instances))
            case actions.OpenRouter():
                self._router.ensure(wanted_plan(world, world.releases[action.release]))
            case actions.Attach():
                self._attach(world, action)
            case actions.Shift():
                self._shift(world, action)
            case actions.Route():
                self._route(world, action.instances)
            case actions.Cut():
                self._story.cut += self._router.detach(world.environment.place, action.instances)
            case actions.Retire():
                self._retire(world, action)
            case actions.Finish():
                self._finish(world)
            case actions.Fail():
                self.fail(world, action)
            case actions.CloseRouter():
                self._router.remove(world.environment.place)
            case actions.Wait():
                self._story.draining(world)

    def fail(self, world: World, action: actions.Fail) -> None:
        """End the rollout as failed, with the last words of its culprits; the source has the traffic (again)."""
        rollout, place = world.environment.rollout, world.environment.place
        assert rollout is not None
        words = {name: self._last_words(name) for name in action.instances[:1]}
        with self._ledger.transaction():
            if self._ledger.get_environment(place).active == rollout.target:
                self._ledger.set_active(place, rollout.source, {"reason": "the rollout failed"})
            self._ledger.end_rollout(rollout, "failed", {"reason": action.reason, "last_lines": words})
            if self._settings_before is not None:
                self._ledger.save_settings(place, self._settings_before)

    def _plan(self, world: World, action: actions.Plan) -> None:
        if action.replacing and action.release == world.environment.active:
            self._story.replacing(action.count)
        network = self._runtime.network()
        self._ledger.add_instances(world.environment.place, action.release, action.count, network)

    def _create(self, world: World, action: actions.Create) -> None:
        self._story.launching(world)
        instances = self._instances(world, action.instances)
        release = world.releases[instances[0].release]
        image = self._find_image(release.image)
        processes = _at_once(lambda one: self._runtime.create(one, release, image), instances)
        with self._ledger.transaction():
            for instance, process in zip(instances, processes, strict=True):
                self._ledger.set_process(instance.id, process)
        if action.start:
            self._start(instances)

    def _start(self, instances: Sequence[Instance]) -> None:
        with self._ledger.transaction():
            for instance in instances:
                self._ledger.set_started(instance.id)
        _at_once(self._runtime.start, instances)

    def _attach(self, world: World, action: actions.Attach) -> None:
        self._story.launched(world)
        release = world.releases[action.release]
        targets = [self._target(instance, release) for instance in self._instances(world, action.instances)]
        self._router.attach(world.environment.place, targets)

    def _shift(self, world: World, action: actions.Shift) -> None:
        place = world.environment.place
        self._story.launched(world)
        self._ledger.set_active(place, action.release, {"instances": list(action.instances)})
        if action.instances:
            self._give_traffic(world, action.instances)

    def _route(self, world: World, names: tuple[str, ...]) -> None:
        if names:
            self._give_traffic(world, names)
        else:
            self._story.closed()
            self._router.route(world.environment.place, {})

    def _give_traffic(self, world: World, names: tuple[str, ...]) -> None:
        place = world.environment.place
        seconds = self._router.route(place, dict.fromkeys(names, 100))
        state = self._router.observe(place)
        self._story.shifted(seconds, sum(item.sessions for item in state.targets if item.target.name not in names))

    def _retire(self, world: World, action: actions.Retire) -> None:
        instances = self._instances(world, action.instances)
        _at_once(lambda one: self._runtime.destroy(one, world.releases[one.release]), instances)
        self._story.cut += self._router.detach(world.environment.place, action.instances)
        with self._ledger.transaction():
            for instance in instances:
                self._ledger.remove_instance(instance.id, action.reason)

    def _finish(self, world: World) -> None:
        rollout = world.environment.rollout
        assert rollout is not None
        self._story.finished(world)
        self._ledger.end_rollout(rollout, "done", self._story.measured)

    def _instances(self, world: World, names: Sequence[str]) -> list[Instance]:
        return [copy.instance for copy in world.copies if copy.id in names]

    def _target(self, instance: Instance, release: Release) -> Target:
        assert release.service.port is not None
        return Target(name=instance.id, address=instance.address, port=release.service.port)

    def _last_words(self, name: str) -> list[str]:
        return list(self._runtime.log_lines(name, last=LAST_LINES))


def _at_once(do: Callable[[Instance], T], instances: Sequence[Instance]) -> list[T]:
    """Do it to all in parallel; wait for all; raise the first error, if any."""
    if len(instances) == 1:
        return [do(instances[0])]
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(instances))) as threads:
        doing = [threads.submit(do, one) for one in instances]
        try:
            wait(doing)
        except BaseException:  # whoever undoes it must not begin while a thread still does it
            for each in doing:
                each.cancel()
            wait(doing)
            raise
    return [each.result() for each in doing]
