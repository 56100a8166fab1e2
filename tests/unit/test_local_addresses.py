"""Which addresses are given, in which order."""

from ipaddress import IPv4Network

from instar.providers.local.addresses import next_free

SMALL = IPv4Network("10.0.0.0/29")  # hosts .1 to .6, of which .1 is the provider's


def test_the_first_are_the_first() -> None:
    assert next_free(SMALL, (), None, 2) == ("10.0.0.2", "10.0.0.3")


def test_it_goes_on_after_the_last_and_round() -> None:
    assert next_free(SMALL, (), "10.0.0.5", 2) == ("10.0.0.6", "10.0.0.2")


def test_held_ones_are_passed_over() -> None:
    assert next_free(SMALL, ("10.0.0.2", "10.0.0.4"), None, 2) == ("10.0.0.3", "10.0.0.5")


def test_a_full_network_gives_what_it_has() -> None:
    assert next_free(SMALL, ("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"), "10.0.0.5", 3) == ("10.0.0.6",)


def test_after_a_change_of_network_it_begins_anew() -> None:
    assert next_free(SMALL, (), "172.16.0.9", 1) == ("10.0.0.2",)


def test_a_network_without_hosts_has_none() -> None:
    assert next_free(IPv4Network("10.0.0.0/31"), (), None, 1) == ()
    assert next_free(IPv4Network("10.0.0.0/32"), (), None, 1) == ()
