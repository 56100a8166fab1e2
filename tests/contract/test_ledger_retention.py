"""What gc asks the ledger: which releases are pinned, and which instances ever were of which release."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from ledger_benches import LedgerBench

from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from simulated.values import configuration, image

DEV = EnvironmentId(service="web", name="dev")
NETWORK = IPv4Network("10.9.0.0/24")


@pytest.fixture
def ledger(bench: LedgerBench) -> Ledger:
    """With an environment of three releases that have an instance each, the first of which is removed."""
    opened = bench.open()
    opened.save_settings(DEV, Settings())
    for number in (1, 2, 3):
        opened.add_release(DEV, image(str(number)).digest, configuration())
        opened.add_instances(DEV, number, 1)
    opened.remove_instance("web-dev-1-1", "over")
    return opened


def test_pinned_releases_are_found_newest_first(ledger: Ledger) -> None:
    assert ledger.pinned(DEV) == ledger.pinned(EnvironmentId(service="no", name="where")) == ()
    for number in (1, 3, 2):
        ledger.set_pinned(DEV, number, True)
    ledger.set_pinned(DEV, 2, False)
    assert [release.number for release in ledger.pinned(DEV)] == [3, 1]


def test_instances_of_releases_are_known_also_when_they_are_removed(ledger: Ledger) -> None:
    assert ledger.instance_releases(DEV) == (("web-dev-1-1", 1), ("web-dev-2-1", 2), ("web-dev-3-1", 3))


def test_instances_of_removed_places_are_known_and_not_those_of_its_successor(ledger: Ledger) -> None:
    assert ledger.instances_of_removed() == ()
    for instance in ledger.instances():
        ledger.remove_instance(instance.id, "over")
    ledger.remove_environment(DEV)
    ledger.save_settings(DEV, Settings())
    ledger.add_release(DEV, image().digest, configuration())
    ledger.add_instances(DEV, 4, 1)
    gone = ["web-dev-1-1", "web-dev-2-1", "web-dev-3-1"]
    assert ledger.instances_of_removed() == tuple(("local", DEV, name) for name in gone)
    assert ledger.instance_releases(DEV) == (("web-dev-4-1", 4),)
