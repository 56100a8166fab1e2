"""The Debian part of a lock: the base, and what the definition's packages need besides.

The base is the closure of the essential packages, whatever else is asked for, so that images of one release have
one base layer. It has no apt: nothing is ever installed into an instance.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from instar.errors import FetchError, ResolveError
from instar.fetch.apt import Apt, open_apt
from instar.fetch.cache import Cache
from instar.fetch.sources import read_sources
from instar.lock.wanted import Wanted
from instar.model.control import needs
from instar.model.lock import Package, Suite, Why
from instar.model.reasons import MERGED, explain, package_roots

_ROUNDS = 6


def resolve_packages(
    base: str, base_place: str, wanted: Sequence[Wanted], architecture: str, cache: Cache, keep: Mapping[str, str]
) -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
    """Return the suites that were read and the packages, sorted by step and name.

    ``keep`` names versions that stay as they are where they still exist and fit.

    Raises:
        ResolveError: there is no such release, package or version, or they don't go together.
        SourceUnreachable: an archive does not answer.
    """
    release = base.partition(":")[2]
    try:
        sources = read_sources(release)
    except FetchError as error:
        raise ResolveError(f"{base_place}: {error.message}", hint=error.hint) from error
    with open_apt(cache, sources, architecture) as apt:
        _require_known(apt, wanted, base)
        exact = {one.name for one in wanted if one.version}
        kept = {name: version for name, version in keep.items() if name not in exact}
        try:
            packages = _keeping(apt, wanted, kept)
        except ResolveError as error:
            raise _placed(error, wanted) from error
        return apt.suites, _explained(packages, apt.controls(packages), wanted)


def _explained(
    packages: Sequence[Package], controls: Mapping[str, Mapping[str, str]], wanted: Sequence[Wanted]
) -> tuple[Package, ...]:
    """Return ``packages``, each with why it is there in its step. Raises ResolveError for one that nothing asks for."""
    asked = {one.name for one in wanted}
    reasons: dict[str, Why] = {}
    for step in ("base", "packages"):
        found = {one.name: controls[one.name] for one in packages if one.step == step and one.name in controls}
        reasons |= explain(package_roots(found, asked), needs(found))
    groundless = next((one.name for one in packages if one.name not in reasons), None)
    if groundless is not None:
        raise ResolveError(f"cannot lock '{groundless}': apt would install it, and nothing that is locked asks for it")
    return tuple(dataclasses.replace(one, why=reasons[one.name]) for one in packages)


def _require_known(apt: Apt, wanted: Sequence[Wanted], base: str) -> None:
    there = apt.versions(sorted({MERGED, *(one.name for one in wanted)}))
    problems = []
    for one in wanted:
        versions = there.get(one.name)
        if versions is None:
            problems.append(f"{one.place}: cannot lock '{one.name}': {_unknown(apt, one.name, base)}")
        elif one.version and one.version not in versions:
            problems.append(
                f"{one.place}: cannot lock '{one.text}': there is no such version; there is {', '.join(versions)}"
            )
    if problems:
        raise ResolveError("\n".join(problems))


def _unknown(apt: Apt, name: str, base: str) -> str:
    providers = apt.providers(name)
    if providers:
        return f"it is a virtual package; name one of {', '.join(providers)}"
    near = apt.near(name)
    advice = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
    return f"{base} has no such package{advice}"


def _keeping(apt: Apt, wanted: Sequence[Wanted], keep: Mapping[str, str]) -> tuple[Package, ...]:
    """Solve with as many versions kept as fit: those that apt blames are let go, at last all of them."""
    for left in range(_ROUNDS, -1, -1):
        try:
            return _solve(apt, wanted, keep)
        except ResolveError as error:
            if not keep:
                raise
            blamed = {name for name in keep if _names(error.message, name)} if left > 1 else set()
            keep = {name: version for name, version in keep.items() if name not in blamed} if blamed else {}
    raise AssertionError("the last round keeps nothing")


def _solve(apt: Apt, wanted: Sequence[Wanted], keep: Mapping[str, str]) -> tuple[Package, ...]:
    essential = ["?essential", *([MERGED] if apt.versions([MERGED]) else [])]
    base = apt.closure(essential, "base", keep)
    names = {package.name for package in base}
    exact = [one.text for one in wanted if one.version and one.name in names]
    if exact:
        base = apt.closure([*essential, *exact], "base", keep)
        names = {package.name for package in base}
    others = [one.text for one in wanted if one.name not in names]
    if not others:
        return base
    fixed = [f"{package.name}={package.version}" for package in base]
    both = apt.closure([*fixed, *others], "packages", keep)
    return *base, *(package for package in both if package.name not in names)


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w+.-]){re.escape(name)}(?![\w+-]|\.\w)", text) is not None


def _placed(error: ResolveError, wanted: Sequence[Wanted]) -> ResolveError:
    blamed = [one for one in wanted if _names(error.message, one.name)]
    what = ", ".join(f"'{one.text}' ({one.place})" for one in blamed) or "the packages"
    return ResolveError(f"cannot lock {what}: apt finds no way to install it\n{error.message}", hint=error.hint)
