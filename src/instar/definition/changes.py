"""What is other in settings, or in what instances start from: key by key, in the words and units of a definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from instar.definition.composed import MapOf
from instar.definition.schema import DEFINITION
from instar.definition.section import REQUIRED, Section
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service
from instar.model.environment import RoleSettings, ScheduledTask, Settings
from instar.model.plan import PlannedChange
from instar.model.roles import FIRST_DOOR, SERVICE, written

_NOT_SHOWN: Final = "(a secret)"
_ALWAYS_SAID: Final = {"instances", "limits"}  # of a first release


def configuration_changes(
    before: Configuration, after: Configuration, provider: str, *, values: bool = True
) -> tuple[PlannedChange, ...]:
    """Return what is other in what instances start from. Without ``values`` no secret is compared, only which there
    are."""
    first = after.first_role
    old, new = (configuration_words(one, first, provider, values=values) for one in (before, after))
    said = (PlannedChange(kind="release", what="roles", before=written(before.first_role), after=written(first)),)
    return (*(said if before.first_role != first else ()), *_differences("release", old, new))


def settings_changes(
    before: Settings | None, after: Settings, first: str, *, released: Sequence[PlannedChange] = ()
) -> tuple[PlannedChange, ...]:
    """Return what is other in an environment's settings; where there were none before, all that is not as usual, and
    how many instances there are. ``first``:
    the role that its first door leads to; ``released``: what is other in what instances start from, of which nothing is
    said again: a provider's section is part of both."""
    by_door = bool(after.doors or (before and before.doors))
    new = settings_words(after, first, by_door=by_door)
    said = {one.what for one in released}
    found = (
        _differences("settings", settings_words(before, first, by_door=by_door), new)
        if before
        else _first_settings(after, first, new)
    )
    return tuple(one for one in found if one.what not in said)


def first_changes(after: Configuration, provider: str) -> tuple[PlannedChange, ...]:
    """Return what a first release has that is not as usual."""
    service, task = Service(command=(), health=Health(kind="none")), ScheduledTask(command=())
    usual = Configuration(
        service=service,
        role=after.role,
        roles=dict.fromkeys(after.roles, service),
        schedule=dict.fromkeys(after.schedule, task),
    )
    old, new = (configuration_words(one, after.first_role, provider) for one in (usual, after))
    return tuple(_first("release", {**old, provider: _usual_of(provider)}, new))


def _first_settings(after: Settings, first: str, new: Mapping[str, Any]) -> Iterator[PlannedChange]:
    """Yield what of an environment's settings is not as usual. Each role has its own number of instances."""
    usual = settings_words(Settings(roles=dict.fromkeys(after.roles, RoleSettings())), first)
    said = {key: one for key, one in new.items() if key != "instances" or not after.roles}
    yield from _first("settings", {**usual, after.provider: _usual_of(after.provider)}, said)


def text_of(value: object) -> str:
    """Return a value, in the terms of JSON, as a definition has it in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, Mapping | list):
        return str(value) or '""'
    from yaml import safe_dump

    return safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 30).strip()


def configuration_words(
    configuration: Configuration, first: str, provider: str, *, values: bool = True
) -> dict[str, Any]:
    """Return it as a definition has it, all defaults in it. ``first``: what its first role is called."""
    role, schedule = _section("roles"), _environment().keys["schedule"].shape
    roles = {name: role.written(one) for name, one in configuration.roles.items()}
    own = role if first else _section(SERVICE)
    said = own.written(configuration.service)
    secrets = {
        name: f"(a secret, {one.short})" if values else _NOT_SHOWN for name, one in configuration.secrets.items()
    }
    return {
        **({"roles": {first: said, **roles}} if first else {SERVICE: said, "roles": roles}),
        "config": dict(configuration.config),
        "secrets": secrets,
        **{f"secrets.{name}.variable": True for name in configuration.secret_variables},
        "uses": [f"{one.word} at {one.host}:{one.shown_port}" for one in configuration.uses],
        "schedule": schedule.written(configuration.schedule),
        provider: _provided(provider, configuration.provider_settings),
    }


def settings_words(settings: Settings, first: str, *, by_door: bool = True) -> dict[str, Any]:
    """Return them as a definition has them, all defaults in them; ``by_door``: of a service too, which may have but
    one."""
    found = _environment().written(settings)
    doors = {
        f"{written(first)}{key}" if key[:1] in (FIRST_DOOR, ".") else key: one for key, one in found["listen"].items()
    }
    listen = doors if by_door or first else doors[SERVICE]
    return {**found, "listen": listen, settings.provider: _provided(settings.provider, settings.provider_settings)}


def _provided(provider: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is the provider's own, as its section has it, or as it is kept where none is installed."""
    key = _environment().find_key(provider) if settings else None
    told: Mapping[str, Any] = _without_nothing(settings)
    try:
        return told if key is None else key.shape.written(told)
    except (TypeError, ValueError, AttributeError):  # a ledger's others write it too: whoever uses it refuses it
        return told


def _usual_of(provider: str) -> Mapping[str, Any]:
    """Return what a provider's own section has where nothing is said."""
    key = _environment().find_key(provider)
    if key is None or not isinstance(key.shape, Section):
        return {}
    keys = (one for one in key.shape.keys.values() if one.default is not REQUIRED and one.default is not None)
    return key.shape.written({one.field: one.default for one in keys})


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nothing(one) for key, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value


def _section(key: str) -> Section:
    shape = DEFINITION.keys[key].shape
    section = shape.value if isinstance(shape, MapOf) else shape
    assert isinstance(section, Section)
    return section


def _environment() -> Section:
    return _section("environments")


def _differences(
    kind: Literal["release", "settings"], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[PlannedChange]:
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield PlannedChange(kind=kind, what=name, before=old.get(name), after=new.get(name))


def _first(
    kind: Literal["release", "settings"], usual: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[PlannedChange]:
    known = dict(_leaves(usual, ""))
    for name, value in sorted(_leaves(after, "")):
        if known.get(name) != value or _ALWAYS_SAID & set(name.split(".")):
            yield PlannedChange(kind=kind, what=name, before=None, after=value)


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Yield what is said, by its name with dots; nothing of an empty list or section."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(one, f"{name}.{key}" if name else key)
    elif value != []:
        yield name, text_of(value)
