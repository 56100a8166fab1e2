"""A Dockerfile as instructions: continued lines joined, comments and here-documents apart, variables put in.

Source: docs.docker.com, Dockerfile reference (of syntax 1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from instar.model.codec import parse

LONGEST_LINE: Final = 1 << 14
_LONGEST_VALUE: Final = 1 << 16  # of a text with its variables put in: they may stand for one another
_NAME: Final = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?\Z", re.DOTALL)
_FLAG: Final = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?\s*")
_HERE: Final = re.compile(r"<<-?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_ESCAPE: Final = re.compile(r"#\s*escape\s*=\s*(\S)\s*\Z", re.IGNORECASE)
_VARIABLE: Final = re.compile(
    r"\\(?P<escaped>\$)|\$(?:(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:?[-+])(?P<word>[^{}]*))?\})"
)
_PAIR: Final = re.compile(r"(?<!\S)([^\s=]+)=((?:\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.|[^\s\"'\\])*)", re.DOTALL)
_QUOTED: Final = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'([^']*)'|\\(.)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """``name``: upper case; ``text``: what follows its flags; ``lines``: of a here-document, what it holds."""

    line: int
    name: str
    flags: Mapping[str, str]
    text: str
    document: str | None = None

    @property
    def words(self) -> Sequence[str] | None:
        """The words of the JSON form, None for the form of the shell."""
        if not self.text.lstrip().startswith("["):
            return None
        try:
            found = parse(self.text)
        except ValueError:
            return None
        return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile; a line that is none has an empty name."""
    lines = text.splitlines()
    escape, at = _escape(lines), 0
    while at < len(lines):
        began, whole, at = at, *_joined(lines, at, escape)
        if not whole.strip():
            continue
        match = _NAME.match(whole)
        if match is None:
            yield Instruction(line=began + 1, name="", flags={}, text=whole.strip())
            continue
        rest, flags = (match[2] or "").strip(), dict[str, str]()
        begins = 0
        while flag := _FLAG.match(rest, begins):
            flags[flag[1]] = flag[2] or ""
            begins = flag.end()
        rest = rest[begins:]
        name, document = match[1].upper(), None
        here = _HERE.search(rest) if name in ("RUN", "COPY", "ADD") else None
        if here is not None:
            document, at = _document(lines, at, here[2])
        yield Instruction(line=began + 1, name=name, flags=flags, text=rest, document=document)


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with ``$NAME``, ``${NAME}``, ``${NAME:-WORD}`` and ``${NAME:+WORD}`` put in; what is not known
    is empty, as Docker has it. Raises ValueError where that is too long to be meant."""
    length = 0

    def value(match: re.Match[str]) -> str:
        nonlocal length
        found = _put_in(match, variables)
        length += len(found)
        if length > _LONGEST_VALUE:
            raise ValueError(f"its variables stand for more than {_LONGEST_VALUE:,} characters")
        return found

    return _VARIABLE.sub(value, text)


def _put_in(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    found = variables.get(match["plain"] or match["name"])
    how, word = match["how"], match["word"] or ""
    there = bool(found) if how and how.startswith(":") else found is not None
    if how and how.endswith("-"):
        return found if there and found is not None else word
    if how and how.endswith("+"):
        return word if there else ""
    return found or ""


def pairs(text: str, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``NAME=VALUE …``, or ``NAME VALUE`` of the old form, with variables put in."""
    found = {match[1]: _value(match[2], variables) for match in _PAIR.finditer(text)}
    if found and "=" in text.split(None, 1)[0]:
        return found
    name, _, value = text.partition(" ")
    return {name: substituted(value.strip(), variables)} if name else {}


def _value(written: str, variables: Mapping[str, str]) -> str:
    return unquoted(written if written.startswith("'") else substituted(written, variables))


def words(text: str) -> Sequence[str]:
    """Return the words of a line of the shell. Raises ValueError: a quotation does not end, or it is no line of a
    person's (shlex takes time with the square of a word's length)."""
    if len(text) > LONGEST_LINE:
        raise ValueError("it is too long")
    return shlex.split(text)


def unquoted(text: str) -> str:
    return _QUOTED.sub(lambda match: next(group for group in match.groups() if group is not None), text)


def _escape(lines: Sequence[str]) -> str:
    for line in lines:
        if not line.startswith("#"):
            break
        if match := _ESCAPE.match(line):
            return match[1]
    return "\\"


def _joined(lines: Sequence[str], at: int, escape: str) -> tuple[str, int]:
    """Return a line with those that continue it, and where the next one begins. Comments among them are left out."""
    parts = list[str]()
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.lstrip().startswith("#") or (parts and not line.strip()):
            if parts:
                continue
            return "", at
        if not line.rstrip().endswith(escape):
            parts.append(line)
            break
        parts.append(line.rstrip()[: -len(escape)])
    return " ".join(part.strip() for part in parts), at


def _document(lines: Sequence[str], at: int, end: str) -> tuple[str, int]:
    found = list[str]()
    while at < len(lines) and lines[at].strip() != end:
        found.append(lines[at])
        at += 1
    return "\n".join(found), at + 1
