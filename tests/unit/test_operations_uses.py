"""What environments use by name, by the ledger: what is refused, what goes in a circle, who uses what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from instar.cli.main import instar
from instar.errors import ProviderError, Refused
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service
from instar.model.digest import Digest
from instar.model.doors import Door
from instar.model.environment import Environment, Settings
from instar.model.origin import Origin
from instar.model.release import EnvironmentId
from instar.model.uses import Used
from instar.operations.deploy import begin
from instar.operations.destroy import destroy
from instar.operations.layers import guarantee
from instar.operations.plan import _compared
from instar.operations.planned_image import PlannedImage
from instar.operations.rollback import rollback
from instar.operations.rollback_plan import plan_rollback
from instar.operations.status import status
from instar.operations.uses import (
    circle,
    host_inside,
    lost_use_warnings,
    missing_warnings,
    require_found,
    users_of,
    uses_of,
    uses_status,
)
from instar.providers.base import Traffic
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.traits import Traits
from instar.views.status import status_json, status_page
from simulated.workspace import SimulatedWorkspace

ORIGIN = Origin(by="ops", machine="here")
REDIS, WORKER = EnvironmentId(service="redis", name="dev"), EnvironmentId(service="worker", name="dev")
OWN = Environment(name="dev", uses=("redis/dev",))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    yield SimulatedWorkspace(tmp_path)


def release(
    workspace: SimulatedWorkspace, environment: EnvironmentId, *uses: str, port: int | None = 6379, active: bool = True
) -> Configuration:
    """Have a release of an environment in the ledger."""
    service = Service(command=("serve",), port=port, health=Health(kind="none"))
    used = (one.partition(":") for one in uses)
    configuration = Configuration(
        service=service, uses=tuple(Used(environment=name, port=port or 1, role=role or None) for name, _, role in used)
    )
    ledger = workspace.ledger
    with ledger.transaction():
        ledger.save_settings(environment, Settings(listen=("127.0.0.1:8080",)))
        made = ledger.add_release(environment, Digest.of(str(environment).encode()), configuration, None)
        if active:
            ledger.set_active(environment, made.number)
    return configuration


def refused(workspace: SimulatedWorkspace, own: Environment = OWN) -> str:
    with pytest.raises(Refused) as found:
        uses_of(workspace, "worker", own)
    return f"{found.value.message}; {found.value.hint}"


def test_what_is_there_is_used_at_its_port_of_now(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS)
    assert uses_of(workspace, "worker", OWN) == (Used(environment="redis/dev", port=6379),)
    release(workspace, REDIS, port=6380)
    assert uses_of(workspace, "worker", OWN) == (Used(environment="redis/dev", port=6380),)


def with_roles(workspace: SimulatedWorkspace, **roles: int | None) -> None:
    """Have a release of the environment with ``web`` as its first role, and these others, in the ledger."""
    health = Health(kind="none")
    services = {name: Service(command=("serve",), port=port, health=health) for name, port in roles.items()}
    configuration = Configuration(
        service=Service(command=("serve",), port=80, health=health), role="web", roles=services
    )
    doors = {name: Door(listen=("127.0.0.1:9",)) for name in ("api",)}
    ledger, image = workspace.ledger, workspace.bake("roles")
    with ledger.transaction():
        ledger.save_settings(REDIS, Settings(listen=("127.0.0.1:8080",), doors=doors))
        made = ledger.add_release(REDIS, image.digest, configuration, None)
        ledger.set_active(REDIS, made.number)


def test_a_role_is_used_at_its_own_port(workspace: SimulatedWorkspace) -> None:
    with_roles(workspace, api=9000, job=None)
    own = Environment(name="dev", uses=("redis/dev", "redis/dev:api"))
    first, api = uses_of(workspace, "worker", own)
    assert (first.port, api) == (80, Used(environment="redis/dev", port=9000, role="api"))
    used = Configuration(service=Service(command=("w",), health=Health(kind="none")), uses=(api,))
    (seen,) = uses_status(workspace, "local", used)
    assert (seen.environment, seen.name, seen.trouble) == ("redis/dev:api", "api.redis.internal:9000", None)
    with_roles(workspace, job=None)
    (told,) = missing_warnings(workspace, "local", used)
    assert told.startswith(
        "it uses redis/dev:api, and release 2, which is active there, has no such role; nobody answers"
    )


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("web", "which is its first role; write 'redis/dev'"),
        ("apo", "has no such role; there is 'redis/dev:api'"),
        ("job", "a role without a port; give it one ('roles.job.port')"),
        ("shut", "a role to which no door leads there; deploy a definition of it with 'listen' for 'shut'"),
    ],
)
def test_a_role_that_is_not_found_by_name_is_refused(workspace: SimulatedWorkspace, role: str, said: str) -> None:
    with_roles(workspace, api=9000, job=None, shut=9001)
    assert said in refused(workspace, Environment(name="dev", uses=(f"redis/dev:{role}",)))


def test_a_service_without_roles_has_none_to_use(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS)
    said = refused(workspace, Environment(name="dev", uses=("redis/dev:service",)))
    assert "has no such role; there is 'redis/dev' alone" in said


def test_a_role_is_called_as_its_engine_calls_it(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_roles(workspace, api=9000)
    monkeypatch.setattr(workspace, "provider_package", lambda name: KUBERNETES)
    section = {"namespace": "ns", "registry": "registry.example/redis"}
    doors = {"api": Door(internal=True)}
    there = Settings(provider="kubernetes", doors=doors, provider_settings=section)
    with workspace.ledger.transaction():
        workspace.ledger.save_settings(REDIS, there)
    own = Environment(name="dev", provider="kubernetes", uses=("redis/dev:api",), provider_settings=section)
    (used,) = uses_of(workspace, "worker", own)
    assert used == Used(environment="redis/dev", port=9000, at="redis-dev--api.ns.svc:80", role="api")
    assert used.variables == {"REDIS_API_HOST": "redis-dev--api.ns.svc", "REDIS_API_PORT": "80"}
    behind = dataclasses.replace(there, doors={"api": Door()}, provider_settings={**section, "gateway": {"name": "g"}})
    with workspace.ledger.transaction():
        workspace.ledger.save_settings(REDIS, behind)
    assert "it is behind a gateway, and has no Service beside its route; say 'kubernetes: {inside: true}'" in refused(
        workspace, own
    )


@pytest.mark.parametrize("role", ["", "api"])
def test_a_name_that_its_engine_does_not_have_yet_is_refused(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    with_roles(workspace, api=9000)
    seen = Traffic(unfound={role: "it is yet to be made"})
    provider: Any = SimpleNamespace(observe=lambda environment, groups: SimpleNamespace(traffic=seen))
    monkeypatch.setattr(workspace, "provider", lambda name: provider)
    uses = tuple(
        Used(environment="redis/dev", port=1, at=f"{one or 'web'}.ns.svc:80", role=one) for one in (None, "api")
    )
    with pytest.raises(Refused) as found:
        list(require_found(workspace, WORKER, uses))
    word = f"redis/dev:{role}" if role else "redis/dev"
    assert f"it uses '{word}', which nobody finds at {role or 'web'}.ns.svc yet: it is yet" in found.value.message
    assert found.value.hint is not None and "instar deploy dev; or" in found.value.hint
    seen = Traffic(unfound={"other": "it is yet to be made"})
    assert not list(require_found(workspace, WORKER, uses))
    local = tuple(dataclasses.replace(one, at=None) for one in uses)
    seen = Traffic(unfound={role: "it is yet to be made"})
    assert not list(require_found(workspace, WORKER, local)), "there the name comes with who uses it"


def test_what_may_not_be_looked_at_is_used_with_a_word(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_roles(workspace, api=9000)

    def observe(environment: EnvironmentId, groups: object) -> None:
        raise ProviderError("cannot list pods in 'ns': not allowed")

    provider: Any = SimpleNamespace(observe=observe)
    monkeypatch.setattr(workspace, "provider", lambda name: provider)
    (told,) = require_found(workspace, WORKER, (Used(environment="redis/dev", port=1, at="api.ns.svc:80", role="api"),))
    assert (
        told
        == "whether anybody answers at api.ns.svc, which it uses, cannot be told: cannot list pods in 'ns': not allowed"
    )


def test_a_provider_that_finds_no_roles_refuses_them(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_roles(workspace, api=9000)
    package = SimpleNamespace(traits=Traits(finds_names=True))
    monkeypatch.setattr(workspace, "provider_package", lambda name: package)
    said = refused(workspace, Environment(name="dev", uses=("redis/dev:api",)))
    assert "and provider 'local' finds the first role by name alone; say the role's address in 'config'" in said


def test_all_that_cannot_be_used_is_told_at_once(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS, port=None)
    said = refused(workspace, Environment(name="dev", uses=("redis/dev", "db/production", "mail/dev")))
    assert "it uses 'db/production', which is not there; it uses 'mail/dev', which is not there; it uses" in said
    assert "it uses 'redis/dev', whose service has no port" in said
    assert "'db/production': deploy that first" in said and "'redis/dev': give it one ('service.port')" in said


def test_what_cannot_be_used_is_refused_with_what_to_do(workspace: SimulatedWorkspace) -> None:
    assert "it uses 'redis/dev', which is not there; deploy that first" in refused(workspace)
    release(workspace, EnvironmentId(service="redsi", name="dev"))
    assert "which is not there; did you mean 'redsi/dev'? else deploy that first" in refused(workspace)
    release(workspace, EnvironmentId(service="redis", name="development"))
    assert "did you mean 'redis/development'? else deploy that first" in refused(workspace)
    release(workspace, REDIS, active=False)
    assert "of which no release runs yet; deploy that first" in refused(workspace)
    release(workspace, REDIS, port=None)
    assert "it uses 'redis/dev', whose service has no port" in refused(workspace)
    release(workspace, REDIS)
    elsewhere = Environment(name="dev", provider="kubernetes", uses=("redis/dev",))
    assert "which provider 'local' runs, and this is of 'kubernetes'" in refused(workspace, elsewhere)
    workspace.ledger.set_destroying(REDIS)
    assert "which is being destroyed; deploy that first" in refused(workspace)


def test_what_became_of_it_is_told(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS)
    configuration = release(workspace, WORKER, "redis/dev", "db/dev")
    redis, database = uses_status(workspace, "local", configuration)
    assert (redis.name, redis.trouble) == ("redis.internal:6379", None)
    assert (database.environment, database.trouble) == ("db/dev", "which is not there")
    assert list(missing_warnings(workspace, "local", configuration)) == [
        "it uses db/dev, which is not there; nobody answers at db.internal:6379"
    ]
    assert users_of(workspace, REDIS) == {"worker/dev": (None,)}
    assert users_of(workspace, WORKER) == {}


def test_it_is_called_inside_as_its_engine_calls_it(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(workspace, REDIS)
    state = workspace.ledger.get_environment(REDIS)
    assert host_inside(workspace, state) == "redis.internal"
    assert host_inside(workspace, state, "api") == "api.redis.internal"
    monkeypatch.setattr(workspace, "provider_package", lambda name: KUBERNETES)
    section = {"namespace": "ns", "registry": "registry.example/redis"}
    there = dataclasses.replace(
        state, settings=Settings(provider="kubernetes", internal=True, provider_settings=section)
    )
    assert host_inside(workspace, there) == "redis-dev.ns.svc"
    assert host_inside(workspace, there, "api") == "redis-dev--api.ns.svc"


def test_a_destroy_says_the_names_that_nobody_answers_at(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS)
    release(workspace, WORKER, "redis/dev", "redis/dev:api")
    destroy(workspace, workspace.ledger.get_environment(REDIS), volumes=False)
    assert "worker/dev uses it: nobody answers there at redis.internal and api.redis.internal" in workspace.told[0].text


def test_a_destroy_asks_with_the_names_of_who_uses_it(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(workspace, REDIS)
    release(workspace, WORKER, "redis/dev:api")
    monkeypatch.setattr("instar.cli.releases.open_workspace", lambda: workspace)
    told = CliRunner().invoke(instar, ["destroy", "redis/dev"], input="no\n")
    asked = told.output.partition("Type 'redis/dev'")[0]
    assert asked.endswith("worker/dev uses it: nobody answers there at api.redis.internal until it is deployed again. ")
    assert told.exit_code == 2 and workspace.ledger.find_environment(REDIS) is not None


LOST = "worker/dev uses its role 'api', which {} has not: nobody answers there at api.redis.internal until a release"


def test_a_role_that_others_use_does_not_go_without_a_word(workspace: SimulatedWorkspace) -> None:
    with_roles(workspace, api=9000)
    using(workspace, (None, 80), ("api", 9000))
    settings, configuration = workspace.ledger.get_environment(REDIS).settings, active(workspace)
    assert not list(lost_use_warnings(workspace, REDIS, settings, configuration))
    (shut,) = lost_use_warnings(workspace, REDIS, dataclasses.replace(settings, doors={}), configuration)
    assert "which has no door then: nobody answers there at api.redis.internal until one leads to it" in shut
    without = dataclasses.replace(configuration, roles={})
    (lost,) = lost_use_warnings(workspace, REDIS, settings, without)
    assert lost.startswith(LOST.format("this release"))


def using(workspace: SimulatedWorkspace, *roles: tuple[str | None, int]) -> None:
    """Have a release of the worker that uses these roles at these ports."""
    release(workspace, WORKER)
    uses = tuple(Used(environment=str(REDIS), port=port, role=role) for role, port in roles)
    service = Service(command=("w",), port=None, health=Health(kind="none"))
    ledger = workspace.ledger
    with ledger.transaction():
        made = ledger.add_release(WORKER, Digest.of(b"w"), Configuration(service=service, uses=uses), None)
        ledger.set_active(WORKER, made.number)


def changed(configuration: Configuration, role: str | None, port: int | None) -> Configuration:
    """Return it with another port of its first role, or of another."""
    if role is None:
        return dataclasses.replace(configuration, service=dataclasses.replace(configuration.service, port=port))
    others = {**configuration.roles, role: dataclasses.replace(configuration.roles[role], port=port)}
    return dataclasses.replace(configuration, roles=others)


@pytest.mark.parametrize(("role", "port"), [(None, 80), ("api", 9000)])
def test_who_uses_a_port_that_becomes_another_or_goes_is_named(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch, role: str | None, port: int
) -> None:
    with_roles(workspace, api=9000)
    using(workspace, (role, port))
    settings, configuration = workspace.ledger.get_environment(REDIS).settings, active(workspace)
    what = f"worker/dev uses its role '{role}'" if role else "worker/dev uses it"
    host = "api.redis.internal" if role else "redis.internal"
    assert not list(lost_use_warnings(workspace, REDIS, settings, configuration))
    other = changed(configuration, role, 81)
    (told,) = lost_use_warnings(workspace, REDIS, settings, other)
    assert told.startswith(
        f"{what} at port {port}, which is 81 in this release: both lead there at {host}, and it asks"
    )
    (gone,) = lost_use_warnings(workspace, REDIS, settings, changed(configuration, role, None), "release 7")
    assert gone.startswith(f"{what}, which has no port in release 7: nobody answers there at {host} until a release")
    package = SimpleNamespace(traits=Traits(network_of_release=True))
    monkeypatch.setattr(workspace, "provider_package", lambda name: package)
    (told,) = lost_use_warnings(workspace, REDIS, settings, other)
    assert f"it may reach the one before alone, and nobody answers it at {host} until it is deployed again" in told


def test_a_plan_a_deploy_and_a_rollback_say_who_uses_a_port_that_becomes_another(
    workspace: SimulatedWorkspace,
) -> None:
    with_roles(workspace, api=9001)
    with_roles(workspace, api=9000)
    using(workspace, ("api", 9000))
    state, told = (
        workspace.ledger.get_environment(REDIS),
        "worker/dev uses its role 'api' at port 9000, which is 9001 in",
    )
    other, image = changed(active(workspace), "api", 9001), workspace.bake("roles")
    loaded: Any = SimpleNamespace(definition=SimpleNamespace(name="redis"), folder=Path("/"))
    doors = {"api": Door(listen=("127.0.0.1:9",))}
    own = Environment(name="dev", listen=("127.0.0.1:8080",), doors=doors)
    planned = _compared(workspace, loaded, own, PlannedImage(digest=None, locked=False), other)
    assert any(text.startswith(f"{told} this release") for text in planned.warnings)
    assert any(text.startswith(f"{told} release 1") for text in plan_rollback(workspace, state, to=1).warnings)
    rollback(workspace, state, to=1)
    assert [one.kind for one in workspace.told if one.text.startswith(f"{told} release 1")] == ["warning"]
    begin(workspace, REDIS, Settings.of(own), image, other, "deploy", project=None, origin=ORIGIN)
    assert [one.kind for one in workspace.told if one.text.startswith(f"{told} this release")] == ["warning"]


def test_a_plan_and_a_deploy_say_who_uses_a_role_that_goes(workspace: SimulatedWorkspace) -> None:
    with_roles(workspace, api=9000)
    release(workspace, WORKER, "redis/dev:api")
    without, image = dataclasses.replace(active(workspace), roles={}), workspace.bake("roles")
    loaded: Any = SimpleNamespace(definition=SimpleNamespace(name="redis"), folder=Path("/"))
    own = Environment(name="dev", listen=("127.0.0.1:8080",))
    planned = _compared(workspace, loaded, own, PlannedImage(digest=None, locked=False), without)
    assert any(text.startswith(LOST.format("this release")) for text in planned.warnings)
    begin(
        workspace,
        REDIS,
        Settings.of(own),
        image,
        without,
        "deploy",
        project=None,
        origin=ORIGIN,
    )
    assert [one.kind for one in workspace.told if one.text.startswith(LOST.format("this release"))] == ["warning"]


def test_a_rollback_says_who_uses_a_role_that_goes(workspace: SimulatedWorkspace) -> None:
    with_roles(workspace)
    with_roles(workspace, api=9000)
    release(workspace, WORKER, "redis/dev:api")
    state = workspace.ledger.get_environment(REDIS)
    assert any(text.startswith(LOST.format("release 1")) for text in plan_rollback(workspace, state, to=1).warnings)
    rollback(workspace, state, to=1)
    assert [one.kind for one in workspace.told if one.text.startswith(LOST.format("release 1"))] == ["warning"]


def active(workspace: SimulatedWorkspace) -> Configuration:
    return workspace.ledger.get_release(REDIS, 1).configuration


def test_layers_are_told_of_this_machine_alone(workspace: SimulatedWorkspace) -> None:
    image = workspace.bake("a")
    service = Service(command=("serve",), port=80, health=Health(kind="none"))
    ledger = workspace.ledger
    with ledger.transaction():
        ledger.save_settings(REDIS, Settings())
        made = ledger.add_release(REDIS, image.digest, Configuration(service=service), None)
        ledger.add_instances(REDIS, made.number, 1)
    assert guarantee(workspace, REDIS, Traits()) is not None
    assert guarantee(workspace, REDIS, Traits(of_one_machine=False)) is None


def test_a_circle_is_found_however_long_it_is(workspace: SimulatedWorkspace) -> None:
    uses = (Used(environment="b/dev", port=1),)
    own = EnvironmentId(service="a", name="dev")
    assert circle(workspace, own, uses) == ()
    release(workspace, EnvironmentId(service="b", name="dev"), "c/dev", "b/dev")
    release(workspace, EnvironmentId(service="c", name="dev"), "d/dev", "b/dev")
    assert circle(workspace, own, uses) == (), "one of others' own is theirs"
    release(workspace, EnvironmentId(service="d", name="dev"), "a/dev")
    assert circle(workspace, own, uses) == ("a/dev", "b/dev", "c/dev", "d/dev", "a/dev")


def test_status_shows_a_circle_to_each_that_is_in_it(workspace: SimulatedWorkspace) -> None:
    release(workspace, REDIS, "worker/dev")
    release(workspace, WORKER, "redis/dev")
    found = status(workspace, workspace.ledger.get_environment(REDIS))
    assert found.circle == ("redis/dev", "worker/dev", "redis/dev") == tuple(status_json(found)["circle"])
    text = "\n".join(line for line in status_page(found, workspace.ledger.now()) if isinstance(line, str))
    assert "redis/dev uses worker/dev uses redis/dev: that works as long as they are there" in text
    other = status(workspace, workspace.ledger.get_environment(WORKER))
    assert other.circle == ("worker/dev", "redis/dev", "worker/dev")
