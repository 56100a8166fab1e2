"""``instar volumes``: the data that outlives releases, and environments: which there is, and removing it."""

from __future__ import annotations

from dataclasses import dataclass

from instar.errors import Refused
from instar.model.release import Place, Settings
from instar.operations.parts import Parts, hold_place, require_root
from instar.providers.base import Runtime, StoredVolume


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptVolume:
    """``environment``: whether that is still there. ``users``: the instances that have it."""

    stored: StoredVolume
    environment: bool
    users: tuple[str, ...]


def volumes(parts: Parts, place: Place | None = None) -> tuple[KeptVolume, ...]:
    """Return every volume that is kept, or those of ``place``."""
    require_root("volumes", "the state directory belongs to root")
    kept = [one for one in _runtime(parts, place).volumes() if place in (None, one.place)]
    return tuple(
        KeptVolume(
            stored=one,
            environment=parts.ledger.find_environment(one.place) is not None,
            users=_users(parts, one.place, one.name),
        )
        for one in kept
    )


def remove_volume(parts: Parts, place: Place, name: str, *, take_over: bool = False) -> None:
    """Remove a volume for ever, and write that down. Raises NotFound, and Refused while an instance has it."""
    require_root("volumes remove")
    with hold_place(parts, place, take_over=take_over):
        users = _users(parts, place, name)
        if users:
            raise Refused(
                f"cannot remove the volume '{name}' of '{place}': {', '.join(users)} has it",
                hint=f"deploy a release without it, or instar destroy {place} --volumes",
            )
        _runtime(parts, place).remove_volume(place, name)
        parts.ledger.record("volume-removed", place, volume=name)


def _runtime(parts: Parts, place: Place | None) -> Runtime:
    state = parts.ledger.find_environment(place) if place else None
    return parts.provider((state.settings if state else Settings()).provider).runtime


def _users(parts: Parts, place: Place, name: str) -> tuple[str, ...]:
    return tuple(
        one.id
        for one in parts.ledger.instances(place)
        if any(volume.name == name for volume in parts.ledger.get_release(place, one.release).service.volumes)
    )
