"""Maintenance of one environment on this machine: its file follows the ledger, HAProxy's map follows its file.

Crash story: the file is written first, then HAProxy's map, then a new page, for which HAProxy is started anew. Whoever
was killed in between is gone on with by the next call for the router, and a finding of drift until then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from instar.errors import RouterError, RouterUnreachable
from instar.providers.local.proxy import Proxy
from instar.router import config, headers, maintenance
from instar.router.plan import FORM, RouterFilePlan

_TRIES: Final = 3


def is_on(proxy: Proxy) -> bool:
    return maintenance.read(proxy.files.read(proxy.files.maintenance) or "")


def page(proxy: Proxy) -> str | None:
    """Return the page, None for the usual one: which it is where there is none yet."""
    found = proxy.files.read(proxy.files.page)
    return None if found == maintenance.USUAL_PAGE else found


def switch(proxy: Proxy, text: str, *, on: bool, page: str) -> None:
    """Turn it on or off, and have that page. The caller holds the router's lock; ``text`` is the router's file."""
    plan = config.read_plan(text)
    if not plan.http:
        raise RouterError("cannot answer with a page: the service speaks tcp, which the router does not read")
    wanted = replace(plan, form=FORM)
    _require_room(wanted, page)
    proxy.files.write(maintenance.render(on), proxy.files.maintenance)
    converge(proxy)  # nobody is let in while HAProxy is started anew
    changed = page != (proxy.files.read(proxy.files.page) or maintenance.USUAL_PAGE)
    proxy.files.write(page, proxy.files.page)
    if proxy.exists() and (changed or (on and not plan.maintained)):
        held = config.read_slots(text)
        write_files(proxy, wanted)
        proxy.replace(wanted, held)
        proxy.converge(held)
        converge(proxy)


def converge(proxy: Proxy) -> None:
    """Make HAProxy's map what the file says. Raises RouterError."""
    if not proxy.exists():
        return
    wanted = is_on(proxy)
    for _ in range(_TRIES):
        todo = maintenance.commands(wanted, proxy.ask(maintenance.SHOW)[0])
        if not todo:
            return
        proxy.ask(*todo)
    raise RouterError(f"cannot change the router's maintenance: it does not keep what it is told: {todo[0]!r}")


def write_files(proxy: Proxy, plan: RouterFilePlan) -> None:
    """Write what HAProxy reads of it when it starts, where it is missing: then what HAProxy does counts."""
    if not plan.maintained:
        return
    proxy.files.make()
    if proxy.files.read(proxy.files.maintenance) is None:
        proxy.files.write(maintenance.render(_seen(proxy)), proxy.files.maintenance)
    if proxy.files.read(proxy.files.page) is None:
        proxy.files.write(maintenance.USUAL_PAGE, proxy.files.page)


def _seen(proxy: Proxy) -> bool:
    try:
        return proxy.exists() and maintenance.read(proxy.ask(maintenance.SHOW)[0])
    except RouterUnreachable:
        return False


def _require_room(plan: RouterFilePlan, page: str) -> None:
    room = min(maintenance.LARGEST_BYTES, headers.buffer_bytes(plan.headers) // 2)
    size = len(page.encode())
    if not 0 < size <= room:
        raise RouterError(
            f"cannot show the page: it has {size:,} bytes, and can have 1 to {room:,}",
            hint="put images and styles elsewhere; what is served here goes out in one piece",
        )
