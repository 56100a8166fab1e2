"""The addresses by which instances find environments: what is written down of them.

STATE/allocations/internal/SERVICE.ENVIRONMENT.json, SERVICE.ENVIRONMENT.ROLE.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from instar import durable
from instar.frozen import dataclass
from instar.host.network.firewall import BEHIND
from instar.model.codec import ADDED, from_json, parse, to_json
from instar.model.release import EnvironmentId
from instar.model.roles import FIRST_DOOR
from instar.providers.local.names import Names

_SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True, slots=True)
class InternalAddress:
    """``ports``: at which ports instances may ask for it; none before its service has one. ``role``: that it is of,
    besides the first one."""

    environment: str
    address: str
    ports: tuple[int, ...] = ()
    role: str = field(default=FIRST_DOOR, metadata=ADDED)

    def __post_init__(self) -> None:
        IPv4Address(self.address)
        if not all(0 < port < 65536 for port in self.ports):
            raise ValueError("not a port")

    @property
    def doors(self) -> tuple[str, ...]:
        """Where instances ask."""
        return tuple(f"{self.address}:{port}" for port in self.ports)

    @property
    def listener(self) -> str:
        """Where the router listens for them."""
        return f"{self.address}:{BEHIND}"


def find(names: Names, environment: EnvironmentId, door: str = FIRST_DOOR) -> InternalAddress | None:
    """Return the address of an environment, or of another role of it than the first; None where it has none, or what is
    there is not readable."""
    found = _read(_path(names, environment, door))
    return found if found is not None and (found.environment, found.role) == (str(environment), door) else None


def doors_of(names: Names, environment: EnvironmentId) -> tuple[str, ...]:
    """Return where instances ask for an environment, by the names of all its roles."""
    found = [one for one in all_addresses(names).values() if one.environment == str(environment)]
    return tuple(door for one in sorted(found, key=lambda one: one.role) for door in one.doors)


def all_addresses(names: Names) -> Mapping[Path, InternalAddress]:
    """Return what is written down of all environments, as far as it can be read."""
    found = {path: _read(path) for path in sorted(names.internal_addresses.glob(f"[!.]*{_SUFFIX}"))}
    return {path: one for path, one in found.items() if one is not None}


def addresses_in(names: Names, network: IPv4Network) -> Mapping[IPv4Address, str]:
    """Return those that this machine has, or shall have, by the environments that they lead to."""
    found = ((IPv4Address(one.address), one.environment) for one in all_addresses(names).values())
    return {address: environment for address, environment in found if address in network}


def write(names: Names, one: InternalAddress) -> None:
    service, _, environment = one.environment.partition("/")
    path = _path(names, EnvironmentId(service=service, name=environment), one.role)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(path, json.dumps(to_json(one)).encode())


def _path(names: Names, environment: EnvironmentId, door: str = FIRST_DOOR) -> Path:
    of_role = f".{door}" if door else ""
    return names.internal_addresses / f"{environment.service}.{environment.name}{of_role}{_SUFFIX}"


def _read(path: Path) -> InternalAddress | None:
    try:
        return from_json(InternalAddress, parse(durable.read(path)))
    except (OSError, ValueError):
        return None
