"""What gc may never take: whatever runs, is about to, is pinned, or is the way back."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from instar.model.environment import Keep, Settings
from instar.model.release import EnvironmentState, Release, Rollout
from instar.operations.retention import kept, required, with_logs
from simulated.values import ENV, configuration, image

AT = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> tuple[EnvironmentState, list[Release], set[int]]:
    count = draw(st.integers(0, 12))
    flags = [draw(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9))) for _ in range(count)]
    releases = [
        Release(
            environment=ENV,
            number=number,
            image=image(str(number)).digest,
            configuration=configuration(),
            created_at=AT,
            ran_well=well,
            pinned=pinned,
            last_active_at=AT + timedelta(hours=served) if well else None,
        )
        for number, (well, pinned, served) in enumerate(flags, 1)
    ][::-1]
    some = st.sampled_from([None, *range(1, count + 1)])
    target, source = draw(some), draw(some)
    rollout = None
    if target is not None:
        rollout = Rollout(
            id=1,
            environment=ENV,
            kind="deploy",
            source=source,
            target=target,
            state="running",
            actor="a",
            started_at=AT,
        )
    settings = Settings(keep=Keep(hot=0, releases=draw(st.integers(1, 5))))
    state = EnvironmentState(id=ENV, settings=settings, active=draw(some), created_at=AT, rollout=rollout)
    present = draw(st.sets(st.sampled_from(range(1, count + 1)))) if count else set()
    return state, releases, present


@given(histories())
def test_nothing_that_is_needed_goes(history: tuple[EnvironmentState, list[Release], set[int]]) -> None:
    state, releases, present = history
    numbers = kept(state, releases, present)
    assert present <= numbers
    assert state.active is None or state.active in numbers
    if state.rollout is not None:
        assert {state.rollout.target, state.rollout.source} - {None} <= numbers
    assert {one.number for one in releases if one.pinned} <= numbers
    well = [one.number for one in releases if one.ran_well]
    ways_back = [number for number in well if number != state.active]
    assert not ways_back or ways_back[0] in numbers, "the last release that ran well is the way back"
    assert set(well[: state.settings.keep.releases]) <= numbers
    older = [one for one in releases if one.ran_well and one.number < (state.active or 0)]
    last = max((one.last_active_at for one in older if one.last_active_at), default=None)
    going_back = [one.number for one in older if one.last_active_at == last]
    assert not older or going_back[0] in numbers, "a rollback goes to the older one that served last"
    assert numbers <= with_logs(state, releases, present)
    newest = [one.number for one in releases][: state.settings.keep.releases]
    assert set(newest) <= with_logs(state, releases, present), "also one that failed can be looked at"


@given(histories())
def test_what_nobody_needs_goes(history: tuple[EnvironmentState, list[Release], set[int]]) -> None:
    state, releases, _ = history
    plain = [dataclasses.replace(one, pinned=False) for one in releases]
    alone = dataclasses.replace(state, rollout=None)
    assert len(kept(alone, plain, set())) <= state.settings.keep.releases + 3, (
        "the active one and the ways back besides"
    )


@given(histories(), st.integers(1, 5))
def test_keeping_less_never_takes_what_is_required_and_keeping_more_takes_nothing_more(
    history: tuple[EnvironmentState, list[Release], set[int]], more: int
) -> None:
    state, releases, present = history
    wider = Settings(keep=Keep(hot=0, releases=state.settings.keep.releases + more))
    numbers = kept(state, releases, present)
    assert required(state, releases, present) <= numbers
    assert numbers <= kept(dataclasses.replace(state, settings=wider), releases, present)
