"""What environments use by name: what is read, and what is said of what cannot be used."""

from __future__ import annotations

import pytest

from instar.definition.load import parse
from instar.errors import DefinitionError
from instar.model.codec import canonical, from_json, to_json
from instar.model.configuration import Configuration
from instar.model.definition import Definition, Health, Service
from instar.model.environment import Allow, Settings
from instar.model.release import EnvironmentId, Release
from instar.model.uses import Used
from instar.providers.base import NetworkPlan

HEAD = "name: shop\nimage: {base: debian:bookworm}\nservice: {command: [a], port: 80}\nenvironments:\n"

SERVICE = Service(command=("a",), health=Health(kind="none"))


def read(rest: str) -> Definition:
    return parse(HEAD + rest, "instar.yaml").definition


def problems_of(rest: str) -> list[str]:
    with pytest.raises(DefinitionError) as refused:
        read(rest)
    return [f"{one.line}:{one.column}: {one.message}" for one in refused.value.problems]


def test_a_name_alone_means_the_environment_of_the_same_name() -> None:
    found = read("  production: {listen: internal, uses: [redis, db/staging, shop/replica]}\n").environments[
        "production"
    ]
    assert found.uses == ("redis/production", "db/staging", "shop/replica")
    assert (found.listen, found.internal, found.is_reached) == ((), True, True)


def test_a_role_is_found_by_a_name_and_variables_of_its_own() -> None:
    found = read("  production: {listen: internal, uses: [db, 'db:api', 'mail/live:in']}\n").environments["production"]
    assert found.uses == ("db/production", "db/production:api", "mail/live:in")
    api = Used(environment="db/production", port=9000, role="api")
    assert (api.host, api.word) == ("api.db.internal", "db/production:api")
    assert api.variables == {"DB_API_HOST": "api.db.internal", "DB_API_PORT": "9000"}
    assert api.allow == Allow(to="db/production", ports=("9000/tcp",))
    made = Configuration(service=SERVICE, uses=(api,))
    assert from_json(Configuration, to_json(made)) == made
    assert b"role" not in canonical(Configuration(service=SERVICE, uses=(Used(environment="db/a", port=1),)))


def test_what_all_environments_use_is_said_once() -> None:
    found = read("  a: {listen: internal}\n  b: {listen: ':80'}\ndefaults: {uses: [redis]}\n").environments
    assert (found["a"].uses, found["b"].uses) == (("redis/a",), ("redis/b",))


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("uses: redis", "expected a list such as [redis, db/production]"),
        ("uses: [redis.internal]", "did you mean 'redis'?"),
        ("uses: 'redis, db:api'", 'write it as a list: [redis, "db:api"]'),
        ("uses: [Redis]", "what is no environment of Instar's is reached by its address"),
        ("uses: [10.0.0.7]", "what is no environment of Instar's is reached by its address"),
        ("uses: [redis/]", "what is no environment of Instar's is reached by its address"),
        ("uses: [shop]", "'shop/a' is this very environment"),
        ("uses: [db/b, db/c]", "'db/b' and 'db/c' both want the name 'db.internal'"),
        ("uses: [db, db/a]", "'db/a' stands there twice, also as 'db'; remove one"),
        ("uses: [db, db]", "'db' stands here twice, first in line 5"),
        ("uses: ['db:api', 'db/a:api']", "'db/a:api' stands there twice, also as 'db:api'; remove one"),
        (
            "uses: ['shop:api']",
            "'shop/a' is this very environment; remove it; its roles reach one another by "
            "'network: {allow: [{to: shop/a}]}', at an address of 'listen'",
        ),
        ("uses: ['db:api', db/c]", "'db:api' and 'db/c' both want the name 'db.internal'"),
        ("uses: [db/b, 'db/c:api']", "'db/b' and 'db/c:api' both want the name 'db.internal'"),
        ("uses: ['db:api.admin']", "a role is found at its own port alone, not at further ones"),
        ("uses: ['db:']", "what is no environment of Instar's is reached by its address"),
        ("uses: [api.db.internal]", "did you mean 'db:api'?"),
        (
            "uses: ['db:api', db-api]",
            "'db:api' and 'db-api' both want the variables 'DB_API_HOST' and",
        ),
    ],
)
def test_what_cannot_be_used(rest: str, expected: str) -> None:
    [problem] = problems_of(f"  a: {{listen: internal, {rest}}}\n")
    assert expected in problem and "environments.a.uses" in problem


def test_a_service_without_a_port_has_no_door_inside_either() -> None:
    text = HEAD.replace(", port: 80", "") + "  a: {listen: internal}\n"
    with pytest.raises(DefinitionError, match="the service has no port to send requests to"):
        parse(text, "instar.yaml")


def test_variables_say_where_it_is_unless_the_author_does() -> None:
    service = Service(command=("a",), port=80, health=Health(kind="none"))
    uses = (Used(environment="my-db/a", port=5432), Used(environment="redis/a", port=6379))
    made = Configuration(service=service, config={"REDIS_HOST": "127.0.0.1"}, uses=uses)
    assert made.variables == {
        "MY_DB_HOST": "my-db.internal",
        "MY_DB_PORT": "5432",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": "6379",
    }
    assert from_json(Configuration, to_json(made)) == made
    assert b"uses" not in canonical(Configuration(service=service)), "digests of what uses nothing stay what they were"


def test_what_a_release_uses_may_be_reached_while_it_has_instances() -> None:
    own = EnvironmentId(service="shop", name="a")
    configuration = Configuration(service=SERVICE, uses=(Used(environment="redis/a", port=6379),))
    [environment] = read("  a: {listen: ':80', network: {allow: [{to: machine}]}}\n").environments.values()
    settings = Settings.of(environment)
    release = Release.__new__(Release)
    object.__setattr__(release, "configuration", configuration)
    assert NetworkPlan.of(own, settings).network.allow == (Allow(to="machine"),)
    opened = NetworkPlan.of(own, settings, [release, release]).network.allow
    assert opened == (Allow(to="machine"), Allow(to="redis/a", ports=("6379/tcp",)))
