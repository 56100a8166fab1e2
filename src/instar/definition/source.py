"""YAML text → nodes that know where they stand.

Only the plain part of YAML is let in: one document of text, lists and sections. Anchors, aliases, tags, duplicate
keys and further documents are problems. Nothing is converted here: a scalar keeps the text that was written, and
whoever expects something of it decides what it is, so that ``22:22`` stays text and ``0644`` keeps its zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from instar.definition.problems import Mark, Problems, shortened

SIZE_LIMIT_BYTES = 1024 * 1024
DEPTH_LIMIT = 20

Kind = Literal["text", "number", "boolean", "nothing"]

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\Z", re.ASCII)
_FORBIDDEN = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
_SHOWN = 60  # characters of a wrong value that a message repeats


class Node:
    """What stands at one place. ``key_mark`` is where its key stands, if it has one."""

    __slots__ = ("key_mark", "value_mark")

    def __init__(self, mark: Mark) -> None:
        self.value_mark = mark
        self.key_mark: Mark | None = None

    @property
    def mark(self) -> Mark:
        """Where a person looks for it: its own place; of a section or a list, the place of its key."""
        return self.key_mark or self.value_mark


class Scalar(Node):
    """``plain``: written without quotes."""

    __slots__ = ("plain", "text")

    def __init__(self, mark: Mark, text: str, *, plain: bool) -> None:
        super().__init__(mark)
        self.text = text
        self.plain = plain

    @property
    def mark(self) -> Mark:
        return self.value_mark

    @property
    def kind(self) -> Kind:
        """What it is by the way it is written. Only ``true`` and ``false`` are booleans."""
        if not self.plain:
            return "text"
        if self.text in ("", "~", "null"):
            return "nothing"
        if self.text in ("true", "false"):
            return "boolean"
        return "number" if _NUMBER.match(self.text) else "text"


class Listing(Node):
    __slots__ = ("items",)

    def __init__(self, mark: Mark) -> None:
        super().__init__(mark)
        self.items: list[Node] = []


class Mapping(Node):
    __slots__ = ("entries",)

    def __init__(self, mark: Mark) -> None:
        super().__init__(mark)
        self.entries: dict[str, Node] = {}


class Unusable(Node):
    """What a problem was reported about already; nothing more is said of it."""

    __slots__ = ()


def describe(node: Node) -> str:
    """Return what stands there, as the end of "expected …, found …"."""
    if isinstance(node, Listing):
        return "a list"
    if not isinstance(node, Scalar):
        return "a section"
    if node.kind == "nothing":
        return "nothing"
    if node.kind == "number":
        return f"the number {shortened(node.text, _SHOWN)}"
    if node.kind == "boolean":
        return node.text
    return f"'{shortened(node.text, _SHOWN)}'" if node.text else "an empty text"


def read(text: str, problems: Problems) -> Node | None:
    """Return the root of ``text``, or None when it cannot be read as YAML; the reasons go to ``problems``."""
    import yaml

    text = text.removeprefix("\ufeff")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, Loader=loader), problems).document()
    except (yaml.reader.ReaderError, UnicodeEncodeError) as error:
        problems.add(*_forbidden(text, error))
    except yaml.YAMLError as error:
        from instar.definition import syntax

        problems.add(*syntax.explain(error, text))
    except _TooDeep:
        pass  # which is among the problems already
    return None


def mark_of(text: str, index: int) -> Mark:
    """Return line and column of the character at ``index``."""
    before = text[:index]
    return before.count("\n") + 1, index - before.rfind("\n")


def _forbidden(text: str, error: Exception) -> tuple[Mark, str]:
    """Return the place and name of the first character that YAML does not allow."""
    found = re.search(_FORBIDDEN, text)  # compiled only here: it takes as long as all the reading
    if found is None:
        return (1, 1), f"cannot read this as YAML: {error}"
    mark = mark_of(text, found.start())
    if found.group() == "\0":
        return mark, "expected text, found a NUL byte; is this really a YAML file?"
    return mark, f"expected text, found the character U+{ord(found.group()):04X}, which YAML does not allow; remove it"


class _TooDeep(Exception):
    """The reading was stopped; the reason is among the problems."""


class _Builder:
    """Events → nodes. Recursion is bounded by ``DEPTH_LIMIT``."""

    def __init__(self, events: Iterator[Any], problems: Problems) -> None:
        self._events = events
        self._problems = problems

    def document(self) -> Node | None:
        """Return the root, None of an empty file. All of the text is read, so that its end is checked too."""
        root: Node | None = None
        for event in self._events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                if root is not None:
                    message = f"expected the end of the file, found '---'; a file holds one {self._problems.noun}"
                    self._problems.add(_mark(event), message)
                    return root
                root = self._node(next(self._events), 0)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        mark = _mark(event)
        if depth > DEPTH_LIMIT:
            self._problems.add(mark, f"lists and sections are nested more than {DEPTH_LIMIT} deep here")
            raise _TooDeep
        refused = self._refuse(event, mark)
        node = self._content(event, mark, depth)
        return Unusable(mark) if refused else node

    def _content(self, event: Any, mark: Mark, depth: int) -> Node:
        match type(event).__name__:
            case "ScalarEvent":
                return self._scalar(event, mark)
            case "SequenceStartEvent":
                return self._listing(Listing(mark), depth)
            case "MappingStartEvent":
                return self._mapping(Mapping(mark), depth)
        return Unusable(mark)

    def _refuse(self, event: Any, mark: Mark) -> bool:
        """Report what of YAML is not let in, and return whether there was something."""
        alias = type(event).__name__ == "AliasEvent"
        found = []
        if event.anchor is not None:
            found.append(("*", "alias", f"*{event.anchor}") if alias else ("&", "anchor", f"&{event.anchor}"))
        if not alias and event.tag is not None:
            found.append(("!", "tag", event.tag))
        for sign, what, text in found:
            message = f"'{shortened(text, _SHOWN)}' is a YAML {what}, and there are none in a {self._problems.noun}"
            advice = f"{'write the value out' if alias else 'remove it'}, or quote a text that begins with '{sign}'"
            self._problems.add(mark, f"{message}; {advice}")
        return bool(found)

    def _scalar(self, event: Any, mark: Mark) -> Node:
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in event.value):
            self._problems.add(mark, "expected text, found an escaped NUL or half a character in it")
            return Unusable(mark)
        return Scalar(mark, event.value, plain=not event.style)

    def _listing(self, node: Listing, depth: int) -> Listing:
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            node.items.append(self._node(event, depth + 1))
        return node

    def _mapping(self, node: Mapping, depth: int) -> Mapping:
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            value.key_mark = key.value_mark
            if isinstance(key, Scalar):
                self._enter(node, key, value)
            elif not isinstance(key, Unusable):
                self._problems.add(key.value_mark, f"expected a key, found {describe(key)}; a key is one word")
        return node

    def _enter(self, node: Mapping, key: Scalar, value: Node) -> None:
        if key.text in node.entries:
            first = node.entries[key.text].key_mark or node.mark
            message = f"the key '{shortened(key.text, _SHOWN)}' stands here twice, first in line {first[0]}"
            self._problems.add(key.value_mark, message)
        else:
            node.entries[key.text] = value


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1
