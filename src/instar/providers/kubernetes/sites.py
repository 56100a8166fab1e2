"""Which names and paths lead to which door of an environment, in pieces that one route can hold.

Source: gateway.networking.k8s.io/v1, HTTPRouteSpec.hostnames (16 at most) and HTTPRouteRule.matches: a rule has the
same paths for all names of its route, 8 of them before Gateway API 1.2, and 64 since, of 128 in all rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from instar.frozen import dataclass
from instar.model.host_names import HostNames
from instar.model.roles import FIRST_DOOR
from instar.providers.kubernetes.names import REDIRECTS

MOST_HOSTS: Final = 16
MOST_PATHS: Final = 8
NOBODY: Final = "nobody.instar.invalid"  # of a door whose names another environment has yet: RFC 6761


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Names, and the paths that each of them has. ``redirect``: the name, and https or None (as it was asked for), that
    requests of them are sent on to."""

    hosts: tuple[str, ...]
    paths: tuple[str, ...]
    redirect: tuple[str, str | None] | None = None

    @property
    def sites(self) -> frozenset[tuple[str, str]]:
        return frozenset((host, path) for host in self.hosts for path in self.paths)


def pieces_of(
    names: HostNames, doors: Mapping[str, Sequence[str]], expected: Sequence[str] = ()
) -> Mapping[str, Sequence[Piece]]:
    """Return what leads to each door by its key, one piece at least of each: to ``doors`` their sites, to the first one
    those of ``names`` that lead to no other, to REDIRECTS those that are sent on. Those that another environment has
    until this one serves (``expected``) lead nowhere yet."""
    of_others = {site for sites in doors.values() for site in sites}
    first = [site for site in (*names.http, *names.https) if site not in of_others]
    each = {FIRST_DOOR: first, **{key: [one for one in sites if one not in expected] for key, sites in doors.items()}}
    found = {key: pieces(sites) or (Piece(hosts=(NOBODY,), paths=("/",)),) for key, sites in each.items()}
    return {**found, **({REDIRECTS: _redirects(names)} if names.redirect else {})}


def _redirects(names: HostNames) -> tuple[Piece, ...]:
    secure = {site.partition("/")[0] for site in names.https}
    sources: dict[str, list[str]] = {}
    for source, to in names.redirect.items():
        sources.setdefault(to, []).append(source)
    return tuple(
        Piece(hosts=some, paths=("/",), redirect=(to, "https" if to in secure else None))
        for to, each in sources.items()
        for some in _portions(tuple(each), MOST_HOSTS)
    )


def pieces(sites: Iterable[str]) -> tuple[Piece, ...]:
    """Return names and paths ("shop.example/api") in as few pieces as there have to be."""
    paths: dict[str, dict[str, None]] = {}
    for host, _, path in (site.partition("/") for site in sites):
        paths.setdefault(host, {})[f"/{path}"] = None
    hosts: dict[frozenset[str], list[str]] = {}
    for host, those in paths.items():
        hosts.setdefault(frozenset(those), []).append(host)
    return tuple(
        Piece(hosts=some, paths=few)
        for each in hosts.values()
        for some in _portions(tuple(each), MOST_HOSTS)
        for few in _portions(tuple(paths[each[0]]), MOST_PATHS)
    )


def _portions(found: tuple[str, ...], most: int) -> Iterator[tuple[str, ...]]:
    yield from (found[start : start + most] for start in range(0, len(found), most))
