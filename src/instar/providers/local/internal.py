"""The address by which instances find an environment, whatever of it comes and goes behind its router.

It is given when the environment first has a router, or when an instance that uses it is made, and written down before
it is used (``internal_record.py``). It stays the same for as long as the environment is there, or an instance here
knows it. Ports only join: an instance that was made when the service had another one finds it there still.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from instar import durable
from instar.errors import ProviderError
from instar.model.release import EnvironmentId
from instar.model.roles import FIRST_DOOR
from instar.providers.local import allocations, internal_record, record
from instar.providers.local.addresses import next_free
from instar.providers.local.internal_record import InternalAddress
from instar.providers.local.names import Names


def ensure(
    names: Names, environment: EnvironmentId, network: IPv4Network, ports: Iterable[int] = (), *, door: str = FIRST_DOOR
) -> InternalAddress:
    """Return the address of an environment, or of another role of it by its ``door``, with ``ports`` among its own,
    written down. Raises ProviderError when none is free, EnvironmentBusy."""
    found = _found(names, environment, network, door)
    if found is not None and set(ports) <= set(found.ports):
        return found
    with allocations.changing(names):
        found = _found(names, environment, network, door)
        if found is None:
            free = next_free(network, allocations.held(names), allocations.last(names), 1)
            if not free:
                raise ProviderError(f"no address of {network} is free", hint="instar status shows what runs here")
            found = InternalAddress(environment=str(environment), address=free[0], role=door)
            allocations.write_last(names, free[0])
        more = tuple(port for port in dict.fromkeys(ports) if port not in found.ports)
        found = replace(found, ports=(*found.ports, *more))
        internal_record.write(names, found)
    return found


def let_go(names: Names, known: Collection[EnvironmentId], drop: Callable[[IPv4Address], None]) -> None:
    """Forget the addresses of environments that are none of ``known`` and that no instance here knows, nor may know in
    a moment. Each is taken from this machine by ``drop`` first: who is killed in between does it again."""
    if any(intent is not None and record.in_the_making(intent) for intent in record.all_intents(names).values()):
        return
    kept = {str(one) for one in known}
    with allocations.changing(names):
        for path, one in internal_record.all_addresses(names).items():
            if one.environment not in kept and not _is_known(names, one.address):
                drop(IPv4Address(one.address))
                path.unlink(missing_ok=True)


def _found(names: Names, environment: EnvironmentId, network: IPv4Network, door: str) -> InternalAddress | None:
    """Return the address that an environment has in ``network``: one that came with another machine's state is none."""
    found = internal_record.find(names, environment, door)
    return found if found is not None and IPv4Address(found.address) in network else None


def _is_known(names: Names, address: str) -> bool:
    """Tell whether an instance finds somebody by that address; what cannot be read may."""
    for hosts in names.state.instances.glob("[!.]*/hosts"):
        try:
            if any(line.startswith(f"{address} ") for line in durable.read_text(hosts).splitlines()):
                return True
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return True
    return False
