"""``instar deploy --plan``: what a deploy would do, without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from instar.control.forecast import forecast
from instar.definition import Loaded
from instar.model.codec import to_json
from instar.model.digest import Digest
from instar.model.release import Configuration, EnvironmentState, Place, Settings
from instar.operations.bake import plan as plan_bake
from instar.operations.deploy import get_declared
from instar.operations.parts import Parts
from instar.operations.project import require_own
from instar.operations.secrets import look_at_secrets


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """``what`` is a dotted name (image, service.limits.memory_bytes, config.GREETING, settings.instances)."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployPlan:
    """``steps`` are those that a bake would run. ``release``: a new release would be made. No changes: no deploy.
    ``warnings``: what is worth knowing of the rollout before it begins."""

    place: Place
    active: int | None
    steps: tuple[str, ...]
    image: Digest | None
    release: bool
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()


def plan(parts: Parts, loaded: Loaded, name: str, *, image: str | None = None, adopt_name: bool = False) -> DeployPlan:
    """Compare what the definition asks for with what is active in ``name``. Raises what a deploy would refuse."""
    environment = get_declared(loaded, name)
    place = Place(service=loaded.definition.name, environment=name)
    require_own(parts, place, loaded, adopt=adopt_name)
    steps, digest = _image(parts, loaded, image)
    state = parts.ledger.find_environment(place)
    active = parts.ledger.get_release(place, state.active) if state and state.active is not None else None
    configuration = to_json(
        Configuration(
            service=loaded.definition.service,
            config=environment.config,
            secrets=look_at_secrets(parts.state, loaded.folder, environment),
        )
    )
    changes = []
    if active is None or digest != active.image:
        after = digest.short if digest else "(to be baked)"
        changes.append(Change(what="image", before=active.image.short if active else None, after=after))
    if active is not None:
        changes += _differences(to_json(active.configuration), configuration)
    release = bool(changes)
    if state is not None and not release:
        changes += _not_as_wanted(parts, state)
    settings = to_json(Settings.of(environment))
    before = to_json(state.settings) if state else {name: item for name, item in settings.items() if name != "listen"}
    changes += _differences(before, settings, "settings.")
    return DeployPlan(
        place=place,
        active=active.number if active else None,
        steps=steps,
        image=digest,
        release=release,
        changes=tuple(changes),
        warnings=forecast(Settings.of(environment), active, loaded.definition.service) if release else (),
    )


def _not_as_wanted(parts: Parts, state: EnvironmentState) -> list[Change]:
    """Return what a deploy of the very same would put right."""
    if state.rollout is not None:
        return [Change(what="rollout", before="unfinished", after=f"to release {state.rollout.target}")]
    instances = [one for one in parts.ledger.instances(state.place) if one.release == state.active]
    observed = parts.provider(state.settings.provider).runtime.observe(instances)
    dead = sum(1 for one in observed if one.state != "running")
    return [Change(what="instances", before=f"{dead} ended", after="replaced")] if dead else []


def _image(parts: Parts, loaded: Loaded, word: str | None) -> tuple[tuple[str, ...], Digest | None]:
    if word:
        return (), parts.store.find(word).digest
    planned = plan_bake(parts, loaded)
    return tuple(step.step for step in planned.steps if not step.cached), planned.image


def _differences(before: Mapping[str, object], after: Mapping[str, object], prefix: str = "") -> tuple[Change, ...]:
    old, new = dict(_leaves(before, prefix)), dict(_leaves(after, prefix))
    return tuple(
        Change(what=name, before=old.get(name), after=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _leaves(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{prefix}{key}.")]
    return [(prefix.rstrip("."), "—" if value is None else str(value))]
