"""Several roles that requests go to, each by its door: one rollout moves all of them. Pure.

Each decides as if it were alone, and what would move its traffic on waits until all of them would: a step of a canary,
the last shift. Weights are of instances, and said for all roles at once: what one role does not speak of stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from instar.control.actions import Action, Fail, Finish, Judge, Route, Share, Shift, Smoke, TakeStep, Wait
from instar.control.roles import role_of, together
from instar.control.shift import whole
from instar.control.snapshot import Snapshot
from instar.control.target import moved, under_way

Part = tuple[Snapshot, tuple[Action, ...]]  # one role, and what it needs
_MOVES = (Shift, TakeStep)


def roll_out_alike(parts: Sequence[Snapshot], strategy: Callable[[Snapshot], tuple[Action, ...]]) -> tuple[Action, ...]:
    """Return the next actions of the running rollout, in which ``parts`` are the roles with traffic of its target.
    Those that it has not keep their traffic until the last shift."""
    rollout, _ = under_way(parts[0])
    behind = [one for one in parts if not moved(one, rollout, one.releases[rollout.target])]
    if not behind:
        return strategy(parts[0])
    each = [(one, strategy(one)) for one in behind]
    failed = next((action for _, actions in each for action in actions if isinstance(action, Fail)), None)
    if failed is not None:
        return (failed,)
    if all(actions and isinstance(actions[0], _MOVES) for _, actions in each):
        return (_moving(parts, each),)
    rest = [(one, actions) for one, actions in each if not (actions and isinstance(actions[0], _MOVES))]
    judged = _judged(rest)
    if judged:
        return judged
    kept = tuple(
        (one, tuple(action for action in actions if not isinstance(action, Finish | Judge))) for one, actions in rest
    )
    return joined(kept) or (Wait(parts[0].traits.poll_s),)


def joined(parts: Sequence[Part]) -> tuple[Action, ...]:
    """Return what is to be done for several roles at once: all weights in one, and smoke checks one after the other."""
    speaking = [(one, action) for one, actions in parts for action in actions if isinstance(action, Route | Share)]
    merged = _merged(speaking)
    found, smoked = list[Action](), False
    for action in together(actions for _, actions in parts):
        if isinstance(action, Route | Share):
            found += [merged] if merged is not None and merged not in found else []
        elif not isinstance(action, Smoke) or not smoked:
            found.append(action)
            smoked = smoked or isinstance(action, Smoke)
    return tuple(found)


def beside(parts: Sequence[Snapshot]) -> Mapping[str, int]:
    """Return the weights that groups of other roles than ``parts`` have."""
    mine = {group.id for one in parts for group in one.groups}
    everything = parts[0].whole or parts[0]
    return {group.id: group.weight for group in everything.groups if group.weight and group.id not in mine}


def _merged(speaking: Sequence[tuple[Snapshot, Route | Share]]) -> Route | Share | None:
    if not speaking:
        return None
    others = beside([one for one, _ in speaking])
    if len(speaking) == 1 and not others:
        return speaking[0][1]
    weights = dict(others)
    for one, action in speaking:
        weights |= _weights(one, action)
    return Share(tuple(weights.items())) if weights else Route(())


def _weights(part: Snapshot, action: Route | Share) -> Mapping[str, int]:
    if isinstance(action, Share):
        return dict(action.weights)
    return whole(group for group in part.groups if group.id in action.instances)


def _moving(parts: Sequence[Snapshot], each: Sequence[Part]) -> Action:
    """Return the one move of all roles; who is further than others waits for them with the traffic that it has."""
    moves = [(one, actions[0]) for one, actions in each]
    steps = [(one, action) for one, action in moves if isinstance(action, TakeStep)]
    if steps:
        weights = dict(beside([one for one, _ in steps]))
        for _, step in steps:
            weights |= dict(step.weights)
        return TakeStep(steps[0][1].step, min(step.percent for _, step in steps), tuple(weights.items()))
    shifts = [action for _, action in moves if isinstance(action, Shift)]
    names = tuple(name for action in shifts for name in action.instances)
    moving = {id(part) for part, _ in each}
    ahead = [one for one in parts if id(one) not in moving]
    staying = {group.id: group.weight for one in ahead for group in one.groups if group.weight}
    return Shift(shifts[0].release, names, tuple(staying.items()))


def _judged(parts: Sequence[Part]) -> tuple[Action, ...]:
    """Return the verdict of a step: of all roles that have something to say, or of the first that is not well."""
    verdicts = [
        (role_of(one), action.verdict) for one, actions in parts for action in actions if isinstance(action, Judge)
    ]
    failed = next(((role, verdict) for role, verdict in verdicts if not verdict.passed), None)
    if failed is None and (not verdicts or len(verdicts) < len(parts)):
        return ()
    role, verdict = failed or verdicts[0]
    others = tuple((other, its) for other, its in verdicts if other is not None and other != role)
    if failed is not None and role is not None:
        verdict = dataclasses.replace(verdict, cause=f"role '{role}': {verdict.cause}")
    return (Judge(verdict, role, others),)
