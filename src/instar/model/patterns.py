"""What ``exclude`` leaves out: patterns that mean what they mean in .gitignore, one after the other.

The last pattern that matches decides; ``!`` brings back, but never what lies in a folder that is left out. A pattern
without a slash is compared with names at any depth; one with a slash with the path from the top; ``/`` at its end means
folders only; ``**`` stands for any number of folders. What could never match anything is refused, not ignored: whoever
wrote it believes that something stays out.

As in git, bytes are compared, not characters. A match takes time in proportion to pattern times path at most.
Source: gitignore(5), and git's wildmatch.c for what that leaves open.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator, Sequence
from typing import Final

from instar.frozen import dataclass

_SLASH, _STAR = b"/", b"*"
_ANY = b"[^/]"
_CLASSES: Final = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, range(32))) + "\x7f",
    "digit": string.digits,
    "graph": string.ascii_letters + string.digits + string.punctuation,
    "lower": string.ascii_lowercase,
    "print": string.ascii_letters + string.digits + string.punctuation + " ",
    "punct": string.punctuation,
    "space": string.whitespace,
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}


class NoPattern(ValueError):
    """A pattern that could never match, with the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """One pattern. ``by_name``: compared with the last part of a path alone."""

    negated: bool
    folders_only: bool
    by_name: bool
    expression: re.Pattern[bytes]

    def matches(self, path: bytes, *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return bool(self.expression.match(path.rpartition(_SLASH)[2] if self.by_name else path))


class Patterns:
    """Patterns in their order."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises NoPattern."""
        self._last_first = tuple(read(text) for text in reversed(texts))

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether the path below the top is left out, when none of the folders above it is."""
        raw = os.fsencode(path)
        for pattern in self._last_first:
            if pattern.matches(raw, is_folder=is_folder):
                return not pattern.negated
        return False

    def may_bring_back(self, path: str) -> bool:
        """Tell whether something below a folder that is left out could be copied: never, as in git."""
        return False


def read(text: str) -> Pattern:
    """Return the pattern that ``text`` is. Raises NoPattern, with the reason, for one that could match nothing."""
    if text.startswith("#"):
        raise NoPattern(f"this is a comment; of a name that begins with '#', write '\\{text}'")
    raw = _without_spaces(os.fsencode(text))
    negated = raw.startswith(b"!")
    raw = raw.removeprefix(b"!")
    folders_only = raw.endswith(_SLASH)
    raw = raw.removesuffix(_SLASH)
    by_name = _SLASH not in raw
    parts = _parts(raw.removeprefix(_SLASH))
    for part in parts:
        if part in ([], [b"\\."], [b"\\.", b"\\."]):
            raise NoPattern(_never(text, part))
    expression = _one(parts[0]) if by_name else _path(parts)
    return Pattern(
        negated=negated,
        folders_only=folders_only,
        by_name=by_name,
        expression=re.compile(expression + rb"\Z", re.DOTALL),
    )


def _never(text: str, part: list[bytes]) -> str:
    if not part:
        return "there is no name in it" if not text.strip("!/ ") else "there is nothing between two slashes"
    if text.removeprefix("!").startswith("./") and text.count("./") == 1:
        return f"no path begins with './'; write '{text.replace('./', '/', 1)}'"
    return f"no path has '{'.' * len(part)}' in it"


def _without_spaces(raw: bytes) -> bytes:
    """Remove spaces at the end, except one that is written with a backslash."""
    bare = raw.rstrip(b" ")
    escaped = (len(bare) - len(bare.rstrip(b"\\"))) % 2
    return bare + b" " if escaped and bare != raw else bare


def _parts(raw: bytes) -> list[list[bytes]]:
    """Return the parts between slashes, each a list of regular expressions of one byte and of stars."""
    parts: list[list[bytes]] = [[]]
    for token in _tokens(raw):
        if token == _SLASH:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _tokens(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        one = raw[at : at + 1]
        at += 1
        if one == b"\\":
            if at == len(raw):
                raise NoPattern("there is nothing after the backslash")
            one = raw[at : at + 1]
            at += 1
            yield one if one == _SLASH else re.escape(one)
        elif one == b"[":
            found, at = _set(raw, at)
            yield found
        elif one == b"?":
            yield _ANY
        else:
            yield one if one in (_SLASH, _STAR) else re.escape(one)


def _set(raw: bytes, at: int) -> tuple[bytes, int]:
    """Return the expression of the set whose ``[`` is before ``at``, and where it ends."""
    negated = raw[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    first, before = True, None  # before: what a '-' would be a range from
    while first or raw[at : at + 1] != b"]":
        first = False
        end = raw.find(b"]", at + 2) if raw.startswith(b"[:", at) else -1
        if end - 1 >= at + 2 and raw[end - 1] == ord(":"):
            members.update(_class(raw[at + 2 : end - 1]))
            before, at = None, end + 1
        elif raw[at : at + 1] == b"-" and before is not None and raw[at + 1 : at + 2] not in (b"", b"]"):
            last, at = _member(raw, at + 1)
            members.update(range(before, last + 1))
            before = None
        else:
            before, at = _member(raw, at)
            members.add(before)
    members = set(range(256)) - members if negated else members
    members.discard(ord("/"))
    if not members:
        raise NoPattern("a set in it has no member")
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", at + 1


def _member(raw: bytes, at: int) -> tuple[int, int]:
    """Return the byte at ``at``, which a backslash may stand before, and where it ends."""
    at += raw[at : at + 1] == b"\\"
    if at >= len(raw):
        raise NoPattern("a '[' has no ']'; of a name with '[' in it, write '\\['")
    return raw[at], at + 1


def _class(name: bytes) -> bytes:
    known = _CLASSES.get(name.decode("ascii", "replace"))
    if known is None:
        raise NoPattern(f"'[:{name.decode(errors='replace')}:]' is no class of characters")
    return known.encode()


def _one(part: Sequence[bytes]) -> bytes:
    """Return the expression of one name. Only the last star is ever tried again: the first fit of the others is fit."""
    pieces: list[bytes] = [b""]
    for number, token in enumerate(part):
        if token != _STAR:
            pieces[-1] += token
        elif not number or part[number - 1] != _STAR:
            pieces.append(b"")
    if len(pieces) == 1:
        return pieces[0]
    start, *middle, end = pieces
    return start + b"".join(b"(?>[^/]*?" + piece + b")" for piece in middle) + b"[^/]*" + end


def _path(parts: Sequence[Sequence[bytes]]) -> bytes:
    """Return the expression of a path. Only the last ``**`` is ever tried again, as with stars."""
    runs: list[list[bytes]] = [[]]
    for number, part in enumerate(parts):
        if not _is_deep(part):
            runs[-1].append(_one(part))
        elif not number or not _is_deep(parts[number - 1]):
            runs.append([])
    if len(runs) == 1:
        return _SLASH.join(runs[0])
    start, *middle, end = runs
    whole = b"".join(one + _SLASH for one in start)
    whole += b"".join(b"(?>(?:[^/]+/)*?" + b"".join(one + _SLASH for one in run) + b")" for run in middle)
    return whole + (b"(?:[^/]+/)*" + _SLASH.join(end) if end else b".+")


def _is_deep(part: Sequence[bytes]) -> bool:
    return len(part) > 1 and set(part) == {_STAR}
