"""Which environment's router a request goes to, by its name: a map of HAProxy's, changed while it runs. Pure.

``names.map`` is what HAProxy reads when it starts. Its first lines say, in comments, which environments there are; all
others follow from them::

    # environments {"shop/production": {"slot": 7, …
    # …}}
    shop.example/ https/to/e7/15552000
    shop.example/.well-known/acme-challenge/ https/challenge
    shop.example/api/ https/to/e9/0
    www.shop.example/ https/redirect/shop.example

A key is a name and the path that requests are below; of several the longest counts. A slot is a backend that HAProxy
has from its beginning, so that an environment that comes needs no other HAProxy. Of a line longer than its buffer
HAProxy would read each further part as an entry, so none is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse
from instar.model.host_names import HostNames

MAP: Final = "names.map"
ENTRY: Final = (  # the allow-list of what may be in a line, and on the socket
    r"(?:\*\.)?[a-z0-9][a-z0-9.-]{0,252}/(?:[A-Za-z0-9._~-]{1,256}/)*",
    r"(?:https?/to/e[1-9][0-9]{0,3}/[0-9]{1,10}|https?/redirect/[a-z0-9][a-z0-9.-]{0,252}|https/(?:challenge|closed))",
)
CHALLENGES: Final = ".well-known/acme-challenge"

_FIRST, _MORE = "# environments ", "# "
_WIDTH: Final = 4_000  # HAProxy reads no line of more than 16,383 bytes as one
_LINE = re.compile(rf"({ENTRY[0]}) ({ENTRY[1]})", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """What is passed to one environment. ``expected``: names that it will have, when it can serve them, and which
    stay where they are until then; ``leaving``: such that others expect of this one."""

    slot: int
    names: HostNames
    expected: tuple[str, ...] = ()
    leaving: HostNames = HostNames()


Environments = Mapping[str, Passed]  # SERVICE/ENV → what it gets
NONE: Final[Environments] = {}


def backend(slot: int) -> str:
    return f"e{slot}"


def settled(environments: Environments, environment: str, names: HostNames, expected: Sequence[str]) -> Environments:
    """Return ``environments`` with ``names`` passed to ``environment`` from now on, and to no other.

    What it had and has no longer stays with it only as long as another expects it.
    """
    others = {name: one for name, one in environments.items() if name != environment}
    before = environments.get(environment)
    wanted = {site for one in others.values() for site in one.expected} | set(expected)
    had = () if before is None else (*before.names.sites, *before.leaving.sites)
    left = [site for site in had if site in wanted and site not in names.sites]
    leaving = HostNames() if before is None else _together(before.names.only(left), before.leaving.only(left))
    slot = _free_slot(others) if before is None else before.slot
    gone = {name: _without(one, names.sites) for name, one in others.items()}
    own = Passed(slot=slot, names=names, expected=tuple(expected), leaving=leaving)
    return _tidy({**gone, environment: own})


def without(environments: Environments, environment: str) -> Environments:
    """Return the same where nothing is passed to ``environment`` any more."""
    return _tidy({name: one for name, one in environments.items() if name != environment})


def authorities(environments: Environments) -> Mapping[str, str]:
    """Return what the certificates of clients must be signed by, PEM, of each name of https that asks for them.

    Where several environments have parts of a name, the one that has the whole of it decides; where none has, one that
    asks does.
    """
    of_whole: dict[str, str | None] = {}
    of_parts: dict[str, str] = {}
    for one in environments.values():
        for names in (one.leaving, one.names):
            for host in names.secure_hosts:
                if names.has_whole(host):
                    of_whole[host] = names.client_ca
                elif names.client_ca is not None:
                    of_parts.setdefault(host, names.client_ca)
    return {host: found for host, found in {**of_parts, **of_whole}.items() if found is not None}


def entries(environments: Environments, certified: Collection[str]) -> Mapping[str, str]:
    """Return the map: key → what is done with its requests. ``certified``: the names that have a certificate."""
    found: dict[str, str] = {}
    asked = authorities(environments)
    for one in environments.values():
        for names in (one.leaving, one.names):
            found.update(_entries(names, one.slot, _closed(names, asked, certified)))
    return dict(sorted(found.items()))


def render(environments: Environments, certified: Collection[str]) -> str:
    """Return the file. Raises RouterError for anything that may not stand in it."""
    lines = [f"{key} {value}" for key, value in entries(environments, certified).items()]
    for line in lines:
        if not _LINE.fullmatch(line):
            raise RouterError(f"cannot pass requests by name: {line!r} is no entry of the map")
    said = canonical(environments).decode()
    more = (said[at : at + _WIDTH] for at in range(_WIDTH, len(said), _WIDTH))
    return "\n".join([_FIRST + said[:_WIDTH], *(_MORE + part for part in more), *lines]) + "\n"


def read(text: str) -> Environments:
    """Read what :func:`render` wrote. Raises RouterError."""
    lines = itertools.takewhile(lambda line: line.startswith(_MORE), text.split("\n"))
    try:
        found = parse("\n".join(lines).removeprefix(_FIRST).replace(f"\n{_MORE}", ""))
        return {str(name): from_json(Passed, one) for name, one in found.items()}
    except (ValueError, AttributeError) as error:
        raise RouterError(
            f"cannot read '{MAP}' of the edge: {error}",
            hint="it is not meant to be edited; remove it: the next deploy of each environment writes its names anew",
        ) from error


def _closed(names: HostNames, asked: Mapping[str, str], certified: Collection[str]) -> Collection[str]:
    """Return those hosts of ``names`` that nobody reaches: another authority's clients would be let in, or, as long as
    a name has no certificate of its own, whoever a wildcard lets in."""
    return {
        host
        for host in names.secure_hosts
        if (host in asked and host not in certified) or names.client_ca not in (None, asked.get(host))
    }


def _entries(names: HostNames, slot: int, closed: Collection[str]) -> Iterator[tuple[str, str]]:
    secure = {site.partition("/")[0] for site in names.https}
    for source, to in names.redirect.items():
        yield f"{source}/", f"{'https' if to in secure else 'http'}/redirect/{to}"
    for site in names.http:
        yield f"{site}/", f"http/to/{backend(slot)}/0"
    for site in names.https:
        to = f"https/to/{backend(slot)}/{(names.hsts_ms or 0) // 1000}"
        yield f"{site}/", "https/closed" if site.partition("/")[0] in closed else to
    for host in names.secure_hosts:
        if not host.startswith("*."):
            yield f"{host}/{CHALLENGES}/", "https/challenge"


def _together(one: HostNames, other: HostNames) -> HostNames:
    """Return both; the first alone where clients of the other need certificates of another authority."""
    if not one.sites:
        return other
    if other.client_ca != one.client_ca:
        return one
    return replace(
        one, http=one.http + other.http, https=one.https + other.https, redirect={**other.redirect, **one.redirect}
    )


def _without(one: Passed, sites: Sequence[str]) -> Passed:
    kept, leaving = ([site for site in names.sites if site not in sites] for names in (one.names, one.leaving))
    return replace(one, names=one.names.only(kept), leaving=one.leaving.only(leaving))


def _tidy(environments: Environments) -> Environments:
    """Let what is leaving go where nobody expects it any more, and free the slots of who has nothing left."""
    expected = {site for one in environments.values() for site in one.expected}
    kept = {name: replace(one, leaving=one.leaving.only(expected)) for name, one in environments.items()}
    return {name: one for name, one in sorted(kept.items()) if one.names.sites or one.expected or one.leaving.sites}


def _free_slot(environments: Environments) -> int:
    taken = {one.slot for one in environments.values()}
    return next(slot for slot in range(1, len(taken) + 2) if slot not in taken)
