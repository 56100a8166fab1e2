"""What every instance here has that the ledger does not know: its address, and its first process once it is made.

    STATE/allocations/‹INSTANCE›.json    written before the address is used, removed when nothing has it any more
    STATE/allocations/last               the address that was given last: the next one comes after it

Written down before it is acted on: who is killed after that finds it again, and goes on with the same address. What
an older Instar had in the ledger is taken over by :func:`take_over`, as often as it is asked for, until it is here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from instar import durable, locks
from instar.errors import LedgerDamaged, ProviderError
from instar.frozen import dataclass
from instar.host.processes import processes
from instar.model.codec import from_json, parse, to_json
from instar.model.release import EnvironmentId, Instance
from instar.process import Process
from instar.providers.local import internal_record, record
from instar.providers.local.addresses import next_free
from instar.providers.local.names import InstanceNames, Names

_PATIENCE_S = 60.0
_SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """``environment`` is SERVICE/ENV. ``process`` is None until the instance is made."""

    id: str
    serial: int
    environment: str
    address: str
    process: Process | None = None

    def __post_init__(self) -> None:
        IPv4Address(self.address)


def allocate(names: InstanceNames, environment: EnvironmentId, network: IPv4Network) -> IPv4Address:
    """Return the address of an instance: the one that it has, or else the next free one of ``network``, written down.

    Raises ProviderError when none is free, EnvironmentBusy.
    """
    with changing(names.of):
        found = find(names)
        if found is not None:
            return IPv4Address(found.address)
        free = next_free(network, held(names.of), last(names.of), 1)
        if not free:
            raise ProviderError(f"no address of {network} is free", hint="instar status shows what runs here")
        _write(names, Allocation(id=names.name, serial=names.serial, environment=str(environment), address=free[0]))
        write_last(names.of, free[0])
        return IPv4Address(free[0])


def count_free(names: Names, network: IPv4Network) -> int:
    """Return how many instances more can have an address of ``network``."""
    return max(network.num_addresses - 3, 0) - sum(IPv4Address(one) in network for one in held(names))


def set_process(names: InstanceNames, process: Process | None) -> None:
    """Write down the first process of an instance: a machine that crashes leaves no process either."""
    found = find(names)
    if found is not None and found.process != process:
        _write(names, replace(found, process=process), lasting=False)


def find(names: InstanceNames) -> Allocation | None:
    """Return what is written down of an instance; None where nothing is, or what is there is not readable."""
    found = _read(names.allocation)
    return found if found is not None and (found.id, found.serial) == (names.name, names.serial) else None


def find_address(names: InstanceNames) -> IPv4Address | None:
    """Return the address of an instance; None of one that has none yet, or where nothing readable says it."""
    found = find(names)
    if found is not None:
        return IPv4Address(found.address)
    intent = record.find_intent(names.folder)
    return IPv4Address(intent.guest.address) if intent is not None and intent.guest is not None else None


def get_address(names: InstanceNames) -> IPv4Address:
    """Return the address of an instance that is made. Raises ProviderError where nothing readable says it."""
    found = find_address(names)
    if found is None:
        raise ProviderError(
            f"cannot find the address of '{names.name}': '{names.allocation}' is damaged, or gone",
            hint=f"have the instance replaced: instar taint ENV {names.name}",
        )
    return found


def process_of(names: InstanceNames) -> Process | None:
    """Return the first process of an instance: as its folder says, or, where that is lost or damaged while the process
    lives, as the allocation does. A record that is gone must not look like an instance that is."""
    process = record.find_process(names)
    if process is None and (found := find(names)) is not None and found.process is not None:
        return found.process if processes.lives(found.process) else None
    return process


def release(names: InstanceNames) -> None:
    """Let others have the address of an instance of which nothing is left, and which no router knows any more."""
    if not names.folder.exists():
        names.allocation.unlink(missing_ok=True)


def all_allocations(names: Names) -> Mapping[str, Allocation | None]:
    """Return every instance's name that has an allocation, with it where it can be read."""
    paths = sorted(names.allocations.glob(f"[!.]*{_SUFFIX}"))
    return {path.name.removesuffix(_SUFFIX): _read(path) for path in paths}


def take_over(names: Names, known: Sequence[tuple[Instance, Mapping[str, Any]]]) -> None:
    """Write down what the ledger of an older Instar knew of its instances, but for what is written down already.

    ``known`` are in the order in which they were planned. Raises LedgerDamaged.
    """
    missing = [one for one in known if not names.instance(one[0].id, one[0].serial).allocation.exists()]
    if not missing:
        return
    with changing(names):
        found = [(names.instance(one.id, one.serial), _of_the_ledger(one, value)) for one, value in missing]
        if not names.last_address.exists():
            write_last(names, found[-1][1].address)
        for one, allocation in found:
            _write(one, allocation)


def _of_the_ledger(instance: Instance, value: Mapping[str, Any]) -> Allocation:
    own = {"id": instance.id, "serial": instance.serial, "environment": str(instance.environment)}
    try:
        return from_json(Allocation, {**value, **own})
    except ValueError as error:
        raise LedgerDamaged(
            f"cannot use '{instance.id}': what the ledger has of its address is damaged: {error}",
            hint="see what else is not as it was written: instar history --verify",
        ) from error


@contextlib.contextmanager
def changing(names: Names) -> Iterator[None]:
    with locks.hold(names.state.locks / "addresses", "this machine's addresses", wait_s=_PATIENCE_S, inherited=False):
        names.allocations.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield


def held(names: Names) -> set[str]:
    """Return all addresses that somebody has, also where only the instance's own folder still says so."""
    allocated = {one.address for one in all_allocations(names).values() if one is not None}
    allocated |= {one.address for one in internal_record.all_addresses(names).values()}
    return allocated | {
        one.guest.address for one in record.all_intents(names).values() if one is not None and one.guest
    }


def last(names: Names) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return str(IPv4Address(durable.read_text(names.last_address).strip()))
    return None


def write_last(names: Names, address: str) -> None:
    durable.write(names.last_address, f"{address}\n".encode())


def _write(names: InstanceNames, allocation: Allocation, *, lasting: bool = True) -> None:
    durable.write(names.allocation, json.dumps(to_json(allocation)).encode(), lasting=lasting)


def _read(path: Path) -> Allocation | None:
    try:
        return from_json(Allocation, parse(durable.read(path)))
    except (OSError, ValueError):
        return None
