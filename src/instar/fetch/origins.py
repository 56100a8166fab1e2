"""Which index each wheel came from, held against where it has to come from.

A public index has whatever anybody puts there: a project that is to come from one of one's own must not be taken from
another because somebody has registered its name, or because one's own is asked without its password.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from instar.errors import FetchError, ResolveError
from instar.fetch.indexes import PythonIndex, all_from, source_of
from instar.fetch.requirements import normal_name
from instar.model.lock import Wheel

_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==| @ )")
_FROM = re.compile(r" {4}# from (\S+)\Z")
_LET_IN = re.compile(r"An index URL \((\S+)\) could not be queried due to a lack of valid authentication \S+ \((\d+)")


def from_indexes(
    wheels: Sequence[Wheel],
    annotated: str,
    indexes: Sequence[PythonIndex],
    sources: Mapping[str, Sequence[str]],
    previous: Sequence[Wheel],
) -> tuple[Wheel, ...]:
    """Return ``wheels``, each with its index, by uv's notes below each: ``# from``, and the address.

    Raises ResolveError for one that has to come from another index, or did when it was locked.
    """
    addresses = dict(_addresses(annotated))
    before = {wheel.name: wheel.index for wheel in previous}
    found = []
    for wheel in wheels:
        if wheel.path is not None or wheel.built is not None:
            found.append(wheel)
            continue
        address = addresses.get(wheel.name, "")
        names = [index.name for index in indexes if index.url.rstrip("/") == address.rstrip("/")]
        wanted = source_of(wheel.name, sources)
        named = wanted is not None and wanted != all_from(sources)
        if named and wanted not in names:
            raise _elsewhere(wheel, str(wanted), names)
        index = wanted if wanted in names else next(iter(names), None)
        was = before.get(wheel.name)
        if was in sources and was != index:
            raise _moved(wheel, str(was))
        found.append(dataclasses.replace(wheel, index=index))
    return tuple(found)


def _addresses(annotated: str) -> Iterator[tuple[str, str]]:
    name = ""
    for line in annotated.splitlines():
        if match := _PINNED.match(line):
            name = normal_name(match[1])
        elif name and (at := _FROM.match(line)):
            yield name, at[1]


def _elsewhere(wheel: Wheel, wanted: str, names: Sequence[str]) -> ResolveError:
    other = f"'{names[0]}'" if names else "an index that pip is configured for"
    return ResolveError(
        f"cannot lock '{wheel.name}': it has to come from the index '{wanted}', which does not have it, and {other}"
        f" has {wheel.version}",
        hint=f"nothing was taken; see that '{wanted}' has it, and shows it to whom this machine's file says",
    )


def _moved(wheel: Wheel, was: str) -> ResolveError:
    return ResolveError(
        f"cannot lock '{wheel.name}': it came from the index '{was}' when it was locked, which has it no more",
        hint=f"if it belongs there, name it in python.indexes.{was}; if it does not, take its index out of the lock",
    )


def refusal(told: str, indexes: Sequence[PythonIndex]) -> FetchError | None:
    """Return that an index lets nobody in without a password, or with that one, when uv has ``told`` so."""
    match = _LET_IN.search(told)
    if match is None:
        return None
    index = next((one for one in indexes if one.url.rstrip("/") == match[1].rstrip("/")), None)
    if index is None:
        return FetchError(
            f"cannot lock the wheels: the package index answers {match[2]}: it wants a password, or another one",
            hint="check pip's configuration (pip config list) and ~/.netrc",
        )
    cause = "it wants a password" if index.login is None else "it does not take the password that there is"
    return FetchError(
        f"cannot lock the wheels: the index '{index.name}' answers {match[2]}: {cause}",
        hint=f"see indexes.{index.name} in this machine's own file: docs/machine.md",
    )
