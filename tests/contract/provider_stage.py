"""A provider with a release of a service on it, for what its contract says."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime

from provider_benches import ProviderBench, patiently

from instar.model.configuration import Configuration
from instar.model.definition import Service
from instar.model.release import Command, EnvironmentId, Instance, Release
from instar.model.roles import UNNAMED_ROLE
from instar.providers.base import Observed, Traffic
from instar.providers.router_plan import RouterPlan

ENV = EnvironmentId(service="port", name="dev")
_serials = itertools.count(1)


class Stage:
    """A provider, a release, and its groups."""

    def __init__(self, bench: ProviderBench) -> None:
        self.bench = bench
        self.provider = bench.provider
        self.made: list[Instance] = []
        self.release = self.release_of(bench.service, 1)
        self.plan = RouterPlan.of(ENV, bench.settings, bench.service)

    def release_of(self, service: Service, number: int) -> Release:
        return Release(
            environment=ENV,
            number=number,
            image=self.bench.image.digest,
            configuration=Configuration(service=service),
            created_at=datetime.now(UTC),
        )

    def group(
        self, members: int, *, role: str = UNNAMED_ROLE, task: str | None = None, command: Command | None = None
    ) -> Instance:
        serial = next(_serials)
        return Instance(
            id=f"port-dev-{self.release.number}-{serial}",
            serial=serial,
            environment=ENV,
            release=self.release.number,
            created_at=datetime.now(UTC),
            members=members,
            role=role,
            task=task,
            command=command,
        )

    def create(self, members: int) -> Instance:
        return self.make(self.group(members), self.release)

    def make(self, one: Instance, release: Release) -> Instance:
        self.made.append(one)
        patiently(lambda: self.provider.create(one, release, self.bench.image))
        return one

    def run(self, *, least: int = 1) -> list[Instance]:
        """Have all groups of the layout running and well; ``least`` so many: a release of one group has two while that
        is replaced."""
        layout = self.provider.layout(self.bench.settings, self.bench.service)
        groups = [self.create(members) for members in (layout * least)[: max(least, len(layout))]]
        for one in groups:
            patiently(lambda one=one: self.provider.start(one))  # type: ignore[misc]
        self.bench.until(lambda: all(self.is_well(one) for one in groups))
        return groups

    def seen(self, one: Instance) -> Observed:
        return patiently(lambda: self.provider.observe(ENV, [one])).groups[0]

    def is_well(self, one: Instance) -> bool:
        seen = self.seen(one)
        if seen.ready is not None:
            return seen.state == "running" and seen.ready == one.members
        return seen.state == "running" and self.provider.ask(one, self.release).healthy

    def traffic(self) -> Traffic:
        return patiently(lambda: self.provider.observe(ENV, ())).traffic

    def expose(self, groups: list[Instance], plan: RouterPlan | None = None) -> None:
        patiently(lambda: self.provider.expose(self.release, groups, plan))

    def route(self, weights: Mapping[str, int]) -> None:
        patiently(lambda: self.provider.route(ENV, weights))
        self.bench.until(lambda: self.weights() == weights)

    def weights(self) -> dict[str, int]:
        return {name: one.weight for name, one in self.traffic().groups.items() if one.weight}

    def destroy(self, one: Instance) -> None:
        self.bench.until(lambda: patiently(lambda: self.provider.destroy(one, self.release)))

    def clear(self) -> None:
        patiently(lambda: self.provider.close(ENV))
        for one in self.made:  # each takes its time: they end at once
            patiently(lambda one=one: self.provider.destroy(one, self.release))  # type: ignore[misc]
        for one in self.made:
            self.destroy(one)
        self.provider.forget(ENV, [one.id for one in self.made], volumes=True)
