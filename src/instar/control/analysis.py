"""Is a candidate as good as the stable release? Figures of both over the same time, and a verdict: pure.

A share of failed requests is compared as it is; a mean response time by a factor, and only where it can be felt. A
verdict that it is *not* well comes as soon as the difference is gross; that it is well, only when the step is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from instar.control.snapshot import GroupView
from instar.frozen import dataclass
from instar.model.environment import Analysis
from instar.model.release import Served

GROSS = 5  # so many times what is allowed is enough before the step is over


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """``passed`` None: too few requests to tell. ``cause`` says for people why it did not pass, or how few came."""

    passed: bool | None
    candidate: Served
    stable: Served
    cause: str = ""

    def numbers(self) -> Mapping[str, Any]:
        """Return the figures as the ledger keeps them."""
        return {
            name: {"requests": one.requests, "failed": one.failed, "mean_ms": round(mean_ms(one), 2)}
            for name, one in (("candidate", self.candidate), ("stable", self.stable))
        }

    def __str__(self) -> str:
        """Return "failed 0.00 % (before: 0.00 %) · 4.1 ms (before: 3.9 ms)". A new role has no release before."""
        if not self.stable.requests:
            return f"failed {_percent(self.candidate)} · {mean_ms(self.candidate):.1f} ms · nothing to compare with"
        failed = f"failed {_percent(self.candidate)} (before: {_percent(self.stable)})"
        return f"{failed} · {mean_ms(self.candidate):.1f} ms (before: {mean_ms(self.stable):.1f} ms)"


def answered(groups: Iterable[GroupView], counted: Mapping[str, Served]) -> Served:
    """Return what ``groups`` answered together since it was ``counted``."""
    total = Served()
    for group in groups:
        if group.routed is not None and group.routed.served is not None:
            total += group.routed.served.since(counted.get(group.id, Served()))
    return total


def judge(policy: Analysis, candidate: Served, stable: Served, *, over: bool, timed: bool) -> Verdict:
    """Compare. ``over``: the step has lasted as long as it shall; ``timed``: response times are known (not in TCP)."""
    if candidate.requests < policy.min_requests:
        return Verdict(passed=None, candidate=candidate, stable=stable)
    strictness = 1 if over else GROSS
    cause = _failing(policy, candidate, stable, strictness)
    if not cause and timed:
        cause = _slow(policy, candidate, stable, strictness)
    passed = False if cause else True if over else None
    return Verdict(passed=passed, candidate=candidate, stable=stable, cause=cause)


def judge_few(policy: Analysis, candidate: Served, stable: Served, *, timed: bool) -> Verdict:
    """Compare though fewer requests came than the policy wants, since it says that this is fine; none pass."""
    judged = judge(dataclasses.replace(policy, min_requests=0), candidate, stable, over=True, timed=timed)
    came = f"only {candidate.requests} of {policy.min_requests} requests came"
    return dataclasses.replace(judged, cause="; ".join(filter(None, (judged.cause, came))))


def mean_ms(served: Served) -> float:
    return served.response_ms / served.requests if served.requests else 0.0


def _failing(policy: Analysis, candidate: Served, stable: Served, strictness: int) -> str:
    excess_milli = 1000 * (_share(candidate) - _share(stable))
    if excess_milli <= policy.max_failed_milli * strictness:
        return ""
    most = f"at most {policy.max_failed_milli / 10:g} % more"
    before = f"the release before: {_percent(stable)}" if stable.requests else "nothing to compare with"
    return f"{_percent(candidate)} of {candidate.requests} requests failed, {before} ({most})"


def _slow(policy: Analysis, candidate: Served, stable: Served, strictness: int) -> str:
    mean, other = mean_ms(candidate), mean_ms(stable)
    if not stable.requests or mean <= policy.slower_than_ms * strictness:
        return ""
    if mean * 1000 <= other * policy.max_slower_milli * strictness:
        return ""
    most = f"at most {policy.max_slower_milli / 1000:g} times"
    return f"it answers in {mean:.1f} ms, the release before in {other:.1f} ms ({most})"


def _share(served: Served) -> float:
    return served.failed / served.requests if served.requests else 0.0


def _percent(served: Served) -> str:
    return f"{100 * _share(served):.2f} %"
