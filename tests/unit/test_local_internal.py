"""The addresses by which instances find environments: given once, kept while anybody knows them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from instar.errors import ProviderError
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.providers.local import allocations, internal, internal_record
from instar.providers.local.names import Names

NETWORK = IPv4Network("10.210.0.0/28")
REDIS, DB = EnvironmentId(service="redis", name="dev"), EnvironmentId(service="db", name="dev")


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(StateDirectory(tmp_path, tmp_path / "run"), "0a1b2c")


def test_an_address_stays_and_its_ports_only_join(names: Names) -> None:
    assert internal_record.find(names, REDIS) is None
    first = internal.ensure(names, REDIS, NETWORK, [6379])
    assert first.doors == (f"{first.address}:6379",) and first.listener == f"{first.address}:1"
    assert internal.ensure(names, REDIS, NETWORK) == first
    more = internal.ensure(names, REDIS, NETWORK, [6380])
    assert (more.address, more.ports) == (first.address, (6379, 6380))
    assert internal_record.find(names, REDIS) == more


def test_another_role_has_an_address_of_its_own_at_the_same_port(names: Names) -> None:
    web, api = internal.ensure(names, DB, NETWORK, [80]), internal.ensure(names, DB, NETWORK, [80], door="api")
    assert web.address != api.address
    assert internal_record.find(names, DB) == web and internal_record.find(names, DB, "api") == api
    assert internal_record.doors_of(names, DB) == (f"{web.address}:80", f"{api.address}:80")
    internal.let_go(names, [DB], lambda address: None)
    assert len(internal_record.all_addresses(names)) == 2
    internal.let_go(names, [], lambda address: None)
    assert internal_record.all_addresses(names) == {}


def test_nobody_else_gets_it(names: Names) -> None:
    given = [internal.ensure(names, one, NETWORK).address for one in (REDIS, DB)]
    assert len(set(given)) == 2 and allocations.held(names) == set(given)
    assert allocations.count_free(names, NETWORK) == 11
    for number in range(11):
        internal.ensure(names, EnvironmentId(service="s", name=f"e{number}"), NETWORK)
    with pytest.raises(ProviderError, match="no address of"):
        internal.ensure(names, EnvironmentId(service="s", name="last"), NETWORK)


def test_it_is_let_go_when_neither_it_nor_who_knows_it_is_there(names: Names) -> None:
    redis, db = (internal.ensure(names, one, NETWORK, [80]) for one in (REDIS, DB))
    worker = names.state.instances / "worker-dev-1-1"
    worker.mkdir(parents=True)
    (worker / "hosts").write_text(f"127.0.0.1 localhost\n{redis.address} redis.internal\n")
    gone = list[IPv4Address]()
    internal.let_go(names, [REDIS, DB], gone.append)
    assert gone == []
    internal.let_go(names, [], gone.append)
    assert gone == [IPv4Address(db.address)]
    assert internal_record.find(names, REDIS) == redis, "who uses it finds the next one there"
    (worker / "hosts").unlink()
    internal.let_go(names, [], gone.append)
    assert gone[1:] == [IPv4Address(redis.address)]
    assert internal_record.all_addresses(names) == {}


def test_a_record_that_is_damaged_is_none(names: Names) -> None:
    internal.ensure(names, REDIS, NETWORK, [80])
    [path] = internal_record.all_addresses(names)
    for text in ("", "{", '{"environment": "redis/dev", "address": "x", "ports": []}', '{"environment": "db/dev"}'):
        path.write_text(text)
        assert internal_record.find(names, REDIS) is None
    assert internal.ensure(names, REDIS, NETWORK, [80]).ports == (80,)


def test_who_is_killed_before_it_is_forgotten_takes_it_away_again(names: Names) -> None:
    internal.ensure(names, REDIS, NETWORK, [80])

    def killed(_: IPv4Address) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        internal.let_go(names, [], killed)
    gone = list[IPv4Address]()
    internal.let_go(names, [], gone.append)
    assert len(gone) == 1 and internal_record.all_addresses(names) == {}


def test_an_address_of_another_network_is_none(names: Names) -> None:
    internal.ensure(names, REDIS, NETWORK, [80])
    other = IPv4Network("10.220.0.0/20")
    assert IPv4Address(internal.ensure(names, REDIS, other, [80]).address) in other
