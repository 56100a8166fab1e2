"""Which door a request is for that comes by name: the edge passes all of an environment's to its one router. Pure.

It goes by the Host and the path, as the edge does (``edge.names``): a name of its own before one that stands for many,
of paths the longest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

SITE: Final = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,252})?(?:/[A-Za-z0-9._~-]{1,256}){0,64}", re.ASCII)
_WHERE: Final = (
    "  http-request set-var(txn.name) req.fhdr(Host),host_only,lower,rtrim(.)",
    "  http-request set-var(txn.path) path",
    "  http-request set-var(txn.site) var(txn.name),concat(,txn.path,/)",
)


CHOSEN: Final = "txn.door"  # the variable that says which door a request is for, by the name of its backend


def marks(sites: Mapping[str, str], first: str) -> Sequence[str]:
    """Return the rules that note for which door a request is: the backend of that. ``sites`` and ``first`` as for
    :func:`rules`. None are needed where all are for ``first``."""
    if set(sites.values()) <= {first}:
        return ()
    noted = f"!{{ var({CHOSEN}) -m found }}"
    lines = (
        f"  http-request set-var({CHOSEN}) str({backend}) if {noted} {match}" for backend, match in _matches(sites)
    )
    return (*_WHERE, *lines, f"  http-request set-var({CHOSEN}) str({first}) if {noted}")


def chosen(backend: str) -> str:
    """Return the condition of what was noted to be for the door of ``backend``."""
    return f"{{ var({CHOSEN}) -m str {backend} }}"


def rules(sites: Mapping[str, str], first: str) -> Sequence[str]:
    """Return the rules of the frontend that the edge asks. ``sites``: site → the backend of its door, of all doors.
    None are needed where all lead to ``first``, the backend of what no rule chooses."""
    if set(sites.values()) <= {first}:
        return ()
    return [*_WHERE, *(f"  use_backend {backend} if {match}" for backend, match in _matches(sites))]


def _matches(sites: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield backends, each with the condition of what is for it: the first that holds decides."""
    for site, backend in sorted(sites.items(), key=_first):
        is_wildcard = site.startswith("*.")
        name, slash, path = site.removeprefix("*.").partition("/")
        if is_wildcard:
            matched = "^[^./]+" + re.escape(f".{name}{slash}{path}/")
            yield backend, f"{{ var(txn.site) -m reg {matched} }}"
        else:
            yield backend, f"{{ var(txn.site) -m beg {site}/ }}"


def _first(entry: tuple[str, str]) -> tuple[bool, int, str]:
    site = entry[0]
    return site.startswith("*."), -len(site), site
