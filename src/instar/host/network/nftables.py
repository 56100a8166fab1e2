"""The kernel's nf_tables by netlink: what a table holds, and elements of its sets. ``nft`` takes 20 ms to start.

Rules are made by ``nft`` (``firewall.py``); here they are only compared, by what the kernel has of them. Source:
linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from instar.errors import HostError
from instar.host.network.netlink import ACK, CREATE, Netlink, attribute, attributes

Family = Literal["ip", "bridge"]
_FAMILIES: Final[Mapping[Family, int]] = {"ip": socket.AF_INET, "bridge": socket.AF_BRIDGE}
_PROTOCOL, _SUBSYSTEM = 12, 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET = 0xA01, 0xA04, 0xA07, 0xA0A
_NEW_ELEMENTS, _GET_ELEMENTS, _DEL_ELEMENTS = 0xA0C, 0xA0D, 0xA0E
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 1, 3, 4, 5, 7
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_SET_TABLE, _SET_NAME, _ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS = 1, 2, 1, 2, 3
_ELEMENT, _KEY, _DATA, _VALUE, _VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 1, 2, 1, 2, 1, 2
_KEY_END = 10
_GOTO = struct.pack(">i", -4)
_NESTED = 0x8000
_NAME_BYTES = 16  # of an interface in a set


class Element(NamedTuple):
    """One element of a set; ``goto`` is the chain that a map leads to, "" in a set."""

    family: Family
    set: str
    key: bytes
    goto: str = ""


def has(family: Family, table: str, chain: str | None = None) -> bool:
    """Tell whether there is such a table, or such a chain in it. Raises OSError."""
    fields = {_TABLE_NAME: table} if chain is None else {_CHAIN_TABLE: table, _CHAIN_NAME: chain}
    body = _header(family) + b"".join(_text(kind, name) for kind, name in fields.items())
    try:
        with Netlink(_PROTOCOL) as netlink:
            netlink.send_all([(_GET_TABLE if chain is None else _GET_CHAIN, ACK, body)])
    except FileNotFoundError:
        return False
    return True


def add(table: str, elements: Sequence[Element]) -> None:
    """Add elements, all or none; what is there already is fine. Raises OSError."""
    _change(_NEW_ELEMENTS, CREATE, table, elements)


def remove(table: str, elements: Sequence[Element]) -> None:
    """Remove elements, all or none. Raises OSError: FileNotFoundError when one is not there (any more)."""
    if elements:
        _change(_DEL_ELEMENTS, 0, table, elements)


def elements(family: Family, table: str, sets: Sequence[str]) -> Iterator[Element]:
    """Yield what is in ``sets`` of a table; one that isn't there has nothing. Raises OSError."""
    with Netlink(_PROTOCOL) as netlink:
        for name in sets:
            body = _header(family) + _text(_ELEMENTS_TABLE, table) + _text(_ELEMENTS_SET, name)
            try:
                for message in netlink.dump(_GET_ELEMENTS, body):
                    found = dict(attributes(message[4:])).get(_ELEMENTS, b"")
                    yield from (_element(family, name, item) for _, item in attributes(found))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise


def ranges(family: Family, table: str, name: str) -> frozenset[tuple[bytes, bytes]]:
    """Return the first and the last key of each element of a set of ranges. Raises OSError."""
    body = _header(family) + _text(_ELEMENTS_TABLE, table) + _text(_ELEMENTS_SET, name)
    found = set()
    with Netlink(_PROTOCOL) as netlink:
        for message in netlink.dump(_GET_ELEMENTS, body):
            for _, item in attributes(dict(attributes(message[4:])).get(_ELEMENTS, b"")):
                fields = dict(attributes(item))
                first = dict(attributes(fields.get(_KEY, b""))).get(_VALUE, b"")
                found.add((first, dict(attributes(fields.get(_KEY_END, b""))).get(_VALUE, first)))
    return frozenset(found)


def sets(family: Family, table: str) -> tuple[str, ...]:
    """Return the names of a table's sets, without those that are one rule's own. Raises OSError."""
    with Netlink(_PROTOCOL) as netlink:
        try:
            found = [
                dict(attributes(message[4:]))
                for message in netlink.dump(_GET_SET, _header(family) + _text(_SET_TABLE, table))
            ]
        except FileNotFoundError:
            return ()
    names = (_name(one[_SET_NAME]) for one in found)
    return tuple(sorted(name for name in names if not name.startswith("__")))


def chains(family: Family, table: str) -> Mapping[str, tuple[str, ...]]:
    """Return what each chain of a table is: how it is hooked in, and its rules, each as a digest of what the kernel
    has of it. Raises OSError."""
    found: dict[str, list[str]] = {}
    with Netlink(_PROTOCOL) as netlink:
        for message in netlink.dump(_GET_CHAIN, _header(family)):
            one = dict(attributes(message[4:]))
            if _name(one[_CHAIN_TABLE]) == table:
                hooked = b"|".join(one.get(kind, b"") for kind in (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE))
                found[_name(one[_CHAIN_NAME])] = [_digest(hooked)]
        for message in netlink.dump(_GET_RULE, _header(family) + _text(_RULE_TABLE, table)):
            one = dict(attributes(message[4:]))
            if _name(one[_RULE_TABLE]) == table:
                found.setdefault(_name(one[_RULE_CHAIN]), []).append(_digest(one.get(_RULE_EXPRESSIONS, b"")))
    return {name: tuple(lines) for name, lines in found.items()}


def key(*parts: bytes) -> bytes:
    """Return the key of an element of several parts, each filled up to whole words."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def interface(name: str) -> bytes:
    """Return an interface's name as part of a key."""
    return name.encode().ljust(_NAME_BYTES, b"\0")


def _change(message: int, flags: int, table: str, wanted: Sequence[Element]) -> None:
    of_all = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    messages = [(message, flags | ACK, _one(table, element)) for element in wanted]
    with Netlink(_PROTOCOL) as netlink:
        netlink.send_all([(_BATCH_BEGIN, 0, of_all), *messages, (_BATCH_END, 0, of_all)])


def _one(table: str, element: Element) -> bytes:
    content = _nested(_KEY, attribute(_VALUE, element.key))
    if element.goto:
        verdict = attribute(_VERDICT_CODE, _GOTO) + _text(_VERDICT_CHAIN, element.goto)
        content += _nested(_DATA, _nested(_VERDICT, verdict))
    place = _text(_ELEMENTS_TABLE, table) + _text(_ELEMENTS_SET, element.set)
    return _header(element.family) + place + _nested(_ELEMENTS, _nested(_ELEMENT, content))


def _element(family: Family, name: str, item: bytes) -> Element:
    fields = dict(attributes(item))
    value = dict(attributes(fields.get(_KEY, b""))).get(_VALUE, b"")
    verdict = dict(attributes(dict(attributes(fields.get(_DATA, b""))).get(_VERDICT, b"")))
    return Element(family, name, value, _name(verdict.get(_VERDICT_CHAIN, b"")))


def _header(family: Family) -> bytes:
    return struct.pack("=BBH", _FAMILIES[family], 0, 0)


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def failed(what: str, error: OSError) -> HostError:
    """Return what to raise where the kernel does not let ``what`` be done with the tables."""
    return HostError(f"cannot {what} nftables' tables: {error.strerror}", hint=HINT)


HINT: Final = "instances need the kernel's nf_tables, for bridges too; instar doctor shows what is missing"
