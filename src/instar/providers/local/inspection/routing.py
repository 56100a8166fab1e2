"""Is a place's router what Instar made of it? Its file against what Instar would write, HAProxy against its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from instar.errors import RouterError
from instar.model.drift import Finding
from instar.providers.base import Target
from instar.providers.local.proxy import Proxy
from instar.router import admin_socket, config, slots, waiting
from instar.router.slots import FREE, Live, Server, Slots

_FILE: Final = "haproxy.cfg"


def differences(proxy: Proxy) -> Iterator[Finding]:
    """Yield what is not as it was made. The caller holds the router's lock, so nothing is only half changed."""
    text = proxy.files.read()
    if text is None or not proxy.exists():
        return  # nothing runs that could differ: whoever keeps the environment starts it
    try:
        held, plan = config.read_slots(text), config.read_plan(text)
        expected = proxy.render(plan, held)
    except RouterError as error:
        yield _finding(_FILE, "what Instar wrote", error.message)
        return
    if text != expected:
        yield _changed_line(_FILE, expected, text)
    if plan.wait_ms:
        yield from _changed_script(proxy)
    try:
        live = proxy.live()
    except admin_socket.Unreachable:
        if proxy.exists():  # one that has just ended is started again
            yield _finding("HAProxy", "it answers", "it runs and does not answer")
        return
    if len(live) > len(held):
        yield _finding(_named(len(held), None), "no such slot", _seen(live[len(held)]))
    for index, server in enumerate(held):
        if index < len(live) and slots.commands((server,), (live[index],)):
            yield _finding(_named(index, server), _wanted(server), _seen(live[index]))


def restored(proxy: Proxy, targets: Sequence[Target]) -> Slots:
    """Return what the slots shall hold: the targets that the file names with its weights, or, where nobody can read it,
    those that HAProxy has."""
    known = {target.name: Server.of(target.name, target.address, target.port) for target in targets}
    try:
        named = config.read_slots(proxy.files.read() or "")
    except RouterError:
        by_address = {server.address: server for server in known.values()}
        return tuple(_weighted(by_address.get(seen.address), seen.share) for seen in proxy.live())
    return tuple(_weighted(known.get(server.name), server.weight) if server else None for server in named)


def _weighted(server: Server | None, weight: int) -> Server | None:
    return None if server is None else replace(server, weight=weight)


def _changed_script(proxy: Proxy) -> Iterator[Finding]:
    """Yield what differs in the script that HAProxy reads when it starts."""
    try:
        script = proxy.files.read(proxy.files.script)
    except RouterError as error:
        yield _finding(waiting.SCRIPT, "what Instar wrote", error.message)
        return
    if script is None:
        yield _finding(waiting.SCRIPT, "what Instar wrote", "it is gone")
    elif script != waiting.TEXT:
        yield _changed_line(waiting.SCRIPT, waiting.TEXT, script)


def _changed_line(file: str, expected: str, text: str) -> Finding:
    lines, there = expected.splitlines(), text.splitlines()
    for number, (wanted, line) in enumerate(zip(lines, there, strict=False), 1):
        if wanted != line:
            return _finding(f"{file}, line {number}", wanted.strip(), line.strip())
    number = min(len(lines), len(there)) + 1
    rest = (there or [""])[-1] if len(there) > len(lines) else "it ends before"
    return _finding(f"{file}, line {number}", (lines or [""])[-1] if len(lines) > len(there) else "no more", rest)


def _named(index: int, server: Server | None) -> str:
    return f"slot s{index + 1}" + (f" ({server.name})" if server else "")


def _wanted(server: Server | None) -> str:
    return "free" if server is None else f"{server.address} with weight {server.weight}"


def _seen(seen: Live) -> str:
    if seen.address == FREE and seen.maintenance:
        return "free"
    return f"{seen.address} " + ("in maintenance" if seen.maintenance else f"with weight {seen.share}")


def _finding(path: str, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="router", path=path, expected=expected, observed=observed)
