"""Other environments are found by name, each role of them, whatever release has their traffic; or a provider says of
itself that it does not do that, and it is refused before anything is made.
"""

from __future__ import annotations

import dataclasses

import pytest
from provider_benches import REAL_BENCHES, SERVE, patiently
from provider_stage import ENV, Stage

from asking_by_name import asking
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service
from instar.model.environment import Settings
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.uses import Used
from instar.providers.package import address_inside_of
from instar.providers.router_plan import router_plan
from instar.providers.unfit import lacking

pytestmark = pytest.mark.parametrize("stage", REAL_BENCHES, indirect=True)

ASKER = EnvironmentId(service="asker", name="dev")
PORTS = {"web": 8080, "api": 8081}


def test_the_first_role_and_another_are_found_by_name_by_instances_that_stay_as_they_are(stage: Stage) -> None:
    bench, traits = stage.bench, stage.provider.traits
    uses = (str(ENV), f"{ENV}:api")
    told = [one.told for one in lacking(traits, ASKER, bench.settings, uses)]
    assert len(told) == (0 if traits.finds_roles else 1 if traits.finds_names else 2)
    if not traits.finds_roles:
        assert all(f"provider '{bench.settings.provider}'" in one and "in 'config'" in one for one in told)
        return
    settings = bench.with_uses
    assert settings is not None, "who finds roles has doors for them"
    bench.know(ENV, settings)
    answered(stage, settings, 1)
    asker, release = ask(stage, settings)
    try:
        for number in (1, 3):
            if number != 1:
                answered(stage, settings, number)
            for role in PORTS:
                stage.bench.until(lambda said=f"{role} {number}": said in printed(stage, asker))  # type: ignore[misc]
        assert patiently(lambda: stage.provider.observe(ASKER, [asker])).groups[0].state == "running"
    finally:
        stage.bench.until(lambda: patiently(lambda: stage.provider.destroy(asker, release)))


def answered(stage: Stage, settings: Settings, number: int) -> None:
    """Have a release of two roles that has all requests."""
    web, api = (
        dataclasses.replace(stage.bench.service, command=("sh", "-c", serving(role, number)), port=port)
        for role, port in PORTS.items()
    )
    roles = Configuration(service=web, role="web", roles={"api": api})
    release = dataclasses.replace(stage.release_of(web, number), configuration=roles)
    plan = router_plan(ENV, settings, release)
    patiently(lambda: stage.provider.expose(release, [], plan))
    groups = []
    for role in PORTS:
        stage.release = release
        groups.append(stage.make(stage.group(1, role=role), release.of_role(role)))
        patiently(lambda: stage.provider.start(groups[-1]))
        stage.release = release.of_role(role)
        stage.bench.until(lambda: stage.is_well(groups[-1]))
    patiently(lambda: stage.provider.expose(release.of_role("web"), groups[:1]))
    patiently(lambda: stage.provider.expose(release, groups[1:]))
    stage.bench.until(lambda: stage.traffic().plan == plan.fingerprint)
    stage.route({one.id: 100 for one in groups})


def serving(role: str, number: int) -> str:
    serve = SERVE.replace("echo well", f"echo {role} {number}").replace("8080", str(PORTS[role]))
    return f"{serve.replace('exec httpd', 'httpd')} & trap 'kill $!; exit' TERM; wait"


def ask(stage: Stage, settings: Settings) -> tuple[Instance, Release]:
    """Have an instance of another environment that asks both roles all the while."""
    bench = stage.bench
    own = dataclasses.replace(settings, doors={}, names=type(settings.names)(), listen=())
    at = {role: address_inside_of(bench.package, own, ENV, settings, role) for role in (None, "api")}
    used = (
        Used(environment=str(ENV), port=PORTS["web"], at=at[None]),
        Used(environment=str(ENV), port=PORTS["api"], at=at["api"], role="api"),
    )
    service = Service(command=asking("PORT", "PORT_API"), health=Health(kind="none"), stop=bench.service.stop)
    configuration = Configuration(service=service, uses=used)
    release = dataclasses.replace(stage.release_of(service, 1), environment=ASKER, configuration=configuration)
    group = stage.group(1)
    asker = dataclasses.replace(
        group, id=f"{ASKER.service}-{ASKER.name}-1-{group.serial}", environment=ASKER, release=1
    )
    bench.know(ASKER, own, release)
    patiently(lambda: stage.provider.create(asker, release, bench.image))
    patiently(lambda: stage.provider.start(asker))
    return asker, release


def printed(stage: Stage, one: Instance) -> str:
    return "\n".join(patiently(lambda: list(stage.provider.log_lines(one.id))))
