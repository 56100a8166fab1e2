"""Rules of this machine that meddle with packets on their way: DNAT, redirects, transparent proxies, addresses and
ports written over; copies, programs that get to decide, connections that nobody keeps account of.

All of nftables' rules are read, whoever's they are; those of ``iptables`` are among them where that is iptables-nft. A
rule is told by what it asks of a packet's addresses and links. What it asks beside that (a set of ports, a mark) makes
it narrower than is seen here, and is not weighed. Source: linux/netfilter/nf_tables.h, linux/netfilter/x_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from instar.host.network.netlink import Netlink, attributes

_NETFILTER: Final = 12
_GET_RULE: Final = 10 << 8 | 7  # the subsystem nf_tables, its message NFT_MSG_GETRULE
_GET_GENERATION: Final = 10 << 8 | 16  # NFT_MSG_GETGEN
_GENERATION_ID: Final = 1
_GET_CHAIN: Final = 10 << 8 | 4
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_OUTPUT = 3  # NF_INET_LOCAL_OUT
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_NAME, _DATA = 1, 2  # of an expression, of a match and of a target alike
_INFO = 3  # of a match or a target of iptables
_OF_LINK, _OF_NETWORK, _OF_TRANSPORT = 0, 1, 2
_PROTOCOL_AT, _SOURCE_AT, _ADDRESS_AT, _PORT_AT = 9, 12, 16, 2
_MACS, _ADDRESSES, _PORTS = range(12), range(12, 20), range(4)  # where they are in the heads of those
_MAC_BYTES = 6
_EQUAL, _AT_MOST, _AT_LEAST = 0, 3, 5
_META_OF_PROTOCOL = (15, 16)  # NFT_META_NFPROTO, NFT_META_L4PROTO: they narrow nothing that matters here
_META_OF_ORIGIN, _META_OF_LINK = (6, 17), (7, 18)  # names: NFT_META_IIFNAME, BRI_IIFNAME; OIFNAME, BRI_OIFNAME
_NAME_BYTES = 16
_UDP = 17
_SNAT, _DNAT = 0, 1
_FAMILIES: Final = {1: "inet", 2: "ip", 10: "ip6", 7: "bridge", 5: "netdev"}
_SENDERS: Final = ("DNAT", "REDIRECT", "NETMAP", "TPROXY")
_HARMLESS: Final = ("comment", "tcp", "udp", "multiport")
_NOT_TRACKED = 1  # XT_CT_NOTRACK
_ELSEWHERE, _REWRITES = "sends it elsewhere", "writes over where it goes or comes from"
_COPIES, _QUEUES, _FORGETS = "copies it", "lets a program decide about it", "keeps its connection out of all account"
_RENAMES = "gives it another sender"
_ANYBODYS: Final = (_ELSEWHERE, _RENAMES)  # what a firewall may do with what an instance begins
_MEDDLES: Final = {"dup": _COPIES, "queue": _QUEUES, "notrack": _FORGETS}
_TARGETS: Final = {"TEE": _COPIES, "NFQUEUE": _QUEUES, "NOTRACK": _FORGETS, "SNAT": _RENAMES}


@dataclass(kw_only=True, slots=True)
class Redirect:
    """One rule. ``networks`` and ``ports`` are the destinations that it asks for, none: any; ``macs`` hardware
    addresses, ``links`` where packets leave (a name, or its beginning and "*"), ``senders`` and ``origins`` from whom
    and over which links they came. ``narrow``: it asks for something else too. ``does``: what it does with packets, ""
    nothing; ``sends``: they go elsewhere by it, to ``to``, where that is said. ``hook``: every packet comes by it
    there, or every one of these ``devices``; None: only those that other rules send."""

    where: str
    networks: list[IPv4Network] = field(default_factory=list)
    senders: list[IPv4Network] = field(default_factory=list)
    macs: list[bytes] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    devices: tuple[str, ...] = ()
    hook: int | None = None
    ports: list[range] = field(default_factory=list)
    narrow: bool = False
    does: str = ""
    sends: bool = False
    tcp: bool = True
    to: IPv4Address | None = None

    def takes(self, address: IPv4Address, port: int) -> bool:
        """Tell whether it takes what is meant for ``port`` of ``address`` (0.0.0.0: any of this machine's)."""
        if not self.networks and not self.ports:
            return self._takes_all()
        everywhere = address == IPv4Address(0)
        at_port = any(port in one for one in self.ports) if self.ports else not everywhere
        return at_port and (not self.networks or everywhere or self._names(address))

    def _names(self, address: IPv4Address) -> bool:
        return any(address in one for one in self.networks)

    def effect_on_listener(self, address: IPv4Address, port: int) -> str | None:
        """Return for people what it does with what is meant for a listener; None if nothing."""
        return self._sentence() if self.sends and self.takes(address, port) else None

    def effect_on_host(
        self, address: IPv4Address, port: int | None = None, mac: bytes = b"", links: Collection[str] = ()
    ) -> str | None:
        """Return for people what it does with what goes to ``address`` (at ``mac``, over ``links``), or sends there;
        None if nothing. ``port``: that of its service."""
        of_it = self._names(address) or mac in self.macs or _meets((*self.links, *self.devices), links)
        from_it = any(address in one for one in self.senders) or _meets(self.origins, links)
        if of_it or (from_it and self.does not in _ANYBODYS) or (self.sends and self._takes_all(port)):
            return self._sentence()
        return f"{self.where} sends here what was meant for others" if self.to == address else None

    def _takes_all(self, port: int | None = None) -> bool:
        """Tell whether it takes every packet; where ``port`` is, every one that this machine itself sends there."""
        if self.hook is None or self.narrow or self.senders or self.macs or self.links or self.origins or self.devices:
            return False
        of_port = port is not None and self.hook == _OUTPUT and any(port in one for one in self.ports)
        return not self.networks and (not self.ports or of_port)

    def _sentence(self) -> str:
        return f"{self.where} {self.does}" + (f", to {self.to}" if self.to else "")


def redirects() -> tuple[Redirect, ...]:
    """Return the rules of all tables that send TCP's packets elsewhere. Raises OSError.

    They are read anew only when anything of nftables has changed since this process read them.
    """
    with Netlink(_NETFILTER) as netlink:
        generation = _generation(netlink)
        if generation is not None and generation in _READ:
            return _READ[generation]
        found = tuple(rule for message in netlink.dump(_GET_RULE, b"\0\0\0\0") if (rule := _rule(message)) is not None)
        hooked = dict(_hooked(netlink))
        for rule in found:
            rule.hook, rule.devices = hooked.get(rule.where, (None, ()))
        if _generation(netlink) == generation is not None:
            _READ.clear()
            _READ[generation] = found
        return found


_READ: Final = dict[int, tuple[Redirect, ...]]()  # by the number of the rules' generation


def _hooked(netlink: Netlink) -> Iterator[tuple[str, tuple[int, tuple[str, ...]]]]:
    """Yield the chains that packets come to by themselves, at which hook, and of which links if not all: to all others,
    rules send them that ask for something."""
    for message in netlink.dump(_GET_CHAIN, b"\0\0\0\0"):
        fields = dict(attributes(message[4:]))
        if _CHAIN_HOOK in fields:
            hook = dict(attributes(fields[_CHAIN_HOOK]))
            devices = [_text(one) for _, one in attributes(hook.get(_HOOK_DEVICES, b""))]
            devices += [_text(hook[_HOOK_DEVICE])] if _HOOK_DEVICE in hook else []
            where = _where(message[0], fields.get(_CHAIN_TABLE, b""), fields.get(_CHAIN_NAME, b""))
            yield where, (_number(hook.get(_HOOK_NUMBER, b"")), tuple(dict.fromkeys(devices)))


def _where(family: int, table: bytes, chain: bytes) -> str:
    return f"nftables {_FAMILIES.get(family, family)} {_text(table)} {_text(chain)}"


def _generation(netlink: Netlink) -> int | None:
    for message in netlink.ask(_GET_GENERATION, b"\0\0\0\0"):
        return _number(dict(attributes(message[4:])).get(_GENERATION_ID, b""))
    return None


def _rule(message: bytes) -> Redirect | None:
    fields = dict(attributes(message[4:]))
    expressions = fields.get(_RULE_EXPRESSIONS, b"")
    if not any(word in expressions for word in _WORDS):
        return None
    rule = Redirect(where=_where(message[0], fields.get(_RULE_TABLE, b""), fields.get(_RULE_CHAIN, b"")))
    registers: dict[int, _Register] = {}
    for _, item in attributes(expressions):
        parts = dict(attributes(item))
        _apply(rule, registers, _text(parts.get(_NAME, b"")), dict(attributes(parts.get(_DATA, b""))))
    return rule if rule.does and rule.tcp else None


_WORDS: Final = tuple(
    f"{word}\0".encode() for word in ("nat", "redir", "tproxy", "target", "payload", "dup", "fwd", "queue", "notrack")
)


@dataclass(kw_only=True, slots=True)
class _Register:
    """What a register holds: a part of the packet's head (``base``, ``offset``), or a value."""

    base: int = 0
    offset: int = 0
    meta: int | None = None
    mask: bytes = b""
    value: bytes = b""


def _apply(rule: Redirect, registers: dict[int, _Register], name: str, data: Mapping[int, bytes]) -> None:
    match name:
        case "payload" if 1 in data:
            registers[_number(data[1])] = _Register(base=_number(data[2]), offset=_number(data[3]))
        case "payload" if 5 in data:
            at = range(_number(data[3]), _number(data[3]) + _number(data[4]))
            _write(rule, _number(data[2]), at, registers.get(_number(data[5]), _Register()))
        case "meta" if 1 in data:
            registers[_number(data[1])] = _Register(meta=_number(data[2]))
        case "bitwise":
            held = registers.setdefault(_number(data[1]), _Register())
            registers[_number(data[2])] = held
            held.mask = dict(attributes(data.get(4, b""))).get(1, b"")
        case "immediate":
            registers[_number(data[1])] = _Register(value=dict(attributes(data.get(2, b""))).get(1, b""))
        case "cmp":
            value = dict(attributes(data.get(3, b""))).get(1, b"")
            _compare(rule, registers.get(_number(data[1]), _Register()), _number(data[2]), value)
        case "range":
            first, last = (dict(attributes(data.get(kind, b""))).get(1, b"") for kind in (3, 4))
            _ask(rule, registers.get(_number(data[1]), _Register()), first, last, _number(data[2]) == _EQUAL)
        case "lookup" | "ct" | "fib" | "socket":
            rule.narrow = True
        case "nat" if _number(data.get(1, b"\0\0\0\0")) == _DNAT:
            _send(rule, registers.get(_number(data.get(3, b"\0\0\0\0")), _Register()).value)
        case "nat":
            rule.does = rule.does or _RENAMES
        case "redir" | "tproxy" | "fwd":
            _send(rule)
        case "dup" | "queue" | "notrack":
            rule.does = rule.does or _MEDDLES[name]
        case "match":
            _match(rule, _text(data.get(_NAME, b"")), data.get(_INFO, b""))
        case "target":
            _target(rule, _text(data.get(_NAME, b"")), _number(data.get(2, b"")), data.get(_INFO, b""))
        case _:
            pass


def _send(rule: Redirect, to: bytes = b"") -> None:
    rule.does, rule.sends, rule.to = _ELSEWHERE, True, _address(to)


def _meets(asked: Collection[str], links: Collection[str]) -> bool:
    """Tell whether one of ``links`` is asked for."""
    begun = tuple(one[:-1] for one in asked if one.endswith("*"))
    return any(link in asked or (begun and link.startswith(begun)) for link in links)


def _write(rule: Redirect, base: int, at: range, held: _Register) -> None:
    """Take in that a part of the packet is written over: addresses and ports say where it goes, or whence it comes."""
    told = {_OF_LINK: _MACS, _OF_NETWORK: _ADDRESSES, _OF_TRANSPORT: _PORTS}.get(base, range(0))
    if not set(at) & set(told):
        return
    _send(rule, held.value if (base, at.start) == (_OF_NETWORK, _ADDRESS_AT) else b"")
    rule.does = _REWRITES


def _compare(rule: Redirect, held: _Register, operator: int, value: bytes) -> None:
    """Take in a comparison; a range of ports is two of them."""
    is_port = held.base == _OF_TRANSPORT and held.offset == _PORT_AT
    if is_port and operator == _AT_LEAST:
        rule.ports.append(range(int.from_bytes(value[:2], "big"), 1 << 16))
    elif is_port and operator == _AT_MOST:
        least = rule.ports.pop().start if rule.ports else 0
        rule.ports.append(range(least, int.from_bytes(value[:2], "big") + 1))
    else:
        _ask(rule, held, value, value, operator == _EQUAL)


def _ask(rule: Redirect, held: _Register, first: bytes, last: bytes, equal: bool) -> None:
    """Take in what a rule asks of a part of the packet."""
    if held.meta in (*_META_OF_LINK, *_META_OF_ORIGIN) and equal:
        name = _text(first) + ("*" if len(first) < _NAME_BYTES and not first.endswith(b"\0") else "")
        (rule.links if held.meta in _META_OF_LINK else rule.origins).append(name)
    elif held.meta is not None:
        rule.tcp = rule.tcp and not (held.meta == _META_OF_PROTOCOL[1] and first[:1] == bytes([_UDP]) and equal)
        rule.narrow = rule.narrow or held.meta not in _META_OF_PROTOCOL
    elif held.base == _OF_NETWORK and held.offset == _PROTOCOL_AT:
        rule.tcp = rule.tcp and not (equal and first[:1] == bytes([_UDP]))
    elif held.base == _OF_NETWORK and held.offset in (_SOURCE_AT, _ADDRESS_AT) and equal and first == last:
        bits = sum(byte.bit_count() for byte in held.mask) if held.mask else 8 * len(first[:4])
        asked = rule.networks if held.offset == _ADDRESS_AT else rule.senders
        asked.append(IPv4Network((first[:4].ljust(4, b"\0"), bits), strict=False))
    elif held.base == _OF_LINK and held.offset in (0, _MAC_BYTES) and equal and len(first) >= _MAC_BYTES:
        rule.macs.append(first[:_MAC_BYTES])
    elif held.base == _OF_TRANSPORT and held.offset == _PORT_AT and equal:
        rule.ports.append(range(int.from_bytes(first[:2], "big"), int.from_bytes(last[:2], "big") + 1))
    else:
        rule.narrow = True


def _match(rule: Redirect, name: str, info: bytes) -> None:
    if name == "tcp" and len(info) >= 8:
        first, last = struct.unpack_from("=HH", info, 4)
        if (first, last) != (0, 0xFFFF):
            rule.ports.append(range(first, last + 1))
    elif name == "multiport" and len(info) >= 32:
        ports = struct.unpack_from("=15H", info, 2)[: info[1]]
        rule.ports += [range(port, port + 1) for port in ports]
    elif name == "udp":
        rule.tcp = False
    elif name not in _HARMLESS:
        rule.narrow = True


def _target(rule: Redirect, name: str, revision: int, info: bytes) -> None:
    if name in _SENDERS:
        _send(rule, (info[4:8] if revision else info[8:12]) if name == "DNAT" else b"")
    elif name in _TARGETS or (name == "CT" and info[:1] and info[0] & _NOT_TRACKED):
        rule.does = rule.does or _TARGETS.get(name, _FORGETS)


def _address(value: bytes) -> IPv4Address | None:
    return IPv4Address(value) if len(value) == 4 and any(value) else None


def _number(value: bytes) -> int:
    return int.from_bytes(value[:4], "big")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
