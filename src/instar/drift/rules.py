"""Rules that say which findings are expected: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from instar.model.drift import Finding, find_rule, holds
from instar.model.environment import Ignore

Ignored = tuple[Finding, Ignore]


def sort_out(
    findings: Sequence[Finding], rules: Sequence[Ignore], today: date
) -> tuple[tuple[Finding, ...], tuple[Ignored, ...]]:
    """Return the findings that nobody expects, and those that a rule does. A rule whose last day is over expects
    nothing any more, and is a finding itself."""
    left, ignored = [], []
    for finding in findings:
        rule = find_rule(finding, rules, today)
        if rule is None:
            left.append(finding)
        else:
            ignored.append((finding, rule))
    left += [_expired(rule) for rule in rules if not holds(rule, today)]
    return tuple(left), tuple(ignored)


def _expired(rule: Ignore) -> Finding:
    path = f"{rule.kind} {rule.path}" if rule.path else rule.kind
    observed = f"it ended on {rule.until} ({rule.reason})"
    return Finding(
        instance=None, kind="rule", path=path, expected="a rule of drift.ignore that holds", observed=observed
    )
