"""The guests of a state directory's two tables: an instance is a few elements of their sets, put in and taken out by
netlink, one by one, where rules (``firewall.py``) are made all at once.

A removed element makes nobody freer: what is no guest passes for nobody, and reaches no guest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from ipaddress import IPv4Address
from typing import Final

from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.network import nftables
from instar.host.network.nftables import Element
from instar.host.network.rules import chain_of, members
from instar.model.codec import ADDED, written_as

_RACES: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """One instance: its link on the bridge, how long its packets may be, what it may call itself, whom it asks for
    names, and its environment. ``crafts``: it can make packets byte by byte, such as fragments of nothing, which this
    machine would keep until it has no room for anybody's. An older Instar wrote down of nobody that he does."""

    link: str
    mtu: int
    mac: str  # as hexadecimal digits
    address: str
    servers: tuple[str, ...]
    environment: str = field(metadata=written_as("place"))
    crafts: bool = field(default=False, metadata=ADDED)

    @property
    def elements(self) -> tuple[Element, ...]:
        """Everything that the tables hold of it."""
        address, mac, link = IPv4Address(self.address).packed, bytes.fromhex(self.mac), nftables.interface(self.link)
        servers = (nftables.key(address, IPv4Address(server).packed) for server in self.servers)
        return (
            Element("bridge", "links", link),
            Element("bridge", "own", nftables.key(link, mac, address)),
            Element("bridge", "macs", mac),
            Element("bridge", "addresses", address),
            Element("ip", "guests", address),
            Element("ip", members(self.environment), address),
            Element("ip", "senders", address, chain_of(self.environment)),
            *(Element("ip", "name_servers", server) for server in servers),
            *([Element("bridge", "crafters", link)] if self.crafts else ()),
        )


def admit(table: str, guest: Guest) -> None:
    """Enter a guest; one that is in already is fine. Raises HostError."""
    try:
        nftables.add(table, guest.elements)
    except OSError as error:
        raise nftables.failed("enter an instance in", error) from error


def dismiss(table: str, link: str, address: str | None) -> str | None:
    """Take out all that is of a link and its address; return the address, where it is known. Raises HostError."""
    for _ in range(_RACES):
        try:
            found = entries(table, counted=True)
            known = address or next(_addresses(found, link), None)
            nftables.remove(table, Entries(found).of(link, known))
        except FileNotFoundError:  # somebody else takes it out just now
            continue
        except OSError as error:
            raise nftables.failed("take an instance out of", error) from error
        return known
    raise HostError(f"cannot take an instance out of nftables' table '{table}': it changes all the time")


def entries(table: str, *, counted: bool = False) -> tuple[Element, ...]:
    """Return every element of both tables that is of a guest; those that its packets make too if ``counted``. Raises
    OSError."""
    others = ("doors_",) if counted else ("doors_", "open_", "opened_")
    names = [name for name in nftables.sets("ip", table) if not name.startswith(others)]
    return (
        *nftables.elements("bridge", table, ("links", "own", "macs", "addresses", "crafters")),
        *nftables.elements("ip", table, names),
    )


def strangers(table: str, guests: Sequence[Guest]) -> tuple[Element, ...]:
    """Return the elements of guests' sets that none of ``guests`` has. Raises HostError."""
    known = {element for guest in guests for element in guest.elements}
    try:
        return tuple(element for element in entries(table) if element not in known)
    except OSError as error:
        raise nftables.failed("look at", error) from error


def expel(table: str, elements: Sequence[Element]) -> None:
    """Take elements out, whoever put them in; one that is not there is fine. Raises HostError."""
    for element in elements:
        try:
            nftables.remove(table, [element])
        except FileNotFoundError:
            continue
        except OSError as error:
            raise nftables.failed("take entries out of", error) from error


def links(table: str) -> tuple[str, ...]:
    """Return the links of all guests. Raises HostError."""
    try:
        found = tuple(nftables.elements("bridge", table, ("links",)))
    except OSError as error:
        raise nftables.failed("look at", error) from error
    return tuple(element.key.rstrip(b"\0").decode(errors="replace") for element in found)


class Entries:
    """The elements of a directory's tables, found by the guest that they are about."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._by_key: dict[bytes, list[Element]] = {}
        for element in elements:
            for key in _keys(element):
                self._by_key.setdefault(key, []).append(element)

    def of(self, link: str, address: str | None) -> tuple[Element, ...]:
        """Return the elements that name a link or an address."""
        name = nftables.interface(link)
        by_link, packed = self._by_key.get(name, ()), IPv4Address(address).packed if address else None
        macs = [one for own in by_link if own.set == "own" for one in self._by_key.get(own.key[16:22], ())]
        by_address = self._by_key.get(packed, ()) if packed is not None else ()
        return tuple(dict.fromkeys((*by_link, *macs, *by_address)))


def _keys(element: Element) -> tuple[bytes, ...]:
    match element.set:
        case "links" | "own" | "crafters":
            return element.key[:16], element.key[24:28]
        case "macs":
            return (element.key,)
        case _:
            return (element.key[:4],)


def _addresses(found: Sequence[Element], link: str) -> Iterator[str]:
    for element in found:
        if element.set == "own" and element.key[:16] == nftables.interface(link):
            yield str(IPv4Address(element.key[24:28]))
