"""Carries out what is decided of the traffic: where requests come in, who gets which share of them, and who sees it.

Killed at any instruction, what was written down is done again by whoever goes on; whom requests go to is read from the
provider, never from here.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from instar.control.actions import Attach, Preview, Shift, TakeStep
from instar.control.report import RolloutReport
from instar.control.roles import held_alone, names_by_release, without_traffic
from instar.control.shift import whole
from instar.control.snapshot import Snapshot, in_flight, wanted_plan
from instar.errors import ProviderError, RouterError
from instar.ledger import Ledger
from instar.model.release import EnvironmentId, Release, Rollout
from instar.model.rollout_happenings import StepTaken
from instar.providers.base import Provider
from instar.providers.facets import require


class TrafficActions:
    """One per run of the loop."""

    def __init__(self, *, ledger: Ledger, provider: Provider, report: RolloutReport) -> None:
        self._ledger = ledger
        self._provider = provider
        self._report = report

    def preview(self, environment: EnvironmentId, action: Preview) -> None:
        """Send requests for a release that has no traffic yet to it. Raises Refused where the provider does not."""
        previews = require(self._provider.previews, f"preview '{environment}'")
        previews.preview(environment, dict(action.targets), names_by_release(action.beside))

    def open_router(self, snapshot: Snapshot, release: Release) -> None:
        """Have the router that a release wants, or the one that it is by now. Raises RouterError."""
        self._provider.expose(release, (), wanted_plan(snapshot, release))

    def take_names(self, snapshot: Snapshot, release: Release) -> None:
        """Have the names that another environment had until now come here. Raises RouterError."""
        taken = self._ledger.names.take_expected(snapshot.environment.id)
        plan = wanted_plan(dataclasses.replace(snapshot, environment=taken), release)
        self._provider.expose(release, (), plan)

    def attach(self, snapshot: Snapshot, action: Attach) -> None:
        """Make groups known to the router, without a share. Raises RouterError."""
        self._report.launched(snapshot, moves=False)
        release = snapshot.releases[action.release]
        instances = [group.instance for group in snapshot.named(action.instances)]
        of_first = all(one.role == release.role for one in instances)
        self._provider.expose(release.of_role(release.role) if of_first else release, instances)

    def take_step(self, rollout: Rollout, snapshot: Snapshot, action: TakeStep) -> None:
        """Give a canary its next share, with what each has answered before it."""
        environment = snapshot.environment.id
        served = {group.id: group.routed.served for group in snapshot.groups if group.routed is not None}
        counted = {name: one for name, one in served.items() if one is not None}
        self._report.launched(snapshot)
        taken = StepTaken(rollout=rollout.id, step=action.step, percent=action.percent, counted=counted)
        self._ledger.change_stage(taken)
        seconds = self._provider.route(environment, dict(action.weights))
        self._report.stepped(action.percent, seconds)

    def shift(self, snapshot: Snapshot, action: Shift) -> None:
        """Make a release the active one, and give it all traffic."""
        environment = snapshot.environment.id
        self._report.launched(snapshot)
        self._ledger.set_active(environment, action.release, instances=action.instances)
        if action.instances:
            self._give_traffic(snapshot, action.instances, dict(action.beside))

    def route(self, snapshot: Snapshot, names: tuple[str, ...]) -> None:
        """Give all traffic to these groups; to none where there are none."""
        if names:
            self._give_traffic(snapshot, names)
        else:
            self._report.closed()
            self._provider.route(snapshot.environment.id, {})

    def share(self, snapshot: Snapshot, weights: Mapping[str, int]) -> None:
        """Give groups these weights."""
        self._report.shifting(snapshot, [name for name, weight in weights.items() if weight])
        stopping = held_alone(snapshot) & without_traffic(snapshot, weights)
        if stopping:
            self._report.closed(sorted(stopping))
        self._provider.route(snapshot.environment.id, weights)

    def give_back(self, snapshot: Snapshot, rollout: Rollout) -> None:
        """Let the source have all traffic at once, if it is there; the rest is put right once no rollout runs."""
        mine = [one for one in snapshot.groups if one.release == rollout.source and one.state == "running" and one.up]
        weights = whole(mine)
        others = [group for group in snapshot.groups if group.weight and group.release == rollout.target]
        roles = {one.role for one in mine}
        source = snapshot.source.services if snapshot.source is not None else {}
        kept = {one.id: one.weight for one in others if len(source) > 1 and one.role in source.keys() - roles}
        if weights and others:
            with contextlib.suppress(ProviderError, RouterError):
                self._provider.route(snapshot.environment.id, {**weights, **kept})

    def _give_traffic(
        self, snapshot: Snapshot, names: tuple[str, ...], beside: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        environment = snapshot.environment.id
        self._report.shifting(snapshot, names)
        weights = {**beside, **whole(snapshot.named(names))}
        seconds = self._provider.route(environment, weights)
        self._report.shifted(seconds, self._left_with(snapshot, weights))

    def _left_with(self, snapshot: Snapshot, weights: Mapping[str, int]) -> int | None:
        """Return how many requests are still with those that have none of ``weights``; None where nobody knows."""
        if not snapshot.traits.sees_sessions:
            return None if any(one.routed and one.id not in weights for one in snapshot.groups) else 0
        exposed = self._provider.observe(snapshot.environment.id, ()).traffic.groups
        return in_flight(one for name, one in exposed.items() if name not in weights)
