"""Instar's tables of nftables on this machine: made when the first instance comes, again when what an environment may
reach changes, and after somebody has taken them away.

RUN/network.json says what they were like when they were made last: for each environment what it may reach, and for
each chain what the kernel had of its rules. It is written after the tables are, so a process that is killed in between
leaves what the next one makes anew. Safe to use from several threads and processes at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from ipaddress import IPv4Network

from instar import durable, locks
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.network import firewall, guests, network
from instar.host.network.firewall import Reach
from instar.host.network.guests import Guest
from instar.model.codec import from_json, parse, to_json
from instar.model.release import EnvironmentId
from instar.providers.local import internal_record, record
from instar.providers.local.names import Names
from instar.syscalls import boot_id

_PATIENCE_S = 60.0
Difference = tuple[str, str, str]  # where, what is expected, what is there


@dataclass(frozen=True, kw_only=True, slots=True)
class TablesRecord:
    """The tables as they were made, in the boot ``boot_id``, by an Instar whose rules are ``rules``. ``unsaid`` are
    those of ``places`` that others find by name, and of which nobody has said what they may reach."""

    boot_id: str
    rules: str
    places: Mapping[str, Reach] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()


class Tables:
    """The two tables of one state directory."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def reach(self, environment: EnvironmentId) -> Reach | None:
        """Return what the instances of ``environment`` may reach now; None where that is not said (any more)."""
        made, name = self._current(), str(environment)
        return made.places.get(name) if made and name not in made.unsaid else None

    def doors(self) -> Mapping[str, tuple[str, ...]]:
        """Return where the routers of environments listen, as far as that was said."""
        made = self._made_here()
        return {environment: reach.all_doors for environment, reach in made.places.items()} if made else {}

    def ensure(self, subnet: IPv4Network, environment: EnvironmentId) -> None:
        """Have the tables there, with whatever ``environment`` may reach. Raises HostError, ComponentMissing."""
        if self._find(environment) is None:
            with self._lock():
                if self._find(environment) is None:
                    self._apply(subnet, {str(environment): self._named(environment, Reach())}, said=False)

    def set(self, subnet: IPv4Network, environment: EnvironmentId, reach: Reach) -> bool:
        """Let the instances of ``environment`` reach that from now on, and nothing else; return whether somebody had
        taken the tables away. Where instances find it by name is what is written down of that. Raises HostError."""
        if self.reach(environment) == self._named(environment, reach):
            return False
        with self._lock():
            taken = self._current() is None and self._made_here() is not None
            self._apply(subnet, {str(environment): self._named(environment, reach)})
        return taken

    def name(self, subnet: IPv4Network, environment: EnvironmentId) -> None:
        """Have instances find ``environment`` by name where that is written down, whatever its own may reach. Who asks
        may work on another environment. Raises HostError."""
        self.ensure(subnet, environment)
        found = self._find(environment)
        if found is None or found != self._named(environment, found):
            with self._lock():
                made = self._read()
                there = made.places.get(str(environment), Reach()) if made else Reach()
                self._apply(subnet, {str(environment): self._named(environment, there)}, said=False)

    def restore(self, subnet: IPv4Network) -> None:
        """Make the tables anew as they were made last, for everybody who is in them. Raises HostError."""
        with self._lock():
            self._apply(subnet, {})
            if (known := self._guests()) is not None:
                guests.expel(self._names.table, guests.strangers(self._names.table, known))

    def forget(self, environment: EnvironmentId) -> None:
        """Remove what is of a destroyed environment."""
        with self._lock():
            made = self._current()
            if made is not None:
                firewall.forget(self._names.table, str(environment))
                left = {name: reach for name, reach in made.places.items() if name != str(environment)}
                unsaid = tuple(name for name in made.unsaid if name in left)
                chains = firewall.chains(self._names.table)
                self._write(dataclasses.replace(made, places=left, chains=chains, unsaid=unsaid))

    def remove(self) -> None:
        """Remove the tables; where there are none, that is fine. Raises HostError."""
        firewall.remove(self._names.table)
        self._names.tables_file.unlink(missing_ok=True)

    def differences(self) -> tuple[Difference, ...]:
        """Return what is not as it was made; nothing where this Instar has made none."""
        found = self._differences()
        if found:
            with self._lock():  # somebody may have been making them just then
                found = self._differences()
        return found

    def _differences(self) -> tuple[Difference, ...]:
        made = self._made_here()
        if made is None:
            return ()
        try:
            return tuple(self._compared(made))
        except HostError as error:
            return ((f"tables {self._names.table}", "they can be looked at", error.message),)

    def _compared(self, made: TablesRecord) -> Iterator[Difference]:
        there = firewall.chains(self._names.table)
        families = {name.partition(" ")[0] for name in there}
        for family in sorted({name.partition(" ")[0] for name in made.chains} - families):
            yield f"nftables {self._names.table} ({family})", "Instar's own table", "it is not there"
        for name in sorted(made.chains.keys() | there.keys()):
            family, _, chain = name.partition(" ")
            if family not in families:
                continue
            where = f"table {family} {self._names.table}, chain {chain}"
            wanted, found = made.chains.get(name, ()), there.get(name, ())
            if wanted and not found:
                yield where, "as Instar made it", "not there"
            elif found and not wanted:
                yield where, "not there", "a chain of somebody else's"
            elif wanted != found:
                yield where, f"the {len(wanted) - 1} rules that Instar made", _changed(wanted, found)
        if families == {name.partition(" ")[0] for name in made.chains}:
            yield from self._entries(made)

    def _entries(self, made: TablesRecord) -> Iterator[Difference]:
        """Yield what is in the sets and of nobody: who is in them is asked of each instance."""
        table = self._names.table
        for environment in firewall.environments(made.chains):
            if not firewall.has_doors(table, environment, made.places.get(environment, Reach())):
                yield f"table ip {table}, doors_{environment}", "where its router listens", "something else"
        known = self._guests()
        for element in guests.strangers(table, known) if known is not None else ():
            told = f"an entry of nobody's ({element.key.hex()})"
            yield f"table {element.family} {table}, {element.set}", "entries of instances alone", told

    def _guests(self) -> list[Guest] | None:
        """Return the guests that are there; None where a damaged record does not say whose it is."""
        intents = record.all_intents(self._names)
        if any(intent is None for intent in intents.values()):
            return None
        return [intent.guest for intent in intents.values() if intent and intent.guest]

    def _find(self, environment: EnvironmentId) -> Reach | None:
        """Return what is in the tables of ``environment``, whether or not somebody has said it."""
        made = self._current()
        return made.places.get(str(environment)) if made else None

    def _named(self, environment: EnvironmentId, reach: Reach) -> Reach:
        return dataclasses.replace(reach, internal=internal_record.doors_of(self._names, environment))

    def _current(self) -> TablesRecord | None:
        """Return what is written down, if the tables are still there and are what this Instar would make."""
        made = self._made_here()
        return made if made is not None and firewall.exists(self._names.table) else None

    def _made_here(self) -> TablesRecord | None:
        """Return what is written down, if it is of this boot and of this Instar's rules: others are made anew."""
        made = self._read()
        here = made is not None and made.boot_id == boot_id() and made.rules == firewall.VERSION
        return made if here else None

    def _apply(self, subnet: IPv4Network, places: Mapping[str, Reach], *, said: bool = True) -> None:
        """Make the tables with ``places`` as given. ``said``: that is what they may reach; else they are only found."""
        names, made = self._names, self._read()
        admitted = [intent.guest for intent in record.all_intents(names).values() if intent and intent.guest]
        before = {guest.environment: Reach() for guest in admitted} | (dict(made.places) if made else {})
        known, unsaid = before | dict(places), set(made.unsaid if made else ())
        unsaid = unsaid - places.keys() if said else unsaid | (places.keys() - before.keys())
        were_there = firewall.exists(names.table)
        gateway = network.mac(network.gateway(subnet).ip).hex(":")
        firewall.apply(names.table, subnet, names.bridge, names.link_prefix, gateway, known)
        if not were_there:
            links = set(network.link_names(names.link_prefix))
            for guest in admitted:
                if guest.link in links:
                    guests.admit(names.table, guest)
        chains = firewall.chains(names.table)
        told = TablesRecord(
            boot_id=boot_id(), rules=firewall.VERSION, places=known, chains=chains, unsaid=tuple(sorted(unsaid))
        )
        self._write(told)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locks.hold(self._names.state.locks / "network", "the instances' firewall", wait_s=_PATIENCE_S)

    def _read(self) -> TablesRecord | None:
        """Return what is written down; what is damaged is as if nothing was, and is made anew."""
        try:
            return from_json(TablesRecord, parse(durable.read(self._names.tables_file)))
        except (OSError, ValueError, RecursionError):
            return None

    def _write(self, made: TablesRecord) -> None:
        path = self._names.tables_file
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(path, json.dumps(to_json(made)).encode(), mode=0o644, lasting=False)
        except OSError as error:
            hint = "df -h shows which disk" if error.errno == errno.ENOSPC else None
            raise HostError(f"cannot write '{path}': {error.strerror}", hint=hint) from error


def _changed(wanted: tuple[str, ...], found: tuple[str, ...]) -> str:
    if wanted[0] != found[0]:
        return "it is hooked in otherwise"
    missing, more = len(set(wanted) - set(found)), len(set(found) - set(wanted))
    return f"{missing} of them missing, {more} of somebody else's" if missing or more else "another order"
