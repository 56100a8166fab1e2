"""Which members of groups are taken out of them, by an engine that makes others in their place. Pure.

One member of a group at a time, and never so that fewer than all but one of its members answer: where another answers
enough, a tainted one leaves the traffic at once; else the engine makes another first. What was set aside is kept until
its time is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from instar.frozen import dataclass
from instar.model.release import Instance, MemberTaint
from instar.providers.facets import Member

Step = Literal["replace", "set aside", "end", "write aside", "write removed", "wait"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStep:
    """What comes next of one member. ``member`` is None of one that is gone; "wait": for its engine."""

    step: Step
    group: str
    name: str
    member: Member | None = None


def next_steps(
    groups: Sequence[Instance], members: Sequence[Member], now: datetime, remembered: timedelta
) -> tuple[MemberStep, ...]:
    """Return what is to be done now. A member that is gone is remembered for so long, since it counts as a failure."""
    there = {one.name: one for one in members}
    steps = [one for group in groups for one in _of_group(group, there, now, remembered)]
    known = {group.id for group in groups}
    left = [one for one in members if one.tainted and one.serves and one.group not in known]
    steps += [MemberStep(step="set aside", group=one.group, name=one.name, member=one) for one in left]
    tainted = {taint.member for group in groups for taint in group.tainted_members}
    ours = [one for one in members if _is_aside(one) and (one.tainted or one.name in tainted)]
    over = [one for one in ours if one.until is not None and one.until <= now]
    return (*steps, *(MemberStep(step="end", group=one.group, name=one.name, member=one) for one in over))


def _of_group(
    group: Instance, there: Mapping[str, Member], now: datetime, remembered: timedelta
) -> Iterator[MemberStep]:
    pending: list[MemberTaint] = []
    for taint in group.tainted_members:
        member = there.get(taint.member)
        if member is None:
            if taint.at + remembered <= now:
                yield MemberStep(step="write removed", group=group.id, name=taint.member)
        elif taint.aside_at is None and _is_aside(member):
            yield MemberStep(step="write aside", group=group.id, name=taint.member, member=member)
        elif taint.aside_at is None and taint.due_at <= now:
            pending.append(taint)
    if pending and group.ending is None:
        yield _next(group, [there[taint.member] for taint in pending], there.values())


def _next(group: Instance, pending: Sequence[Member], members: Iterable[Member]) -> MemberStep:
    """Go on with the one that another was made for already, if there is any: else with the first."""
    member = next((one for one in pending if not one.own), pending[0])
    answering = [one for one in members if one.group == group.id and one.own and one.ready and one.name != member.name]
    enough = len(answering) >= max(1, member.wanted - 1)
    step: Step = "set aside" if enough else "replace" if member.own else "wait"
    return MemberStep(step=step, group=group.id, name=member.name, member=member)


def _is_aside(member: Member) -> bool:
    return not member.own and not member.serves
