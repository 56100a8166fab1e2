"""Is an environment's router what Instar made of it? Its file against what Instar would write, HAProxy against its
file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from instar.errors import RouterError, RouterUnreachable
from instar.host.network import redirects
from instar.host.network.redirects import Redirect
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.providers.local.inspection import haproxy
from instar.providers.local.proxy import Proxy, server_of
from instar.providers.router_state import Target
from instar.router import config, listener, slots
from instar.router.address import Address
from instar.router.files import HaproxyFiles, HolderRecord
from instar.router.slots import FREE, Live, Server, Slots

_OF_NAMES: Final = re.compile(r"nftables ip instar_([0-9a-f]{6}) named")
_FILE: Final = "haproxy.cfg"
_HOLDER: Final = "holder.json"
_SCRIPTS_OF: Final = 5  # the form of a router's file from which on its scripts are those of today
_EARLIER_SCRIPTS: Final = (  # a router keeps them with its file
    "sha256:463d72c44b4e524639b35c28103645b1402c317750de455310429c6e7a0d7d4f",
    "sha256:72653cb72f44d290cb79d1a50727789d2e50ddbd934a8e04cc3adab5ea89f6bd",
)


def differences(proxy: Proxy) -> Iterator[Finding]:
    """Yield what is not as it was made; what can't be looked at is a finding itself, and hides nothing else. The
    caller holds the router's lock, so nothing is only half changed."""
    record, unsaid = held_by(proxy.files)
    if record is None and not proxy.haproxies():
        return  # nothing runs that could differ: whoever keeps the environment starts it
    text, problem = _text(proxy)
    held: Slots | None = None
    expected: str | None = None
    if problem is not None:
        yield problem
    elif text is not None:
        try:
            held, plan = config.read_slots(text), config.read_plan(text)
            expected = proxy.render(plan, held)
            if text != expected:
                yield changed_line(_FILE, expected, text)
            for name, script in config.scripts(plan).items():
                yield from _changed_script(proxy, name, script, plan.form)
        except RouterError as error:
            yield _finding(_FILE, "what Instar wrote", error.message)
    if unsaid is not None:
        yield unsaid
    yield from haproxy.processes(record)
    yield from _live(proxy, expected, held)
    yield from _doors(proxy, text)
    yield from _edges_way(proxy, text)


def _text(proxy: Proxy) -> tuple[str | None, Finding | None]:
    try:
        text = proxy.files.read()
    except RouterError as error:
        return None, _finding(_FILE, "it can be looked at", error.message)
    return text, None if text is not None else _finding(_FILE, "what Instar wrote", "it is not there")


def held_by(files: HaproxyFiles) -> tuple[HolderRecord | None, Finding | None]:
    """Return what the holder says of itself, and what is wrong with it."""
    wanted = "its holder has it locked, and says there who it is"
    try:
        record = files.record()
    except RouterError as error:
        return None, _finding(_HOLDER, wanted, error.message)
    if record is None:
        there = "it is locked by nobody" if files.holder.exists() else "it is not there"
        return None, _finding(_HOLDER, wanted, there)
    return record, None


def _live(proxy: Proxy, expected: str | None, held: Slots | None) -> Iterator[Finding]:
    """Yield what HAProxy does that its file does not say."""
    try:
        if held is not None:
            for door in proxy.doors():
                yield from _slots(held, proxy.live(door), door)
        yield from haproxy.differences(proxy, expected, held)
    except RouterUnreachable:
        if proxy.exists():  # one that has just ended is started again
            yield _finding("HAProxy", "it answers", "it runs and does not answer")
    except RouterError as error:
        yield _finding("HAProxy", "it can be looked at", error.message)


def _edges_way(proxy: Proxy, text: str | None) -> Iterator[Finding]:
    """Yield that the machine's edge can't ask the router, where it should."""
    with contextlib.suppress(RouterError):  # that is found already
        if text is not None and config.read_plan(text).door and not (proxy.door / listener.DOOR).is_socket():
            yield _finding("the edge's way to the router", "a socket", "it is not there")


def _doors(proxy: Proxy, text: str | None) -> Iterator[Finding]:
    addresses: Sequence[Address] = ()
    with contextlib.suppress(RouterError):  # that is found already
        addresses = config.read_plan(text or "").addresses
    yield from sent_away(addresses)


def sent_away(addresses: Sequence[Address]) -> Iterator[Finding]:
    """Yield which rules of this machine send away what is meant for the addresses that are listened on."""
    try:
        rules = redirects.redirects()
    except (OSError, ValueError, KeyError, IndexError) as error:
        yield _finding("this machine's rules", "they can be looked at", str(error))
        return
    others = [rule for rule in rules if not _is_of_names(rule)]
    for address in (one for one in addresses if one.version == 4):
        for rule in others:
            if (told := rule.effect_on_listener(IPv4Address(address.host), address.port)) is not None:
                yield _finding(f"packets to {address}", "come to the router", told)


def _is_of_names(rule: Redirect) -> bool:
    """Tell whether a rule leads instances of a state directory that ask for a name to another port of the very address
    that they ask. What is in Instar's own tables besides is found where these are looked at."""
    found = _OF_NAMES.fullmatch(rule.where)
    if found is None or rule.origins != [f"in{found[1]}"] or rule.to is None:
        return False
    return rule.networks == [IPv4Network(rule.to)] and rule.to not in (IPv4Address(0), IPv4Address(0xFFFFFFFF))


def _slots(held: Slots, live: Sequence[Live], door: str) -> Iterator[Finding]:
    if len(live) > len(held):
        yield _finding(_named(len(held), None, door), "no such slot", _seen(live[len(held)]))
    for index, server in enumerate(slots.seen_from(door, held)):
        if index >= len(live):
            yield _finding(_named(index, server, door), _wanted(server), "no such slot")
        elif slots.commands((held[index],), {door: (live[index],)}):
            yield _finding(_named(index, server, door), _wanted(server), _seen(live[index]))


def restored(proxy: Proxy, targets: Sequence[Target]) -> Slots:
    """Return what the slots shall hold: the targets that the file names with its weights, or, where nobody can read it,
    those that HAProxy has."""
    known = {target.name: server_of(target) for target in targets}
    try:
        named = config.read_slots(proxy.files.read() or "")
    except RouterError:
        named = ()
    if not named:
        by_address = {(server.door, server.address): server for server in known.values()}
        seen = slots.seen(proxy.all_live())
        return tuple(_weighted(by_address.get((one.door, one.address)), one.weight) if one else None for one in seen)
    return tuple(_weighted(known.get(server.name), server.weight) if server else None for server in named)


def must_be_replaced(proxy: Proxy, text: str, held: Slots) -> bool:
    """Tell whether HAProxy itself must be started anew to be as it was made: its slots can be put right as it runs."""
    record, unsaid = held_by(proxy.files)
    changed = [*haproxy.processes(record), *haproxy.differences(proxy, text, held)]
    return unsaid is not None or bool(changed) or _has_other_slots(proxy, held) or any(_edges_way(proxy, text))


def _has_other_slots(proxy: Proxy, held: Slots) -> bool:
    return any(len(rows) != len(held) for rows in proxy.all_live().values())


def _weighted(server: Server | None, weight: int) -> Server | None:
    return None if server is None else replace(server, weight=weight)


def _changed_script(proxy: Proxy, name: str, wanted: str, form: int) -> Iterator[Finding]:
    """Yield what differs in a script that HAProxy reads when it starts, beside a file of that form."""
    try:
        script = proxy.files.read(proxy.files.script(name))
    except RouterError as error:
        yield _finding(name, "what Instar wrote", error.message)
        return
    if script is None:
        yield _finding(name, "what Instar wrote", "it is gone")
    elif script != wanted and (form >= _SCRIPTS_OF or Digest.of(script.encode()) not in _EARLIER_SCRIPTS):
        yield changed_line(name, wanted, script)


def changed_line(file: str, expected: str, text: str) -> Finding:
    lines, there = expected.splitlines(), text.splitlines()
    for number, (wanted, line) in enumerate(zip(lines, there, strict=False), 1):
        if wanted != line:
            return _finding(f"{file}, line {number}", wanted.strip(), line.strip())
    number = min(len(lines), len(there)) + 1
    rest = (there or [""])[-1] if len(there) > len(lines) else "it ends before"
    return _finding(f"{file}, line {number}", (lines or [""])[-1] if len(lines) > len(there) else "no more", rest)


def _named(index: int, server: Server | None, door: str) -> str:
    where = f"slot {slots.letter(door)}{index + 1}" + (f" of door {door}" if door else "")
    return where + (f" ({server.name})" if server else "")


def _wanted(server: Server | None) -> str:
    return "free" if server is None else f"{server.address} with weight {server.weight}"


def _seen(seen: Live) -> str:
    if seen.address == FREE and seen.maintenance:
        return "free"
    return f"{seen.address} " + ("in maintenance" if seen.maintenance else f"with weight {seen.share}")


def _finding(path: str, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="router", path=path, expected=expected, observed=observed)
