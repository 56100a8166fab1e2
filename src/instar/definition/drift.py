"""The sections about what runs being what was baked: how often that is checked, and what is expected to differ."""

from __future__ import annotations

from typing import Final

from instar.definition import forms
from instar.definition.problems import Problems
from instar.definition.section import REQUIRED, Key, Reading, Section, blame
from instar.definition.shapes import FAILED, Choice, ListOf, Text
from instar.definition.values import INTERVAL
from instar.model import definition as model
from instar.model.drift import KINDS

SHORTEST_CHECK_MS: Final = 1_000
_ABOUT_ITSELF: Final = ("rule",)  # an expired rule can't be ignored by another


def _check(reading: Reading, problems: Problems) -> None:
    check = reading.get("check")
    if check not in (None, FAILED) and check < SHORTEST_CHECK_MS:
        blame(reading, "check", problems, f"expected at least 1s, found '{forms.show_duration(check)}'")


IGNORE = Section(
    "a section such as {kind: listener, path: '*:9000', reason: the debug port, until: 2027-01-31}",
    model.Ignore,
    Key("kind", Choice(tuple(kind for kind in KINDS if kind not in _ABOUT_ITSELF)),
        "The kind of findings that are expected.", default=REQUIRED),
    Key("path", Text("a text such as '*:9000'", forms.word), "Only findings there; `*` stands for anything.",
        default=None, default_about="anywhere"),
    Key("reason", Text("a text that says why", forms.word), "Why they are expected.", default=REQUIRED),
    Key("until", Text("a day such as '2027-01-31'", forms.day, pattern=forms.DAY),
        "The last day (UTC) on which the rule holds; then it is a finding itself.", default=REQUIRED),
)  # fmt: skip

DRIFT = Section(
    "a section such as {check: 60s, action: replace}",
    model.Drift,
    Key("check", INTERVAL, "How often the agent checks that what runs is what was baked, or `never`.",
        field="check_ms"),
    Key("action", Choice(("report", "replace")),
        "What the agent does with an instance that is not: `report` tells of it, `replace` replaces it too."),
    Key("ignore", ListOf(IGNORE, "a list of sections such as {kind: listener, reason: …, until: 2027-01-31}"),
        "Findings that are expected, each with a reason and a last day.", default=()),
    check=_check,
)  # fmt: skip
