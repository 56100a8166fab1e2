"""Which releases of an environment are kept.

Kept are those that run or are about to (active, a rollout's two, whatever has instances), those that are pinned, the
way back (the newest other one that ran well, and the one that a rollback would go to), and the newest
``keep.releases`` that ran well. Logs are kept of all these, and of as many newest releases whether they ran well or
not, so that one that failed can be looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from instar.frozen import dataclass
from instar.ledger import Ledger
from instar.model.release import EnvironmentState, Release


def kept(state: EnvironmentState, releases: Sequence[Release], present: Collection[int]) -> frozenset[int]:
    """Return the numbers of the releases whose images stay. ``releases`` are all, newest first; ``present`` are those
    with instances."""
    well = [release.number for release in releases if release.ran_well]
    other = [number for number in well if number != state.active][:1]
    back = way_back(state, releases)
    return required(state, releases, present) | {
        *other,
        *well[: state.settings.keep.releases],
        *((back.number,) if back is not None else ()),
    }


def required(state: EnvironmentState, releases: Sequence[Release], present: Collection[int]) -> frozenset[int]:
    """Return those that run, are about to, or are pinned: an image of theirs that is gone is damage."""
    rollout = {state.rollout.target, state.rollout.source} if state.rollout is not None else set()
    pinned = {release.number for release in releases if release.pinned}
    return frozenset(number for number in (*present, state.active, *rollout, *pinned) if number is not None)


def way_back(state: EnvironmentState, releases: Sequence[Release]) -> Release | None:
    """Return the release that a rollback from the active one goes to: of the older ones that ran well, the one that
    had the traffic last."""
    if state.active is None:
        return None
    older = (release for release in releases if release.number < state.active and release.ran_well)
    return max(older, key=lambda one: (one.last_active_at or one.created_at, one.number), default=None)


def with_logs(state: EnvironmentState, releases: Sequence[Release], present: Collection[int]) -> frozenset[int]:
    """Return the numbers of the releases whose logs stay."""
    newest = [release.number for release in releases][: state.settings.keep.releases]
    return kept(state, releases, present) | frozenset(newest)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentReleases:
    """An environment with all that decides what of it is kept."""

    state: EnvironmentState
    releases: tuple[Release, ...]
    present: frozenset[int]


def environments_with_releases(ledger: Ledger) -> Iterator[EnvironmentReleases]:
    for state in ledger.environments():
        present = frozenset(instance.release for instance in ledger.instances(state.id))
        yield EnvironmentReleases(state=state, releases=ledger.releases(state.id), present=present)


def kept_releases(ledger: Ledger) -> Iterator[Release]:
    """Yield every release whose image, and whose secrets, must stay."""
    for one in environments_with_releases(ledger):
        numbers = kept(one.state, one.releases, one.present)
        yield from (release for release in one.releases if release.number in numbers)
