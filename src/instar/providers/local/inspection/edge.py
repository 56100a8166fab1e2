"""Is the machine's edge what Instar made of it? Its files against what Instar would write, HAProxy against its files.

What a certificate is, is told by its fingerprint; of keys nothing is ever said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from instar.errors import RouterError, RouterUnreachable
from instar.model.drift import Finding
from instar.providers.local import shown_certificates
from instar.providers.local.inspection import haproxy
from instar.providers.local.inspection.routing import changed_line, held_by, sent_away
from instar.router.edge import answers, certificates, config, maps, names, tickets
from instar.router.edge.files import door_of
from instar.router.listener import DOOR

if TYPE_CHECKING:
    from instar.providers.local.edge import LocalEdge

_CONFIG: Final = "edge: haproxy.cfg"
_WRITTEN: Final = "what Instar wrote"
_GONE: Final = "it is not there"


def differences(edge: LocalEdge) -> Iterator[Finding]:
    """Yield what is not as it was made; what can't be looked at is a finding itself, and hides nothing else. The caller
    holds the edge's lock, so nothing is only half changed. Files of an older form are held against nothing: they are
    written anew by and by."""
    record, unsaid = held_by(edge.files)
    if unsaid is not None:
        yield _finding("edge: its holder", unsaid.expected, unsaid.observed)
    for look in () if edge.is_of_an_older_form else (_file, _names, _certificates, _links):
        try:
            yield from look(edge)
        except RouterUnreachable:
            if edge.haproxy.exists():  # one that has just ended is started again
                yield _finding("edge: HAProxy", "it answers", "it runs and does not answer")
                return
        except RouterError as error:
            yield _finding("edge: its files", "they can be looked at", error.message)
    for one in haproxy.processes(record):
        yield _finding(f"edge: {one.path}", one.expected or "", one.observed or "")


def _file(edge: LocalEdge) -> Iterator[Finding]:
    text = edge.files.read()
    if text is None:
        yield _finding(_CONFIG, _WRITTEN, _GONE)
        return
    expected = edge.rendered(text)
    if text != expected:
        yield changed_line(_CONFIG, expected, text)
    for one in haproxy.in_force(edge.haproxy, edge.files.config, expected):
        yield _finding(f"edge: {one.path}", one.expected or "", one.observed or "")
    yield from sent_away(config.read_plan(expected).addresses)


def _names(edge: LocalEdge) -> Iterator[Finding]:
    text = edge.files.read(edge.files.names)
    if text is None:
        yield _finding(f"edge: {names.MAP}", _WRITTEN, _GONE)
        return
    environments = names.read(text)
    expected = names.render(environments, edge.files.certified())
    if text != expected:
        yield changed_line(f"edge: {names.MAP}", expected, text)
    yield from _map(edge, names.MAP, names.entries(environments, edge.files.certified()))
    yield from _map(edge, answers.ANSWERS, answers.read(edge.files.read(edge.files.answers) or ""))


def _map(edge: LocalEdge, name: str, wanted: Mapping[str, str]) -> Iterator[Finding]:
    there = maps.shown(edge.haproxy.ask(maps.show(name))[0])
    for key in sorted({*wanted, *there}):
        if wanted.get(key) != there.get(key):
            path = f"edge: {key.removesuffix('/')} in HAProxy's {name}"
            yield _finding(path, wanted.get(key, "nothing"), there.get(key, "nothing"))


def _certificates(edge: LocalEdge) -> Iterator[Finding]:
    text, expected = edge.files.read(edge.files.list), edge.rendered_list()
    if text is None:
        yield _finding(f"edge: {certificates.LIST}", _WRITTEN, _GONE)
    elif text != expected:
        yield changed_line(f"edge: {certificates.LIST}", expected, text)
    kept, served = set(edge.files.certified()), shown_certificates.fingerprints(edge.files, edge.haproxy)
    for name in sorted({*kept, *served}):
        path = f"edge: the certificate of {name}"
        if name not in served:
            yield _finding(path, "HAProxy shows the one that is kept", "it shows none")
        elif name not in kept:
            yield _finding(path, "none", "HAProxy shows one that is not kept")
        elif not served[name]:
            yield _finding(path, "HAProxy shows the one that is kept", "it shows another")
    yield from _tickets(edge)


def _tickets(edge: LocalEdge) -> Iterator[Finding]:
    kept = edge.files.read(edge.files.tickets)
    if not tickets.usable(kept):
        yield _finding("edge: the keys of TLS sessions", _WRITTEN, "something else" if kept else _GONE)
    elif not edge.takes_no_session_up:
        there = tickets.shown(edge.haproxy.ask(tickets.SHOW)[0])
        if there != (kept or "").split():
            yield _finding("edge: the keys of TLS sessions", "HAProxy has those that are kept", "it has others")


def _links(edge: LocalEdge) -> Iterator[Finding]:
    environments = names.read(edge.files.read(edge.files.names) or "# environments {}")
    for name, one in environments.items():
        link, wanted = edge.files.root / names.backend(one.slot), f"{door_of(name)}/{DOOR}"
        there = str(link.readlink()) if link.is_symlink() else _GONE
        if there != wanted:
            yield _finding(f"edge: the way to the router of '{name}'", wanted, there)


def _finding(path: str, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="router", path=path, expected=expected, observed=observed)
