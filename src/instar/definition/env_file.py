"""``.env`` files: names and values, a line each, read strictly.

A line is empty, a comment that begins with ``#``, or ``NAME=VALUE`` (after ``export``, if one likes). A value stands as
it is, up to `` #``; in single quotes all is what it is; in double quotes ``\\`` begins one of ``\\n``, ``\\t``,
``\\r``, ``\\"``, ``\\$`` and a backslash. Nothing is put in the place of ``$NAME``, and the environment of who reads it
is never looked at. No message repeats a value: people keep secrets in such files.
"""

from __future__ import annotations

import re
from typing import Final

from instar.definition import forms
from instar.definition.problems import Problems, shortened
from instar.frozen import dataclass

LARGEST_BYTES: Final = 256 * 1024

_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#'\"]*)")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE: Final = re.compile(r"'([^']*)'")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
_EXPANDED: Final = re.compile(r"\$[A-Za-z_{(]|`")
_NOT_EXPANDED: Final = "nothing is put in the place of '$NAME' here; a '$' that is meant stands in single quotes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A value, and the line that it stands in, from 1."""

    value: str
    line: int


def read_env_file(text: str, problems: Problems) -> dict[str, Entry]:
    """Return what ``text`` says, by name. What is wrong in it goes to ``problems``, with line and column."""
    found: dict[str, Entry] = {}
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, value = _entry(line)
        except _Wrong as wrong:
            problems.add((number, wrong.column + 1), str(wrong))
            continue
        if name in found:
            problems.add(
                (number, line.index(name) + 1), f"'{name}' stands here twice, first in line {found[name].line}"
            )
        found.setdefault(name, Entry(value=value, line=number))
    return found


class _Wrong(Exception):
    """A line is none of a ``.env`` file, from ``column`` (from 0) on."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column


def _entry(line: str) -> tuple[str, str]:
    control = re.search(r"[\x00-\x08\x0b-\x1f\x7f]", line)
    if control:
        raise _Wrong(control.start(), "expected text, found a control character")
    begin = _NAME.match(line)
    assert begin is not None  # it matches nothing too
    name, at = begin[1], begin.end()
    if not forms.fits(forms.VARIABLE, name):
        raise _Wrong(begin.start(1), _about_name(name))
    if line[at : at + 1] != "=":
        spaced = line[at:].lstrip().startswith("=")
        advice = "no space can stand before '='" if spaced else "a name alone takes no value from anywhere"
        raise _Wrong(at, f"expected '=' after '{shortened(name, 60)}'; {advice}")
    return name, _value(line, at + 1)


def _about_name(name: str) -> str:
    expected = "expected NAME=VALUE, with a name of letters, digits and '_' that does not begin with a digit"
    return f"{expected}, found '{shortened(name, 60)}'" if forms.fits(r"[A-Za-z0-9_.-]{1,60}", name) else expected


def _value(line: str, at: int) -> str:
    if line[at : at + 1] == "'":
        return _quoted(line, at, _SINGLE)
    if line[at : at + 1] == '"':
        inner = _quoted(line, at, _DOUBLE)
        return re.sub(r"\\(.)", lambda found: _escape(found, at + 1), inner) if "\\" in inner else inner
    comment = re.search(r"(?:^|[ \t])#", line[at:])
    value = line[at : at + comment.start()] if comment else line[at:]
    if value[:1] in (" ", "\t") and value.strip():
        raise _Wrong(at, "no space can stand after '='; a value that begins with one stands in quotes")
    value = value.strip()
    quote = re.search(r"[\"']", value)
    if quote:
        raise _Wrong(at + quote.start(), "a quote can only stand around a whole value; put all of it in the other kind")
    expanded = _EXPANDED.search(value)
    if expanded:
        raise _Wrong(at + expanded.start(), _NOT_EXPANDED)
    return value


def _quoted(line: str, at: int, kind: re.Pattern[str]) -> str:
    found = kind.match(line, at)
    if found is None:
        raise _Wrong(at, "the quote that opens here is not closed in its line; in double quotes '\\n' is a new line")
    rest = line[found.end() :]
    if rest.strip() and not re.match(r"[ \t]+#", rest):
        raise _Wrong(found.end(), "nothing but a comment can follow a closing quote")
    expanded = _EXPANDED.search(re.sub(r"\\.", "..", found[1])) if kind is _DOUBLE else None
    if expanded:
        raise _Wrong(found.start(1) + expanded.start(), _NOT_EXPANDED)
    return found[1]


def _escape(found: re.Match[str], begin: int) -> str:
    if found[1] not in _ESCAPES:
        raise _Wrong(begin + found.start(), "there is no such escape; in double quotes a '\\' is written as '\\\\'")
    return _ESCAPES[found[1]]
