"""What is previewed of one environment on this machine: a map in a file, which HAProxy reads when it starts, and in
HAProxy itself.

Crash story: the file is written first, then HAProxy's map. Whoever was killed in between is gone on with by the next
call for the router, and a finding of drift until then.
"""

from __future__ import annotations

from typing import Final

from instar.errors import RouterError
from instar.providers.local.proxy import Proxy
from instar.router import previews
from instar.router.plan import RouterFilePlan
from instar.router.previews import Previews
from instar.router.slots import Slots

_TRIES: Final = 3


def show(proxy: Proxy, plan: RouterFilePlan, wanted: Previews) -> None:
    """Preview what is ``wanted``: in the file and then in HAProxy. The caller holds the router's lock. Raises
    RouterError."""
    if plan.preview is None:
        proxy.files.previews.unlink(missing_ok=True)
        return
    _write(proxy, plan.preview, wanted)
    if not proxy.exists():
        return
    for _ in range(_TRIES):
        todo = previews.commands(plan.preview, wanted, proxy.ask(previews.SHOW)[0])
        if not todo:
            return
        proxy.ask(*todo)
    raise RouterError(f"cannot change the router's previews: it does not keep what it is told: {todo[0]!r}")


def shown(proxy: Proxy, plan: RouterFilePlan) -> Previews:
    """Return what HAProxy has. Raises RouterUnreachable."""
    return previews.read(proxy.ask(previews.SHOW)[0] if plan.preview else "")


def left(proxy: Proxy, plan: RouterFilePlan, held: Slots) -> Previews:
    """Return what is previewed, by the file, of what ``held`` has."""
    there = previews.read(proxy.files.read(proxy.files.previews) or "")
    return previews.kept(held, there, plan.previewed_doors)


def write_file(proxy: Proxy, plan: RouterFilePlan, held: Slots) -> None:
    """Write the file that HAProxy does not start without, with what is left to preview of what ``held`` has."""
    if plan.preview:
        proxy.files.make()
        _write(proxy, plan.preview, left(proxy, plan, held))


def _write(proxy: Proxy, kind: str, wanted: Previews) -> None:
    text = previews.render(kind, wanted)
    if text != proxy.files.read(proxy.files.previews):
        proxy.files.write(text, proxy.files.previews)
