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


def rules(sites: Mapping[str, str], first: str) -> Sequence[str]:
    """Return the rules of the frontend that the edge asks. ``sites``: site → the backend of its door, of all doors.
    None are needed where all lead to ``first``, the backend of what no rule chooses."""
    if set(sites.values()) <= {first}:
        return ()
    return [*_WHERE, *_choices(sites)]


def _choices(sites: Mapping[str, str]) -> Iterator[str]:
    for site, backend in sorted(sites.items(), key=_first):
        is_wildcard = site.startswith("*.")
        name, slash, path = site.removeprefix("*.").partition("/")
        if is_wildcard:
            matched = "^[^./]+" + re.escape(f".{name}{slash}{path}/")
            yield f"  use_backend {backend} if {{ var(txn.site) -m reg {matched} }}"
        else:
            yield f"  use_backend {backend} if {{ var(txn.site) -m beg {site}/ }}"


def _first(entry: tuple[str, str]) -> tuple[bool, int, str]:
    site = entry[0]
    return site.startswith("*."), -len(site), site
