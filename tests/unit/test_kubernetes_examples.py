"""Each definition that works on one machine is taken to a cluster as it is, or refused before anything is made."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from kubernetes_values import ENV, SECTION, World

from cluster_stub import ClusterStub
from instar.definition.load import load
from instar.errors import Refused
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.providers.router_plan import RouterPlan
from instar.providers.unfit import refuse_lacking

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/instar.yaml"))
NAMES = {True: "shop.example", False: "shop-prod.shop.svc"}


@pytest.mark.parametrize("gateway", [True, False], ids=["gateway", "service"])
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda one: one.parent.name)
def test_an_example_fits_or_is_refused_before_anything_is_made(file: Path, gateway: bool, tmp_path: Path) -> None:
    definition = load(file).definition
    services = definition.roles or {"": definition.service}
    section = {name: one for name, one in SECTION.items() if gateway or name != "gateway"}
    stub, serial = ClusterStub(), itertools.count(1)
    try:
        for environment in definition.environments.values():
            settings: Settings = dataclasses.replace(environment, provider="kubernetes", provider_settings=section)
            if settings.listen:  # an address is one machine's, which is said
                assert "name it in 'listen'" in refused(stub, tmp_path, settings, services)
                settings = dataclasses.replace(settings, listen=(), names=HostNames(http=(NAMES[gateway],)))
            if refused(stub, tmp_path, settings, services):
                continue
            world = World(stub, tmp_path, settings)
            for role, service in services.items():
                release = world.release(next(serial), service)
                group = world.create(release, serial=release.number)
                if service.port is not None and role == next(iter(services)):
                    world.provider.expose(release, [group], RouterPlan.of(ENV, settings, service))
    finally:
        stub.close()


def refused(stub: ClusterStub, home: Path, settings: Settings, services: object) -> str:
    """Return why a deploy would be refused, "" where it would not; nothing is made by that."""
    assert isinstance(services, dict)
    world, before = World(stub, home, settings), dict(stub.objects)
    world.settings.clear()
    first, *others = services.items()
    try:
        refuse_lacking(world.provider, ENV, settings)
        world.provider.preflight(ENV, settings, first[1], launching=True, others=dict(others))
    except Refused as error:
        return error.message
    finally:
        assert stub.objects == before
    return ""
