"""Older versions for what goes onto a base that stays: apt takes the newest of each, and says what is in the way.

A package is let go back, version by version, where its newest wants a newer one of the base; and one that it wants in
an exact version is taken in that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from instar.errors import ResolveError
from instar.fetch.apt import Apt
from instar.model.lock import Package

_ROUNDS: Final = 24
_UNMET: Final = re.compile(r"(?m)^(\S+) : ")
_EXACT: Final = re.compile(r"Depends: (\S+) \(= ([^\s)]+)\)")


def solve_over(apt: Apt, wanted: Sequence[str], keep: Mapping[str, str]) -> tuple[Package, ...]:
    """Return what ``wanted`` needs besides what is installed, as new as goes with that. Raises ResolveError, as for the
    newest of each where there is no such way."""
    first: ResolveError | None = None
    chosen = dict[str, str]()
    for _ in range(_ROUNDS):
        try:
            return apt.closure(wanted, "packages", {**keep, **chosen})
        except ResolveError as error:
            first = first or error
            step = _step_back(apt, error.message, chosen)
            if not step:
                raise first from None
            chosen |= step
    assert first is not None
    raise first


def _step_back(apt: Apt, said: str, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the versions to try next, of what ``said`` blames; none where there is nothing more to try."""
    exact = {name.partition(":")[0]: version for name, version in _EXACT.findall(said)}
    blamed = {name.partition(":")[0] for name in _UNMET.findall(said)}
    versions = apt.versions(sorted((exact.keys() | blamed) - apt.fixed.keys()))
    found = {
        name: version
        for name, version in exact.items()
        if version in versions.get(name, ()) and chosen.get(name) != version
    }
    if found:
        return found
    for name in sorted(blamed & versions.keys()):
        there = versions[name]
        at = there.index(chosen[name]) if chosen.get(name) in there else 0
        if at + 1 < len(there):
            found[name] = there[at + 1]
    return found
