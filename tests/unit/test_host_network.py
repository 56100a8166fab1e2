"""Which network instances get."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from instar.errors import HostError
from instar.host.network import network


def test_the_seed_decides_where_the_search_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_taken", lambda but=None: [])
    first, second = (network.choose(None, seed=seed) for seed in (0xABCDEF, 0xABCDF0))
    assert first != second
    assert first == network.choose(None, seed=0xABCDEF)
    assert {first.prefixlen, second.prefixlen} == {20}
    assert all(one.subnet_of(IPv4Network("10.192.0.0/10")) for one in (first, second))


def test_the_next_private_networks_are_tried_where_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [(IPv4Network("10.0.0.0/8"), "it is the company's")]
    monkeypatch.setattr(network, "_taken", lambda but=None: taken)
    assert network.choose(None, seed=3).subnet_of(IPv4Network("172.16.0.0/12"))
    taken.append((IPv4Network("172.16.0.0/12"), "it is Docker's"))
    assert network.choose(None, seed=3).subnet_of(IPv4Network("192.168.0.0/16"))
    taken.append((IPv4Network("192.168.0.0/16"), "it is at home"))
    with pytest.raises(HostError, match="every private network overlaps") as failure:
        network.choose(None, seed=3)
    assert failure.value.hint == "name another network: INSTAR_SUBNET=ADDRESS/PREFIX"
    with pytest.raises(HostError, match=r"cannot use the subnet '10.1.0.0/20': it is the company's"):
        network.choose("10.1.0.0/20", seed=3)
    with pytest.raises(HostError, match=r"cannot use the subnet '169.254.16.0/20': addresses there are of one link"):
        network.choose("169.254.16.0/20", seed=3)


@pytest.mark.parametrize("wanted", ["127.9.0.0/16", "0.9.0.0/16", "240.0.0.0/20"])
def test_what_no_machine_has_addresses_in_is_no_subnet(wanted: str) -> None:
    with pytest.raises(HostError, match="no machine has addresses of its own in it"):
        network.choose(wanted, seed=1)
