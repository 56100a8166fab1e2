"""When names that another environment has come: as soon as somebody answers here, and not before."""

from __future__ import annotations

import dataclasses

from control_values import group, release, snapshot

from instar.control.actions import OpenRouter, Shift, TakeNames
from instar.control.decide import decide
from instar.control.snapshot import Snapshot, wanted_plan
from instar.model.release import OwnNames


def expecting(before: Snapshot, *, is_open: bool = True) -> Snapshot:
    """Return the same of an environment that expects a name; ``is_open``: the edge knows that it does."""
    state = dataclasses.replace(before.environment, names=OwnNames(expected=("a.test",)))
    told = dataclasses.replace(before, environment=state)
    release_of = told.target or told.active
    assert release_of is not None
    plan = wanted_plan(told, release_of).fingerprint
    return dataclasses.replace(told, router_plan=plan if is_open else before.router_plan)


def test_names_come_once_the_first_release_answers() -> None:
    ready = group(1, healthy=True, weight=0)
    assert decide(expecting(snapshot([release(1)], [ready], target=1))) == (Shift(1, (ready.id,)),)
    served = snapshot([release(1)], [group(1, weight=100)], active=1, target=1)
    assert decide(expecting(served)) == (TakeNames(1),)


def test_names_come_to_what_runs_already() -> None:
    served = snapshot([release(1, ran_well=True)], [group(1, weight=100)], active=1)
    assert decide(served) == ()
    assert decide(expecting(served, is_open=False)) == (OpenRouter(1),)
    assert decide(expecting(served)) == (TakeNames(1),)


def test_names_do_not_come_to_what_does_not_answer() -> None:
    silent = snapshot([release(1, ran_well=True)], [group(1, weight=100, up=False)], active=1)
    assert TakeNames(1) not in decide(expecting(silent))
