"""The Debian part of a lock: the base, and what the definition's packages need besides.

The base is the closure of the essential packages, whatever else is asked for, so that images of one release have
one base layer. It has no apt: nothing is ever installed into an instance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from instar.errors import FetchError, ResolveError
from instar.fetch.apt import Apt, open_apt
from instar.fetch.cache import Cache
from instar.fetch.sources import other_sources, read_sources
from instar.frozen import dataclass
from instar.lock.archives import NamedArchive, given_by, require_as_named
from instar.lock.beneath import Beneath
from instar.lock.beneath_controls import controls_of
from instar.lock.older import solve_over
from instar.lock.wanted import WantedPackage, fits
from instar.model.control import needs
from instar.model.lock import Package, Suite, Why
from instar.model.reasons import MERGED, explain, package_roots

_ROUNDS = 6
_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianRelease:
    """Where packages come from: ``base`` as in "debian:bookworm", ``suites`` and ``archives``; ``place`` is where that
    is asked."""

    base: str
    place: str
    suites: tuple[str, ...] = ()
    archives: tuple[NamedArchive, ...] = ()

    @property
    def name(self) -> str:
        return self.base.partition(":")[2]


def resolve_packages(
    release: DebianRelease,
    wanted: Sequence[WantedPackage],
    architecture: str,
    cache: Cache,
    keep: Mapping[str, str],
    below: Beneath | None = None,
) -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
    """Return the suites that were read and the packages, sorted by step and name.

    ``keep`` names versions that stay as they are where they still exist and fit. ``below`` is what the image that all
    this goes onto has, of which nothing is among the packages; without one, they begin with the base.

    Raises:
        ResolveError: there is no such release, package or version, or they don't go together.
        SourceUnreachable: an archive does not answer.
    """
    try:
        sources = read_sources(release.name, more=release.suites)
    except FetchError as error:
        raise ResolveError(f"{release.place}: {error.message}", hint=error.hint) from error
    with open_apt(cache, sources, architecture) as apt:
        given = given_by(release.archives, apt, architecture, cache)
        if given:
            apt.add(given)
        wanted = _known(apt, wanted, release, keep, lambda name: _elsewhere(name, release, architecture, cache))
        if below is not None:
            apt.stand_on(controls_of(below, apt, cache))
        exact = {one.name for one in wanted if one.version}
        kept = {name: version for name, version in keep.items() if name not in exact}
        try:
            packages = _keeping(apt, wanted, kept, is_base=below is None)
        except ResolveError as error:
            raise _placed(error if below is None else _of_base(error, apt, wanted), wanted) from error
        controls = apt.controls(packages)
        require_as_named(packages, release.archives, needs(controls))
        suites = (*apt.suites, *(suite for one in given for suite in one.suites))
        return suites, _explained(packages, controls, wanted, is_base=below is None)


def _explained(
    packages: Sequence[Package],
    controls: Mapping[str, Mapping[str, str]],
    wanted: Sequence[WantedPackage],
    *,
    is_base: bool,
) -> tuple[Package, ...]:
    """Return ``packages``, each with why it is there in its step. Raises ResolveError for one that nothing asks for."""
    asked = {one.name for one in wanted}
    reasons: dict[str, Why] = {}
    for step in ("base", "packages"):
        found = {one.name: controls[one.name] for one in packages if one.step == step and one.name in controls}
        reasons |= explain(package_roots(found, asked, is_base=is_base), needs(found))
    groundless = next((one.name for one in packages if one.name not in reasons), None)
    if groundless is not None:
        raise ResolveError(f"cannot lock '{groundless}': apt would install it, and nothing that is locked asks for it")
    return tuple(dataclasses.replace(one, why=reasons[one.name]) for one in packages)


def _known(
    apt: Apt,
    wanted: Sequence[WantedPackage],
    release: DebianRelease,
    keep: Mapping[str, str],
    elsewhere: Callable[[str], str | None],
) -> list[WantedPackage]:
    """Return what is wanted, in one exact version where a part of one was named. Raises ResolveError."""
    there = {
        archive: apt.versions(sorted({one.name for one in wanted if one.archive == archive} or {MERGED}), archive)
        for archive in {None, *(one.archive for one in wanted)}
    }
    problems, found = [], []
    for one in wanted:
        versions = there[one.archive].get(one.name)
        fitting = [version for version in versions or () if fits(version, one.version)]
        if versions is None:
            problems.append(f"{one.place}: cannot lock '{one.name}': {_unknown(apt, one, release, elsewhere)}")
        elif one.version and not fitting:
            problems.append(
                f"{one.place}: cannot lock '{one.text}': there is no such version; there is {', '.join(versions)}"
            )
        elif one.version:
            before = keep.get(one.name, "")
            found.append(dataclasses.replace(one, version=before if before in fitting else fitting[0]))
        else:
            found.append(one)
    if problems:
        raise ResolveError("\n".join(problems))
    return found


def _unknown(apt: Apt, wanted: WantedPackage, release: DebianRelease, elsewhere: Callable[[str], str | None]) -> str:
    name = wanted.name
    if wanted.archive:
        return f"the archive '{wanted.archive}' has no such package"
    other = next((one.name for one in release.archives if apt.versions([name], one.name)), None)
    if other:
        return f"only the archive '{other}' has it: name it in archives.{other}.packages"
    providers = apt.providers(name)
    if providers:
        return f"it is a virtual package; name one of {', '.join(providers)}"
    other = elsewhere(name)
    if other:
        return f"{release.base} has no such package, but {other}"
    near = apt.near(name)
    advice = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
    return f"{release.base} has no such package{advice}"


def _elsewhere(name: str, release: DebianRelease, architecture: str, cache: Cache) -> str | None:
    """Return where else this machine's sources have a package, and what to write for it. Only a mistake pays for it."""
    others = other_sources(release.name, more=release.suites)
    if others is None:
        return None
    try:
        with open_apt(cache, others, architecture) as apt:
            found = apt.suites_of(name)
    except FetchError:
        return None
    places = " and ".join(f"'{suite}' ({version})" for suite, version in found.items())
    return f"{places} of this machine's sources has it: add the suite to image.suites" if found else None


def _keeping(
    apt: Apt, wanted: Sequence[WantedPackage], keep: Mapping[str, str], *, is_base: bool
) -> tuple[Package, ...]:
    """Solve with as many versions kept as fit: those that apt blames are let go, at last all of them."""
    for left in range(_ROUNDS, -1, -1):
        try:
            return _solve(apt, wanted, keep) if is_base else solve_over(apt, [one.text for one in wanted], keep)
        except ResolveError as error:
            if not keep:
                raise
            blamed = keep.keys() & error.about if left > 1 else set()
            keep = {name: version for name, version in keep.items() if name not in blamed} if blamed else {}
    raise AssertionError("the last round keeps nothing")


def _solve(apt: Apt, wanted: Sequence[WantedPackage], keep: Mapping[str, str]) -> tuple[Package, ...]:
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


def _of_base(error: ResolveError, apt: Apt, wanted: Sequence[WantedPackage]) -> ResolveError:
    """Return the same error with what of the base is in the way, in its versions, where it is that."""
    odd = apt.at_odds()
    if odd:
        return ResolveError(f"what the base has installed does not fit together\n{odd}", about=error.about)
    found = apt.would_break([one.text for one in wanted])
    if not found:
        return error
    lines = "\n".join(str(one) for one in found[:_SHOWN])
    more = f"\nand {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ResolveError(
        f"{error.message}\n{lines}{more}",
        about=error.about,
        hint="nothing of a base is changed over it: lock the base anew (of another definition: instar lock --update -f"
        " FILE; of an image of others: instar lock --update base), or name versions that fit",
    )


def _placed(error: ResolveError, wanted: Sequence[WantedPackage]) -> ResolveError:
    blamed = [one for one in wanted if one.name in error.about]
    what = ", ".join(f"'{one.text}' ({one.place})" for one in blamed) or "the packages"
    return ResolveError(f"cannot lock {what}: apt finds no way to install it\n{error.message}", hint=error.hint)
