"""Which releases of an environment are kept: pure.

Kept are those that run or are about to (active, a rollout's two, whatever has instances), those that are pinned, the
way back (the newest other one that ran well), and the newest ``keep.releases`` that ran well. Logs are kept of all
these, and of as many newest releases whether they ran well or not, so that one that failed can be looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.model.release import EnvironmentState, Release


def kept(state: EnvironmentState, releases: Sequence[Release], present: Collection[int]) -> frozenset[int]:
    """Return the numbers of the releases whose images stay. ``releases`` are all, newest first; ``present`` are those
    with instances."""
    rollout = {state.rollout.target, state.rollout.source} if state.rollout is not None else set()
    needed = {number for number in (*present, state.active, *rollout) if number is not None}
    well = [release.number for release in releases if release.ran_well]
    back = [number for number in well if number != state.active][:1]
    pinned = {release.number for release in releases if release.pinned}
    return frozenset(needed | pinned | {*back, *well[: state.settings.keep.releases]})


def with_logs(state: EnvironmentState, releases: Sequence[Release], present: Collection[int]) -> frozenset[int]:
    """Return the numbers of the releases whose logs stay."""
    newest = [release.number for release in releases][: state.settings.keep.releases]
    return kept(state, releases, present) | frozenset(newest)
