"""What ``exclude`` leaves out, by bake format: as .gitignore has it, and as format 1 had it for ever; and what a file
``.instarignore`` beside the definition leaves out of every entry, as .gitignore has it, or a file ``.dockerignore``, as
``docker build`` has it."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from instar.model.patterns import Pattern, Patterns


class Excluded(Protocol):
    """Patterns, asked from the top down: what lies in a folder that is left out is not asked for, unless something of
    it may be brought back."""

    def leave_out(self, path: str, *, is_folder: bool) -> bool: ...

    def may_bring_back(self, path: str) -> bool: ...


class NamesAndPaths:
    """The patterns of bake format 1: each is compared with a path below ``from``, and with a name alone.

    No star stops at a slash, and no pattern is anchored, brings back, or stands for a folder only.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._expression = re.compile("|".join(fnmatch.translate(text.rstrip("/")) for text in texts) or r"(?!)")

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        return bool(self._expression.match(path) or self._expression.match(path.rpartition("/")[2]))

    def may_bring_back(self, path: str) -> bool:
        return False


class DockerPatterns:
    """The patterns of ``.dockerignore``: the last one decides that matches a path or a folder above it.

    All are paths from the top, and ``!`` brings back what lies in a folder that is left out, too.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._last_first = tuple(reversed(patterns))
        self._has_exceptions = any(pattern.negated for pattern in patterns)

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        raw = os.fsencode(path)
        above = [raw[: found.start()] for found in re.finditer(rb"/", raw)]
        for pattern in self._last_first:
            if any(pattern.matches(one, is_folder=True) for one in (raw, *above)):
                return not pattern.negated
        return False

    def may_bring_back(self, path: str) -> bool:
        return self._has_exceptions


class Ignored:
    """The patterns of an ignore file, for what lies below ``source``: they see paths from the definition's folder.

    ``exclude``: what the entry itself leaves out.
    """

    def __init__(self, patterns: Patterns | DockerPatterns, source: str, exclude: Excluded | None) -> None:
        self._patterns = patterns
        self._above = "" if source == "." else f"{source}/"
        self._exclude = exclude

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        if self._exclude and self._exclude.leave_out(path, is_folder=is_folder):
            return True
        return self._patterns.leave_out(f"{self._above}{path}", is_folder=is_folder)

    def may_bring_back(self, path: str) -> bool:
        if self._exclude and self._exclude.leave_out(path, is_folder=True):
            return False
        return self._patterns.may_bring_back(f"{self._above}{path}")


def docker_ignored(text: str) -> DockerPatterns | None:
    """Return the patterns that a file ``.dockerignore`` has; None when there are none. Raises patterns.NoPattern.

    Source: Docker's documentation of the build context, ".dockerignore files".
    """
    from instar.model.patterns import NoPattern, read

    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = "" if line.startswith("#") else line.strip()
        name = pattern.removeprefix("!").strip()
        if not pattern:
            continue
        cleaned = posixpath.normpath(name).lstrip("/") if name else ""
        if cleaned == ".":  # as docker has it: it stands for nothing
            continue
        try:
            found.append(read(f"{pattern[:1] if pattern.startswith('!') else ''}/{cleaned}"))
        except NoPattern as error:
            raise NoPattern(f"line {number}: {error}") from error
    return DockerPatterns(found) if found else None


def ignored(text: str) -> Patterns | None:
    """Return the patterns that a file ``.instarignore`` has; None when there are none. Raises patterns.NoPattern."""
    from instar.model.patterns import NoPattern, Patterns

    lines = [(number, _pattern(line)) for number, line in enumerate(text.split("\n"), 1)]
    found = [line for _, line in lines if line]
    try:
        return Patterns(found) if found else None
    except NoPattern:
        for number, line in lines:
            try:
                Patterns([line] if line else [])
            except NoPattern as error:
                raise NoPattern(f"line {number}: {error}") from error
        raise


def _pattern(line: str) -> str:
    """Return the pattern of a line: a comment has none; blanks at its end count where a backslash is before them."""
    if line.startswith("#"):
        return ""
    bare = line.rstrip(" \t\r")
    return f"{bare} " if bare.endswith("\\") and bare != line else bare


def excluded(texts: Sequence[str], bake_format: int) -> Excluded | None:
    """Return the patterns as ``bake_format`` reads them; None when there are none. Raises patterns.NoPattern."""
    if not texts:
        return None
    if bake_format == 1:
        return NamesAndPaths(texts)
    from instar.model.patterns import Patterns

    return Patterns(texts)


def surprises(texts: Sequence[str], copied: Sequence[tuple[str, bool]]) -> tuple[str, ...]:
    """Return what bake format 1 copied although the patterns, read as .gitignore's, leave it out.

    ``copied`` are paths and whether each is a folder, folders first. What lies in one that is named is not named.
    """
    from instar.model.patterns import NoPattern, Patterns

    try:
        patterns = Patterns(texts)
    except NoPattern:
        return ()
    found: dict[str, None] = {}
    for path, is_folder in copied:
        above = path.rpartition("/")[0]
        if any(above == one or above.startswith(f"{one}/") for one in found):
            continue
        if patterns.leave_out(path, is_folder=is_folder):
            found[path] = None
    return tuple(found)
