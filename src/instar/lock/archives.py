"""The archives of others that a definition names: their keys, what they give, and what a lock says of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from instar.definition.author_files import read_author_file
from instar.errors import DefinitionError, FetchError, Problem, ResolveError
from instar.fetch.archives import Given, archive_sources, components, read_archive
from instar.fetch.cache import Cache
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image_sources import Archive
from instar.model.lock import Lock, Package, RequestedArchive, Suite

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart
    from instar.fetch.apt import Apt

_KEY_LIMIT_BYTES = 1 << 20
_ARMOUR = b"-----BEGIN PGP "
_PUBLIC = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_SECRET_TAGS = (5, 7)  # Source: RFC 9580, packets; 6 is a public key


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedArchive:
    """An archive with what is in the file of its keys (empty for one of the machine's own), and where it is asked."""

    name: str
    wish: Archive
    key: bytes
    place: str

    @property
    def requested(self) -> RequestedArchive:
        """What a lock says that was asked for: not where it is, which may be another place tomorrow."""
        return RequestedArchive(
            name=self.name,
            suites=self.wish.suites,
            packages=tuple(sorted(self.wish.packages)),
            components=components(self.wish),
            key=Digest.of(self.key) if self.key else None,
            as_of=self.wish.as_of,
        )


def archives_of(part: ImagePart) -> tuple[NamedArchive, ...]:
    """Return the archives of a part, by name. Raises DefinitionError for a file that holds no public keys."""
    problems = []
    found = []
    for name, wish in sorted(part.made.archives.items()):
        key = b""
        if wish.signed_by is not None:
            try:
                key = public_key(read_author_file(part.loaded.folder, wish.signed_by, _KEY_LIMIT_BYTES))
            except (OSError, ValueError) as error:
                cause = (getattr(error, "strerror", None) or str(error)).lower()
                path = (*part.path, "archives", name, "signed_by")
                line, column = part.loaded.places.find(*path)
                message = f"{'.'.join(map(str, path))}: cannot use '{wish.signed_by}': {cause}"
                problems.append(Problem(file=part.loaded.file, line=line, column=column, message=message))
        found.append(NamedArchive(name=name, wish=wish, key=key, place=part.place("archives", name)))
    if problems:
        raise DefinitionError(problems)
    return tuple(found)


def public_key(data: bytes) -> bytes:
    """Return the public keys in a file, armoured or binary, without what stands before. Raises ValueError."""
    begin = data.find(_ARMOUR)
    if begin >= 0:
        if b"PRIVATE KEY" in data:
            raise ValueError("there is a private key in it: nobody else may have that; write gpg --armor --export")
        if not data.startswith(_PUBLIC, begin):
            raise ValueError("it holds something else than public keys")
        return data[begin:]
    tag = _packet_tag(data[0]) if data else None
    if tag in _SECRET_TAGS:
        raise ValueError("there is a private key in it: nobody else may have that; write gpg --export")
    if tag != 6:
        advice = "write gpg --export" if data[8:12] == b"KBXf" else "expected a file such as apt has in its keyrings"
        raise ValueError(f"it holds no public keys of OpenPGP; {advice}")
    return data


def _packet_tag(byte: int) -> int | None:
    if not byte & 0x80:
        return None
    return byte & 0x3F if byte & 0x40 else (byte & 0x3C) >> 2


def given_by(archives: Sequence[NamedArchive], apt: Apt, architecture: str, cache: Cache) -> tuple[Given, ...]:
    """Return what the archives give beside those whose lists ``apt`` has.

    Raises:
        ResolveError: this machine has no such suite.
        FetchError: an archive is not signed by its key, or says what it may not.
        SourceUnreachable: one does not answer.
    """
    known = apt.names() if archives else frozenset[str]()
    return tuple(_given(one, known, architecture, cache) for one in archives)


def _given(one: NamedArchive, known: Collection[str], architecture: str, cache: Cache) -> Given:
    try:
        sources = archive_sources(one.name, one.wish, one.key)
    except FetchError as error:
        raise ResolveError(f"{one.place}: {error.message}", hint=error.hint) from error
    from instar.fetch.apt import open_apt

    try:
        with open_apt(cache, sources, architecture) as apt:
            return read_archive(one.name, one.wish, apt, known, architecture)
    except FetchError as error:
        raise type(error)(f"{one.place}: {error.message}", hint=error.hint) from error


def require_as_named(
    packages: Sequence[Package], archives: Sequence[NamedArchive], needs: Mapping[str, Collection[str]]
) -> None:
    """Return when all that is from an archive is named for it, or needed by something else that is from it.

    Raises ResolveError.
    """
    named = {text.partition("=")[0]: one for one in archives for text in one.wish.packages}
    places = {package.name: package.archive for package in packages}
    for package in packages:
        wanted = named.get(package.name)
        if wanted is not None and package.archive != wanted.name:
            raise ResolveError(
                f"{wanted.place}: cannot lock '{package.name}': '{package.suite}' has the same version with other"
                " bytes, and apt does not tell the two apart",
                hint=f"name another version that '{wanted.name}' has (name=version)",
            )
        asking = {name for name, needed in needs.items() if package.name in needed}
        if wanted is None and package.archive and package.archive not in {places.get(name) for name in asking}:
            place = next(one.place for one in archives if one.name == package.archive)
            raise ResolveError(
                f"{place}: cannot lock '{package.name}': '{package.archive}' has it, and nothing from there needs it,"
                f" only {', '.join(sorted(asking)) or 'nothing'}",
                hint=f"if it is meant, name it in archives.{package.archive}.packages",
            )


def require_no_older(previous: Lock | None, suites: Sequence[Suite], archives: Sequence[NamedArchive]) -> None:
    """Return when no archive is older than when it was locked: it may be shown as it was once, to hide what is new.

    Raises FetchError.
    """
    from datetime import UTC, datetime

    dated = {one.name for one in archives if one.wish.as_of}
    for suite in suites if previous else ():
        if suite.archive in dated:
            continue
        for then in previous.suites if previous else ():
            same = (then.archive, then.suite) == (suite.archive, suite.suite)
            if same and (suite.archive or then.label == suite.label) and suite.date < then.date:
                was, now = (datetime.fromtimestamp(one.date, UTC).isoformat(" ", "minutes") for one in (then, suite))
                what = f"the archive '{suite.archive}'" if suite.archive else f"the archive of '{suite.suite}'"
                raise FetchError(
                    f"cannot use {what}: '{suite.suite}' is of {now[:16]} there, and of {was[:16]} in the lock",
                    hint="a mirror may lag behind, or hide what is new: ask another, or later; if it is meant, take the"
                    " line out of 'suites' in the lock",
                )


def moved_archives(then: Sequence[RequestedArchive], now: Sequence[NamedArchive]) -> Iterator[tuple[str | None, str]]:
    """Yield what an archive was when locked and is not now: where that stands (None: no more), and what it is."""
    before = {one.name: one for one in then}
    for one in now:
        was = before.pop(one.name, None)
        if was is None:
            yield one.place, f"archive '{one.name}' is new"
        elif was != one.requested:
            fields = ("suites", "components", "key", "as_of", "packages")
            moved = [field for field in fields if getattr(was, field) != getattr(one.requested, field)]
            yield one.place, f"archive '{one.name}' is not as it was locked: {' and '.join(moved)}"
    for name in before:
        yield None, f"archive '{name}' is no longer here"
