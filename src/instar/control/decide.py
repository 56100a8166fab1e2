"""The one decision: (wanted, observed, now) → what to do next. Pure; adding a strategy is adding a file.

The order of the rules, first match wins:

0. Tasks whose rollout is over are ended.
1. An environment that is being destroyed loses its traffic, then its instances, then its router.
   Commands by the clock begin, and are ended, whatever else goes on.
2. What instances may reach is what the settings say before an instance is made, and in the end. Traffic moves, and a
   way back is taken, without waiting for it.
   Names that are expected of another environment come as soon as somebody answers here.
3. A running rollout goes on as its strategy says, until it has finished or failed.
   While it waits, what was to end before it and has had its time is ended.
4. Otherwise the active release is kept as wanted: dead groups replaced, traffic on healthy ones, every other
   release drained and then kept hot or retired, as ``keep`` says.

No action at all means: as wanted.
"""

from __future__ import annotations

import dataclasses
import math

from instar.control.actions import (
    Action,
    BeginTask,
    CloseRouter,
    Create,
    Plan,
    Retire,
    Route,
    SetNetwork,
    Start,
    TakeNames,
    Wait,
)
from instar.control.alike import beside, joined, roll_out_alike
from instar.control.data import swap_data
from instar.control.keep import keep
from instar.control.replace import replenish_source, retire_all
from instar.control.roles import by_role
from instar.control.schedule import begin_due, go_on, note_missed
from instar.control.snapshot import Snapshot, is_open_for, routed
from instar.control.strategies.blue_green import blue_green
from instar.control.strategies.canary import canary, has_steps
from instar.control.strategies.rolling import has_batches, rolling
from instar.control.target import is_way_back, troubled, under_way
from instar.control.tasks import leftover

_ENDS_S = 1.0  # for no longer is anything else waited for while groups end
_MAKING = (Plan, BeginTask, Create, Start)


def decide(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return the actions to take now, in order; () when the environment is as wanted."""
    wait_s = snapshot.traits.poll_s
    most_s = max(_ENDS_S, wait_s) if _ending(snapshot) else math.inf
    return tuple(
        dataclasses.replace(one, seconds=min(max(one.seconds, wait_s), most_s)) if isinstance(one, Wait) else one
        for one in _decide(snapshot)
    )


def _decide(snapshot: Snapshot) -> tuple[Action, ...]:
    ending = leftover(snapshot)
    if ending:
        return ending
    if snapshot.environment.destroying:
        return _tear_down(snapshot)
    by_clock = go_on(snapshot) or note_missed(snapshot) or begin_due(snapshot, snapshot.due)
    if by_clock:
        return by_clock
    names = _take_names(snapshot)
    if names:
        return names
    wanted = keep(snapshot) if snapshot.environment.rollout is None else _roll_out(snapshot)
    if all(isinstance(action, Wait) for action in wanted):
        wanted = _see_through(snapshot) or wanted
    if not snapshot.network_is_set and (not wanted or any(isinstance(action, _MAKING) for action in wanted)):
        return (SetNetwork(),)
    return wanted or _until_ended(snapshot)


def _see_through(snapshot: Snapshot) -> tuple[Action, ...]:
    """End what has had its time to, and take from the ledger what is gone: that was decided, whatever goes on now."""
    late = tuple(group.id for group in snapshot.groups if group.instance.ending is not None and group.state == "dead")
    return (Retire(late, "it ended"),) if late else ()


def _until_ended(snapshot: Snapshot) -> tuple[Action, ...]:
    """Wait for what is on its way to its end."""
    return (Wait(snapshot.traits.poll_s, ends=True, last=True),) if _ending(snapshot) else ()


def _ending(snapshot: Snapshot) -> bool:
    return any(group.state == "ending" for group in (*snapshot.groups, *snapshot.task_groups))


def _take_names(snapshot: Snapshot) -> tuple[Action, ...]:
    """Names that another environment has come here as soon as somebody here answers, and not before."""
    if not snapshot.environment.names.expected:
        return ()
    serving = {group.release for group in snapshot.groups if group.weight and group.up}
    release = next((one for one in (snapshot.active, snapshot.target) if one and one.number in serving), None)
    if release is None or not is_open_for(snapshot, release):
        return ()
    return (TakeNames(release.number),)


def _roll_out(snapshot: Snapshot) -> tuple[Action, ...]:
    """Go on as the strategy says; at once where there is nothing to be done bit by bit.

    What trouble there is with roles that have no traffic comes first, unless it would keep the traffic from a release
    that is known to be well.
    """
    rollout, target = under_way(snapshot)
    swapping = swap_data(snapshot)
    if swapping:
        return swapping
    first, *others = by_role(snapshot)
    alike, without = list[Snapshot](), list[Snapshot]()
    for one in others:
        (alike if routed(one.releases[target.number]) else without).append(one)
    if not is_way_back(rollout, target) or snapshot.environment.active == target.number:
        for one in without:
            actions = replenish_source(one) or troubled(one, rollout, one.releases[target.number])
            if actions:
                return joined([(one, actions)])
    going = snapshot.environment.active != target.number and beside((first,))  # roles of the source alone
    return roll_out_alike((first, *alike), _by_strategy) if alike or going else _by_strategy(first)


def _by_strategy(snapshot: Snapshot) -> tuple[Action, ...]:
    strategy, rollout = snapshot.environment.settings.rollout.strategy, snapshot.environment.rollout
    if rollout is not None and rollout.stage.data:  # what is beside it has other data
        return blue_green(snapshot)
    if strategy == "canary" and has_steps(snapshot):
        return canary(snapshot)
    if strategy == "rolling" and has_batches(snapshot):
        return rolling(snapshot)
    return blue_green(snapshot)


def _tear_down(snapshot: Snapshot) -> tuple[Action, ...]:
    if any(group.weight for group in snapshot.groups):
        return (Route(()),)
    if snapshot.groups:
        return retire_all(snapshot, "the environment is destroyed")
    if snapshot.router_running:
        return (CloseRouter(),)
    return (Wait(snapshot.traits.poll_s, ends=True),) if snapshot.task_groups else ()  # what is left of them is ending
