"""What a YAML parser's error means to the person who wrote the file."""

from __future__ import annotations

from typing import Any

from instar.definition.problems import Mark

_INDENTATION = "the indentation does not fit the lines above; what belongs together begins in the same column"
_COLON = (
    "a ': ' cannot stand here; is this line indented too far, does the line above lack its ':', "
    "or is this a text that must be in quotes?"
)
_AFTER_END = "nothing can follow a closing quote or bracket; put the whole text in quotes"

# (words of the parser's context, words of its problem, what to say). The C parser and the Python one are both meant.
# {opened} is the line where what was being read begins.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("scanning an alias", "", "a text that begins with '*' must be in quotes"),
    ("scanning an anchor", "", "a text that begins with '&' must be in quotes"),
    ("", "cannot start any token", "a text that begins with '{character}' must be in quotes"),
    ("quoted scalar", "escape", "unknown escape after '\\'; in single quotes a '\\' is only a '\\'"),
    ("quoted scalar", "", "the quote that opens in line {opened} is never closed"),
    ("block scalar", "", "nothing but a comment can follow '|' or '>' in its line"),
    ("flow sequence", "", "the list that opens with '[' in line {opened} lacks a ',' or its ']'"),
    ("flow mapping", "", "the section that opens with '{{' in line {opened} lacks a ',' or its '}}'"),
    ("flow node", "", "a '[' or '{{' is never closed, or begins a text that must be in quotes"),
    ("block node", "", "a text that begins with '{character}' must be in quotes"),
    ("simple key", "", "expected 'key: value', or a '-' before an item of a list"),
    ("", "mapping values are not allowed", _COLON),
    ("", "mapping keys are not allowed", "a text that begins with '? ' must be in quotes"),
    ("block", "", _INDENTATION),
    ("", "sequence entries are not allowed", "a list cannot begin here; put its '-' in a line of its own"),
    ("tag", "", "a text that begins with '!' must be in quotes"),
    ("", "tag", "a text that begins with '!' must be in quotes"),
    ("", "incompatible", "leave the line '%YAML' out"),
    ("directive", "", "a line cannot begin with '%'"),
    ("", "document start", "the definition has ended above; is a bracket closed too early?"),
)


def explain(error: Any, text: str) -> tuple[Mark, str]:
    """Return where a ``yaml.YAMLError`` about ``text`` points, and what it means in plain words."""
    context = str(getattr(error, "context", None) or "")
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    at = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None) or at
    if at is None or begun is None:
        return (1, 1), f"cannot read this as YAML: {problem}"
    before, character = _surroundings(text, at.line, at.column)
    if not character.strip(" ") or "simple key" in context:
        at = begun  # the mistake is where it begins; the parser noticed at the end of a line or of the file
    meaning = _meaning(context, problem, before, character)
    shown = meaning.format(opened=begun.line + 1, character=character)
    return _inside(text, at.line + 1, at.column + 1), f"cannot read this as YAML: {shown}"


def _inside(text: str, line: int, column: int) -> Mark:
    """Return the place, or the end of the last line when the parser points behind it."""
    lines = text.splitlines() or [""]
    return (line, column) if line <= len(lines) else (len(lines), len(lines[-1]) + 1)


def _surroundings(text: str, line: int, column: int) -> tuple[str, str]:
    """Return what stands in the line before a place, and the character at it ("" at the end of a line)."""
    lines = text.splitlines()
    found = lines[line] if line < len(lines) else ""
    return found[:column], found[column : column + 1]


def _meaning(context: str, problem: str, before: str, character: str) -> str:
    if character == "\t" or "tab character" in problem:
        return "a tab stands here; YAML is indented with spaces only"
    if before.strip() and ("block mapping" in context or "block collection" in context):
        return _AFTER_END
    for in_context, in_problem, meaning in _MEANINGS:
        if in_context in context and in_problem in problem:
            return meaning
    return problem.replace("{", "{{").replace("}", "}}")
