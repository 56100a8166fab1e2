"""Roles: what a definition says of several processes of one image, and what it may not."""

from __future__ import annotations

import pytest
from definition_problems import problems_of

from instar.definition import parse
from instar.definition.kept import require_kept
from instar.model.codec import from_json, to_json
from instar.model.configuration import Configuration
from instar.model.definition import Definition
from instar.model.environment import RoleSettings, Settings

TOP = "name: shop\nimage: {base: debian:bookworm}\n"
ROLES = """\
roles:
  worker: {command: [./work], instances: 3, limits: {memory: 32M}}
  web: {command: [./shop], port: 8080, instances: 2}
"""
DEV = "environments: {dev: {listen: '127.0.0.1:80'}}\n"


def definition_of(text: str) -> Definition:
    return parse(TOP + text, "f").definition


def of(definition: Definition) -> Configuration:
    return Configuration.of(definition, "dev", config={}, secrets={}, provider_settings={})


def problems_in(roles: str) -> list[str]:
    return problems_of(TOP + roles)


def test_requests_go_to_the_first_role_and_the_others_stand_beside_it() -> None:
    definition = definition_of(ROLES + DEV)
    configuration = of(definition)
    assert (configuration.role, configuration.service.command) == ("web", ("./shop",))
    assert list(configuration.services) == ["web", "worker"]
    assert configuration.roles["worker"].limits.memory_bytes == 32 << 20
    assert definition.services["worker"] == configuration.roles["worker"]
    require_kept(configuration)
    assert from_json(Configuration, to_json(configuration)) == configuration


def test_without_a_port_the_first_is_the_one_that_is_written_first() -> None:
    text = "roles: {mail: {command: [m]}, jobs: {command: [j]}}\nenvironments: {dev: {}}\n"
    assert of(definition_of(text)).role == "mail"


def test_one_service_is_written_as_before() -> None:
    definition = definition_of(f"service: {{command: [./shop], port: 8080}}\n{DEV}")
    configuration, settings = of(definition), Settings.of(definition.environments["dev"])
    assert set(to_json(configuration)) == {"service", "config", "secrets"}
    assert "roles" not in to_json(settings)
    assert configuration.role is None
    assert settings.of_role("") is settings


def test_an_environment_says_what_is_other_there() -> None:
    environments = "environments: {dev: {listen: '127.0.0.1:80', roles: {worker: {instances: 1, with: before}}}}\n"
    settings = Settings.of(definition_of(ROLES + environments).environments["dev"])
    assert settings.roles == {"worker": RoleSettings(instances=1, when="before"), "web": RoleSettings(instances=2)}
    assert (settings.of_role("worker").instances, settings.of_role("web").instances) == (1, 2)
    assert (settings.when("worker"), settings.when("unknown")) == ("before", "traffic")
    require_kept(settings)
    assert from_json(Settings, to_json(settings)) == settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"service: {{command: [x]}}\n{ROLES}{DEV}", "roles: a service has 'service' or 'roles'"),
        (f"roles: {{}}\n{DEV}", "roles: expected one role or more"),
        (f"roles: {{web: {{port: 80}}}}\n{DEV}", "roles.web: 'command' is missing; expected a list of words"),
        (
            f"{ROLES}  api: {{command: [x], port: 81}}\n{DEV}",
            "environments.dev.listen: 'api' is missing: it has a port; say where that is reached",
        ),
        (f"{ROLES}  job: {{comand: [x]}}\n{DEV}", "roles.job: unknown key 'comand'; did you mean 'command'?"),
        (
            f"{ROLES}  job: {{command: [x], smoke: [{{command: [y]}}]}}\n{DEV}",
            "roles.job.smoke: the role has no port, so there is no candidate that could be asked",
        ),
        (f"{ROLES.replace('instances: 2', 'with: before')}{DEV}", "roles.web.with: the role has a port"),
        (
            f"{ROLES}  job: {{command: [x], instances: 2, volumes: [{{name: q, path: /q}}]}}\n{DEV}",
            "roles.job.instances: expected 1, found 2; volume 'q' is exclusive",
        ),
        (
            f"{ROLES}  one: {{command: [x], volumes: [{{name: q, path: /q}}]}}\n"
            f"  two: {{command: [x], volumes: [{{name: q, path: /q, access: shared}}]}}\n{DEV}",
            "roles.two.volumes.name: role 'one' has volume 'q' too, and it is exclusive",
        ),
        (
            f"{ROLES}  one: {{command: [x], data: {{version: 1}}}}\n"
            f"  two: {{command: [x], data: {{version: 1}}}}\n{DEV}",
            "roles.two.data: it is about the whole release, and role 'one' says it already",
        ),
        (f"{ROLES}environments: {{dev: {{}}}}\n", "environments.dev: 'listen' is missing"),
        (
            f"{ROLES}environments: {{dev: {{listen: '127.0.0.1:80', instances: 2}}}}\n",
            "environments.dev.instances: there are several roles; say of which role",
        ),
        (
            f"{ROLES}environments: {{dev: {{listen: '127.0.0.1:80', roles: {{wrker: {{instances: 2}}}}}}}}\n",
            "environments.dev.roles: there is no role 'wrker'; did you mean 'worker'?",
        ),
        (
            f"{ROLES}environments: {{dev: {{listen: '127.0.0.1:80', roles: {{web: {{with: before}}}}}}}}\n",
            "environments.dev.roles.web.with: the role has a port",
        ),
        (
            "service: {command: [x]}\nenvironments: {dev: {roles: {web: {instances: 2}}}}\n",
            "environments.dev.roles: the definition has no 'roles'",
        ),
        (
            f"{ROLES}environments: {{dev: {{listen: '127.0.0.1:80', rollout: {{strategy: rolling, batch: 3}}}}}}\n",
            "environments.dev.rollout.batch: expected at most 2, found 3",
        ),
    ],
)
def test_what_cannot_be(text: str, expected: str) -> None:
    [problem] = problems_in(text)
    assert expected in problem


def test_a_key_that_two_places_have_is_still_said_to_belong_to_the_service() -> None:
    [problem] = problems_in(f"service: {{command: [x], port: 80}}\n{DEV}workdir: /srv\n")
    assert "it belongs to 'service'" in problem
