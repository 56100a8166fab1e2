"""What is other in settings, or in what instances start from: key by key, as the definition calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from instar.model.codec import to_json
from instar.model.configuration import Configuration
from instar.model.environment import Settings
from instar.model.plan import PlannedChange

_NOTHING: Final = "—"


def written(value: Settings | Configuration, provider: str) -> dict[str, Any]:
    """Return it as JSON, what is the provider's own under its name, as the definition has it."""
    found = dict(to_json(value))
    doors = found.pop("doors", None)
    if doors:
        found["door"] = {key.removeprefix("."): door for key, door in doors.items()}
    own = found.pop("provider_settings", None)
    return {**found, provider: own} if own else found


def differences(
    before: Mapping[str, object], after: Mapping[str, object], prefix: str = ""
) -> tuple[PlannedChange, ...]:
    old, new = dict(_leaves(before, prefix)), dict(_leaves(after, prefix))
    return tuple(
        PlannedChange(what=name, before=old.get(name), after=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if (old.get(name) or _NOTHING) != (new.get(name) or _NOTHING)
    )


def _leaves(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{prefix}{key}.")]
    return [(prefix.rstrip("."), _NOTHING if value is None or value == [] else str(value))]
