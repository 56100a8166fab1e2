"""Definition + lock → what a bake would do: each part's steps, which of them are known, and which parts are needed.

Nothing is run or written. A stage is needed where a step that takes something out of it has to run; what steps depend
on that nobody knows before, is known when the stage is baked: then :func:`planned_steps` says more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from instar.bake.explained import explain
from instar.bake.image import configure
from instar.bake.records import Records
from instar.bake.stages import kept as kept_stages
from instar.bake.stages.takes import Contents
from instar.bake.steps import Step, of_the_image, plan_steps
from instar.definition.parts import ImagePart, needed_parts_of, parts_beneath
from instar.frozen import dataclass
from instar.model.architectures import platform_of
from instar.model.digest import Digest
from instar.model.image import ImageConfig, Layer
from instar.model.lock import Lock
from instar.model.state import StateDirectory
from instar.store import manifest

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """``layer`` is what the step gave before, None when it has to run, or when that is not known yet; ``user`` the
    numbers that it found or made; ``why`` it has to run, where that was asked for."""

    step: str
    layer: Layer | None
    user: tuple[int, int] | None = None
    work: Step
    why: str = ""

    @property
    def cached(self) -> bool:
        return self.layer is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPart:
    """The image (``stage`` None), or a stage: ``needed`` unless all that is taken out of it is there without it."""

    stage: str | None
    steps: tuple[PlannedStep, ...]
    needed: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """``parts``: the stages in their order, and the image. ``image`` is the digest that a bake would give; None when
    that isn't known before it."""

    parts: tuple[PlannedPart, ...]
    image: Digest | None
    contents: Contents

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The steps of all parts that are needed."""
        return tuple(step for part in self.parts if part.needed for step in part.steps)

    @property
    def fetches(self) -> bool:
        """Whether a step has to run that takes files from the cache."""
        return any(not step.cached and step.work.fetches for step in self.steps)


def plan(
    loaded: Loaded, *, lock: Lock, store: Store, state: StateDirectory, explained: bool = False, whole: bool = False
) -> Planned:
    """Say what a bake would do. ``explained``: and why. ``whole``: every stage is needed.

    Raises StepFailed, BakeError.
    """
    records, name = Records(state.steps, store), service_on(loaded.definition.name, lock, store)
    platform = platform_of(lock.architecture)
    contents = Contents(kept_stages.read(state.steps, name).contents if loaded.definition.build else {})
    parts = []
    for part in needed_parts_of(loaded):
        steps = planned_steps(plan_steps(part.for_platform(platform), lock.of(part.stage), contents), records)
        if part.stage is not None:
            contents.end(part.stage, steps[-1].work.key)
        parts.append(PlannedPart(stage=part.stage, steps=steps))
    if not whole:
        parts = _as_needed(parts)
    if explained:
        parts = [_explained(part, state, name, lock.of(part.stage)) if part.needed else part for part in parts]
    held = of_the_image(parts[-1].steps, lambda step: step.work.kind)
    layers = [step.layer for step in held if step.layer is not None]
    if not all(step.cached for step in parts[-1].steps):
        return Planned(parts=tuple(parts), image=None, contents=contents)
    config = configure(loaded.definition, lock, user_of(step.user for step in parts[-1].steps))
    return Planned(parts=tuple(parts), image=digest_of(config, layers, lock.epoch), contents=contents)


def plan_stage(part: ImagePart, lock: Lock, store: Store, state: StateDirectory) -> Planned:
    """Say what baking one stage would do, and those that it takes from. Raises StepFailed, BakeError."""
    records = Records(state.steps, store)
    contents = Contents(kept_stages.read(state.steps, part.loaded.definition.name).contents)
    parts = []
    for one in (*parts_beneath(part), part):
        steps = planned_steps(plan_steps(one, lock.of(one.stage), contents), records)
        if one.stage is not None:
            contents.end(one.stage, steps[-1].work.key)
        parts.append(PlannedPart(stage=one.stage, steps=steps))
    return Planned(parts=tuple(parts), image=None, contents=contents)


def planned_steps(steps: Iterable[Step], records: Records) -> tuple[PlannedStep, ...]:
    """Return what is known of steps that have their keys."""
    return tuple(_planned(step, records) for step in steps)


def user_of(found: Iterable[tuple[int, int] | None]) -> tuple[int, int]:
    """Return the numbers of the image's user: there is one step that finds them out, and it has been run."""
    return next(user for user in found if user)


def digest_of(config: ImageConfig, layers: Sequence[Layer], epoch: int) -> Digest:
    """Return the digest of an image without making it."""
    data = manifest.config_json(config, layers, created=epoch)
    return Digest.of(manifest.manifest_json(Digest.of(data), len(data), layers))


def service_on(service: str, lock: Lock, store: Store) -> str:
    """Return what a service's image for one platform is remembered and tagged as: by the service's own name alone where
    it is this machine's. No service's name has such a sign in it."""
    return service if platform_of(lock.architecture) == store.platform else f"{service}_{lock.architecture}"


def name_of(service: str, stage: str | None) -> str:
    """Return what a part is remembered as: no service's name has such a sign in it."""
    return service if stage is None else f"{service}@{stage}"


def _planned(step: Step, records: Records) -> PlannedStep:
    """Return what is known of a step. One that finds out who the user is, is known only with that."""
    found = step.given if step.kind == "layer" else records.find(step.key) if step.key else None
    layer = records.held(found)
    user = step.user or (records.find_user(step.key) if layer and step.kind == "user" else None)
    known = layer if user or step.kind != "user" else None
    return PlannedStep(step=step.full_name, layer=known, user=user, work=step)


def _as_needed(parts: Sequence[PlannedPart]) -> list[PlannedPart]:
    needed: set[str | None] = {None}
    found = []
    for part in reversed(parts):
        is_needed = part.stage in needed
        if is_needed:
            needed.update(take.stage for step in part.steps if not step.cached for take in step.work.takes)
        found.append(dataclasses.replace(part, needed=is_needed))
    return found[::-1]


def _explained(part: PlannedPart, state: StateDirectory, service: str, lock: Lock) -> PlannedPart:
    name, asked = name_of(service, part.stage), [(step.work, step.cached) for step in part.steps]
    causes = explain(state.steps, name, asked, lock)
    steps = (dataclasses.replace(step, why=why) for step, why in zip(part.steps, causes, strict=True))
    return dataclasses.replace(part, steps=tuple(steps))
