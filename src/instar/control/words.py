"""What is to be done, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from instar.control import actions as do
from instar.model.occurrence import Missed
from instar.model.roles import UNNAMED_ROLE

_Words = Callable[..., str]


def sentence(action: do.Action) -> str:
    """Return what an action does: "make 2 instances of release 7"."""
    return _WORDS[type(action)](action)


def _plan(one: do.Plan) -> str:
    count = sum(one.members)
    why = f", since others {_WHY.get(one.replacing, f'are {one.replacing}')}" if one.replacing else ""
    return f"make {count} instance{'s' * (count != 1)} of {_release(one.release, one.role)}{why}"


def _create(one: do.Create) -> str:
    return f"make {_all(one.instances)}{', and start them' * one.start}"


def _route(one: do.Route) -> str:
    return f"give the traffic to {_all(one.instances)}" if one.instances else "take the traffic away"


def _shift(one: do.Shift) -> str:
    return f"make release {one.release} the active one{', with all the traffic' if one.instances else ''}"


def _share(one: do.Share) -> str:
    shares = ", ".join(f"{name} {weight}" for name, weight in one.weights)
    return f"put the shares of the traffic right: {shares}"


def _wait(one: do.Wait) -> str:
    return f"look again in {one.seconds:g} s"


def _times(missed: Missed) -> str:
    return "once" if missed.count == 1 else f"{missed.count} times{' or more' * missed.more}"


def _release(number: int, role: str) -> str:
    return f"release {number}" if role == UNNAMED_ROLE else f"role '{role}' of release {number}"


def _all(names: Iterable[str]) -> str:
    return ", ".join(names)


_WHY: Final = {"ended": "have ended", "unwell": "no longer answer", "old": "are too old", "hot": "are missing"}

_WORDS: Final[dict[type[do.Action], _Words]] = {
    do.Plan: _plan,
    do.BeginTask: lambda one: f"run task '{one.task}' of {_release(one.release, one.role)}",
    do.BeginScheduled: lambda one: f"begin '{one.occurrence.name}' of {_release(one.release, one.role)}",
    do.NoteMissed: lambda one: f"write down that '{one.missed.entry}' was missed, {_times(one.missed)}",
    do.RunTask: lambda one: f"make and start {one.instance}, which runs '{one.task}'",
    do.EndTask: lambda one: f"write down how task '{one.task}' of release {one.release} ended: {one.outcome}",
    do.KeepData: lambda one: f"take a snapshot of the volume '{one.volume}'",
    do.RestoreData: lambda one: f"have the volume '{one.volume}' hold what it did in snapshot {one.snapshot}",
    do.Create: _create,
    do.Start: lambda one: f"start {_all(one.instances)}",
    do.SetNetwork: lambda one: "let its instances reach what its settings say",
    do.OpenRouter: lambda one: f"have the router serve release {one.release}",
    do.Attach: lambda one: f"make {_all(one.instances)} known to the router, without traffic",
    do.Smoke: lambda one: f"ask {_all(one.instances)} the smoke checks",
    do.Preview: lambda one: f"show {_all(name for _, name in (*one.targets, *one.beside))} to requests for a preview",
    do.TakeStep: lambda one: f"give the new release {one.percent} % of the traffic (step {one.step})",
    do.Share: _share,
    do.Judge: lambda one: "judge the step by its figures",
    do.Alarm: lambda one: f"raise an alarm: {one.reason}",
    do.GoBack: lambda one: f"roll back to release {one.release}: {one.reason}",
    do.Shift: _shift,
    do.Route: _route,
    do.Cut: lambda one: f"end the requests that {_all(one.instances)} still has",
    do.Retire: lambda one: f"remove {_all(one.instances)}: {one.reason}",
    do.Finish: lambda one: f"end the rollout well{f', with a warning: {one.warning}' if one.warning else ''}",
    do.Fail: lambda one: f"give the rollout up: {one.reason}",
    do.CloseRouter: lambda one: "stop the router",
    do.TakeNames: lambda one: f"have requests by the names that it expects come to release {one.release}",
    do.Wait: _wait,
}
