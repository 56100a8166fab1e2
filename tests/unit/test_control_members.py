"""Which members of groups are taken out of them: one at a time, and never the last that answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_values import ENV, NOW, ago

from instar.control.members import MemberStep, next_steps
from instar.model.release import Ending, Instance, MemberTaint
from instar.providers.facets import Member

GROUP = Instance(id="shop-production-1-1", serial=1, environment=ENV, release=1, created_at=NOW, members=2)
LATER = timedelta(minutes=10)


def member(name: str, *, ready: bool = True, own: bool = True, serves: bool = True, wanted: int = 2) -> Member:
    return Member(
        name=name,
        group=GROUP.id,
        wanted=wanted,
        own=own,
        serves=serves,
        ready=ready,
        tainted=not own,
        began_at=ago(60),
        until=None if serves else NOW + LATER,
    )


def tainted(*names: str, due_in_s: float = -1) -> Instance:
    found = tuple(
        MemberTaint(
            member=name, kind="drift", why="x", actor="ann", at=ago(5), due_at=NOW + timedelta(seconds=due_in_s)
        )
        for name in names
    )
    return replace(GROUP, tainted_members=found)


def steps(group: Instance, *members: Member) -> list[tuple[str, str]]:
    return [(one.step, one.name) for one in next_steps([group], members, NOW, LATER)]


def test_where_all_others_answer_it_leaves_at_once() -> None:
    assert steps(tainted("a"), member("a"), member("b")) == [("set aside", "a")]


def test_the_only_one_that_answers_serves_until_another_does() -> None:
    assert steps(tainted("a"), member("a", wanted=1)) == [("replace", "a")]
    a = member("a", own=False, wanted=1)
    assert steps(tainted("a"), a, member("b", ready=False, wanted=1)) == [("wait", "a")]
    assert steps(tainted("a"), a, member("b", wanted=1)) == [("set aside", "a")]


def test_they_go_one_by_one() -> None:
    group = tainted("a", "b", "c")
    three = [member(name, wanted=3) for name in "abc"]
    assert steps(group, *three) == [("set aside", "a")]
    aside = member("a", own=False, serves=False, wanted=3)
    assert steps(group, aside, *three[1:]) == [("write aside", "a"), ("replace", "b")]
    b = member("b", own=False, wanted=3)
    assert steps(group, aside, b, three[2], member("d", ready=False, wanted=3)) == [
        ("write aside", "a"),
        ("wait", "b"),
    ], "c stays as long as b has not gone"


def test_one_that_is_not_due_yet_or_whose_group_ends_stays() -> None:
    assert steps(tainted("a", due_in_s=5), member("a"), member("b")) == []
    ending = replace(tainted("a"), ending=Ending(reason="instar", why="it is retired", at=NOW))
    assert steps(ending, member("a"), member("b")) == []


def test_what_was_set_aside_is_ended_when_its_time_is_over_and_not_before() -> None:
    aside = member("a", own=False, serves=False)
    assert next_steps([], [aside], NOW, LATER) == ()
    over = replace(aside, until=NOW)
    assert next_steps([], [over], NOW, LATER) == (MemberStep(step="end", group=GROUP.id, name="a", member=over),), (
        "also when its group is gone"
    )


def test_one_that_its_group_has_left_behind_is_set_aside() -> None:
    left = member("a", own=False)
    assert [one.step for one in next_steps([], [left], NOW, LATER)] == ["set aside"]
    assert next_steps([], [replace(left, tainted=False)], NOW, LATER) == (), "a stranger's is not"


def test_one_that_is_gone_counts_for_as_long_as_failures_do() -> None:
    assert steps(tainted("a"), member("b")) == []
    assert [one.step for one in next_steps([tainted("a")], [], NOW + LATER, LATER)] == ["write removed"]
