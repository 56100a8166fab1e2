"""Packages over what somebody else has installed: dpkg's status is held against the lock before and after.

Before, since apt solved for what the lock says. After, since the dpkg that runs is the base's own: what it leaves is to
be what was there, as it was, and what came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.model import dpkg_status
from instar.model.dpkg_status import WrongStatus
from instar.model.lock import Installed, Package

_SHOWN = 3
_HINT = (
    "what dpkg knows is changed by 'packages' alone, in a base too; of an image of others: instar lock --update base"
)


def require_as_locked(below: Installed, room: Room) -> None:
    """Return when what is beneath has what the lock says that it has. Raises StepFailed."""
    with Root(room.root(), epoch=room.epoch) as root:
        for program, what in (("/usr/bin/dpkg", "dpkg"), ("/bin/sh", "shell")):
            if not root.exists(program):
                raise room.failed(f"the base has no {what} to install with", hint="take a base that has one")
    _require(below.versions, room, "the base has not what the lock says of it", _HINT)


def require_whole(below: Installed, packages: Sequence[Package], room: Room) -> None:
    """Return when all of the base is there as it was, and all that was to come. Raises StepFailed."""
    wanted = {**below.versions, **{one.name: one.version for one in packages}}
    _require(wanted, room, "the base's dpkg left something else than was to be installed", None)


def _require(wanted: Mapping[str, str], room: Room, cause: str, hint: str | None) -> None:
    with Root(room.root(), epoch=room.epoch) as root:
        text = root.find(f"/{dpkg_status.STATUS}")
    try:
        found = dpkg_status.installed(text or b"", room.architecture)
    except WrongStatus as error:
        raise room.failed(f"{cause}: {error}", hint=hint) from error
    other = list(_otherwise(wanted, {name: control["Version"] for name, control in found.items()}))
    if other:
        more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        raise room.failed(f"{cause}: {', '.join(other[:_SHOWN])}{more}", hint=hint)


def _otherwise(wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            yield f"'{name}' is {found.get(name, 'not there')}, and not {wanted.get(name, 'there by the lock')}"
