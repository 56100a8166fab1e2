"""What values of the model were made of, where that is not their fields: the way back of what ``schema`` makes.

By field, and only those that are other than the value's own. So ``Section.written`` says a value as an author does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from instar.definition.address_forms import INTERNAL
from instar.model.definition import Health, Service
from instar.model.digest import Digest
from instar.model.doors import Door
from instar.model.environment import RoleSettings, RolloutRules, Settings
from instar.model.host_names import HostNames
from instar.model.roles import FIRST_DOOR


def health(value: Health) -> Mapping[str, Any]:
    return {"tcp": True} if value.kind == "tcp" else {}


def service(value: Service) -> Mapping[str, Any]:
    return {"ports": {name: one.port if one.protocol == "http" else one for name, one in value.ports.items()}}


def rollout(value: RolloutRules) -> Mapping[str, Any]:
    """Each step has its own pause: which of them was said for all is not known, and holds for none that has its own."""
    steps = ({"weight_percent": step.weight_percent, "pause_ms": step.pause_ms} for step in value.steps)
    return {"steps": tuple(steps)} if value.steps else {}


def instances(value: RoleSettings | Settings) -> Mapping[str, Any]:
    return {} if value.scaling is None else {"instances": value.scaling}


def settings(value: Settings) -> Mapping[str, Any]:
    """``listen`` is by the key of its door."""
    tls = value.tls if value.tls.kind == "files" else value.tls.kind
    doors = {FIRST_DOOR: Door(listen=value.listen, sites=value.first_sites, internal=value.internal), **value.doors}
    listen = {key: tuple(_listen(door, value.names, first=key == FIRST_DOOR)) for key, door in doors.items()}
    return {**instances(value), "tls": tls, "listen": listen}


def _listen(door: Door, names: HostNames, *, first: bool) -> Iterator[Any]:
    """Yield what is listened at: addresses, the word, and a section with names. What holds for all names stands with
    those of the first door, and an authority is known by its digest."""
    yield from door.listen
    yield from [INTERNAL] if door.internal else []
    own = names.only(door.sites)
    section: dict[str, Any] = {"http": own.http, "https": own.https}
    section["redirect"] = {source: to for source, to in names.redirect.items() if to in door.sites}
    if first:
        section["hsts_ms"] = names.hsts_ms
        section["client_ca"] = names.client_ca and Digest.of(names.client_ca.encode()).short
    said = {field: one for field, one in section.items() if one}
    yield from [said] if said else []
