"""What may stand at a place of the file, as values that read it, describe it and publish it.

One shape is the one source of three things: the reading with its messages, the JSON Schema, and the reference page.
Reading never raises: what is wrong goes to the problems, and :data:`FAILED` stands for its value, so that all that
is wrong is found at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from instar.definition import forms
from instar.definition.problems import Problems, listed, nearest
from instar.definition.source import Mapping as MapNode
from instar.definition.source import Node, Scalar, Unusable, describe


@final
class _Failed:
    """Stands for a value that could not be read."""

    def __repr__(self) -> str:
        return "FAILED"


FAILED: Final = _Failed()


class Shape:
    """``expected`` is how a message and the reference name it: "a whole number from 1 to 65535"."""

    node: type[Node] = Scalar

    def __init__(self, expected: str) -> None:
        self.expected = expected

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        """Return the value that stands at ``node``, or FAILED with the reason among ``problems``."""
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def written(self, value: Any) -> Any:
        """Return a value of the model as one writes it, in the terms of JSON."""
        return value

    def brief(self, value: Any) -> Any:
        """Return the same without what holds anyway."""
        return self.written(value)

    def misfit(self, node: Node, path: str, problems: Problems, advice: str = "", *, found: str = "") -> _Failed:
        if not isinstance(node, Unusable):
            message = at_path(path, f"expected {self.expected}, found {found or describe(node)}")
            problems.add(node.mark, f"{message}; {advice}" if advice else message)
        return FAILED


class Text(Shape):
    """A text of a form (see ``forms``). A number is none, nor is a boolean, unless ``kinds`` (JSON's types) has them:
    then it is taken as it is written."""

    def __init__(
        self,
        expected: str,
        form: Callable[[str], Any] = str,
        *,
        pattern: str | None = None,
        show: Callable[[Any], str] = str,
        kinds: Sequence[str] = ("string",),
    ) -> None:
        super().__init__(expected)
        self.bounds: tuple[int | None, int | None] = (None, None)
        self.form = form
        self.pattern = pattern
        self.show = show
        self.kinds = list(kinds)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar):
            return self.misfit(node, path, problems, _as_text(node))
        kind = node.kind
        try:
            if self._takes(kind):
                return self._bounded(self.form(node.text), node, path, problems)
            if kind != "nothing":
                self.form(node.text)
                return self.misfit(node, path, problems, f'as a text it stands in quotes: "{node.text}"')
        except forms.SecretMisfit as misfit:
            return self.misfit(node, path, problems, str(misfit), found="one with a secret in it")
        except forms.Misfit as misfit:
            return self.misfit(node, path, problems, str(misfit))
        return self.misfit(node, path, problems, 'the empty text is ""' if self.form is str else "")

    def between(self, low: int | None, high: int | None) -> Text:
        """Return the same with bounds for what its form makes of a text: a time, or a size."""
        if low is None and high is None:
            return self
        limited = copy.copy(self)
        limited.bounds = (low, high)
        return limited

    def _bounded(self, value: Any, node: Node, path: str, problems: Problems) -> Any:
        low, high = self.bounds
        if value is None or ((low is None or low <= value) and (high is None or value <= high)):
            return value
        least, most = (None if bound is None else self.show(bound) for bound in self.bounds)
        expected = f"{least} to {most}" if least and most else f"at least {least}" if least else f"at most {most}"
        problems.add(node.mark, at_path(path, f"expected {expected}, found '{self.show(value)}'"))
        return FAILED

    def _takes(self, kind: str) -> bool:
        if kind == "number":
            return "number" in self.kinds or "integer" in self.kinds
        return kind == "text" or kind in self.kinds

    def json_schema(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"type": self.kinds if len(self.kinds) > 1 else self.kinds[0]}
        return {**kinds, "pattern": f"^(?:{self.pattern})$"} if self.pattern else kinds

    def written(self, value: Any) -> str:
        return self.show(value)


def _no_advice(_: str) -> str:
    return ""


class Choice(Shape):
    """One of ``words``, which all begin with ``prefix``; it may be left out. ``later`` are words of a later version."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        expected: str | None = None,
        later: Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        super().__init__(expected or listed(words))
        self.words = tuple(words)
        self.later = tuple(later)
        self.prefix = prefix

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar):
            return self.misfit(node, path, problems)
        word = self.prefix + node.text.removeprefix(self.prefix)
        if word in self.words:
            return word
        if word in self.later:
            problems.add(node.mark, f"{path}: '{word}' is not in this version; expected {self.expected}")
            return FAILED
        near = nearest(word, self.words) if not problems.full else None
        return self.misfit(node, path, problems, f"did you mean '{near}'?" if near else "")

    def json_schema(self) -> dict[str, Any]:
        return {"enum": [*self.words, *(word.removeprefix(self.prefix) for word in self.words if self.prefix)]}


class Installed(Choice):
    """A choice of what is installed here, which is only looked for when somebody chooses."""

    def __init__(self, names: Callable[[], Sequence[str]], *, later: Sequence[str] = ()) -> None:
        self._names = names
        self.later = tuple(later)
        self.prefix = ""

    @property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self._names())

    @property
    def expected(self) -> str:  # type: ignore[override]
        return listed(self.words)


class Whole(Shape):
    """A whole number in a range. It has no leading zero, so that nobody can take it for an octal one.

    ``advise`` returns advice for a text that does not fit, or nothing.
    """

    def __init__(self, low: int, high: int, *, advise: Callable[[str], str] = _no_advice) -> None:
        super().__init__(f"a whole number from {low} to {high}")
        self.low = low
        self.high = high
        self.advise = advise

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar):
            return self.misfit(node, path, problems)
        if forms.fits(r"0|[1-9]\d{0,17}", node.text):
            if not node.plain:
                return self.misfit(node, path, problems, "write it without quotes")
            if self.low <= int(node.text) <= self.high:
                return int(node.text)
        return self.misfit(node, path, problems, self.advise(node.text))

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class Decimal(Shape):
    """A number with up to ``places`` decimals, read as an integer in units of the last one: 0.25 of three places is
    250. ``low`` and ``high`` are in those units; ``advise`` is as in :class:`Whole`."""

    def __init__(self, places: int, low: int, high: int, *, advise: Callable[[str], str] = _no_advice) -> None:
        self.places = places
        self.unit = 10**places
        self.low = low
        self.high = high
        self.advise = advise
        super().__init__(f"a number from {low / self.unit:g} to {high / self.unit:g}")

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar):
            return self.misfit(node, path, problems)
        if not forms.fits(r"\d{1,9}(\.\d+)?", node.text):
            return self.misfit(node, path, problems, self.advise(node.text))
        if not node.plain:
            return self.misfit(node, path, problems, "write it without quotes")
        whole, _, decimals = node.text.partition(".")
        if len(decimals.rstrip("0")) > self.places:
            most = {1: "one decimal", 3: "three decimals"}[self.places]
            return self.misfit(node, path, problems, f"it has at most {most}")
        value = int(whole) * self.unit + int(decimals[: self.places].ljust(self.places, "0"))
        return value if self.low <= value <= self.high else self.misfit(node, path, problems)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low / self.unit, "maximum": self.high / self.unit}

    def written(self, value: Any) -> float:
        return float(value / self.unit)


class Flag(Shape):
    """``true`` or ``false``; no other word is a boolean."""

    def __init__(self, *, only_true: bool = False) -> None:
        super().__init__("true" if only_true else "true or false")
        self.values = {"true": True} if only_true else {"true": True, "false": False}

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.plain and node.text in self.values:
            return self.values[node.text]
        meant = _BOOLEANS.get(node.text.lower()) if isinstance(node, Scalar) else None
        return self.misfit(node, path, problems, f"write {meant}" if meant in self.values else "")

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"} if len(self.values) == 2 else {"const": True}


_BOOLEANS: Final[Mapping[str, str]] = {
    "true": "true", "yes": "true", "on": "true", "1": "true",
    "false": "false", "no": "false", "off": "false", "0": "false",
}  # fmt: skip


def at_path(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _as_text(node: Node) -> str:
    if isinstance(node, MapNode) and len(node.entries) == 1:
        return "a text that contains ': ' stands in quotes"
    return ""
