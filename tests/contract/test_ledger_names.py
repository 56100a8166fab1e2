"""Whose a name is, in either ledger."""

from __future__ import annotations

import pytest
from ledger_benches import LedgerBench

from instar.errors import Refused
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId, OwnNames

SHOP = EnvironmentId(service="shop", name="production")
BLOG = EnvironmentId(service="blog", name="production")


@pytest.fixture
def ledger(bench: LedgerBench) -> Ledger:
    return bench.open()


def named(*names: str) -> Settings:
    return Settings(names=HostNames(http=names))


def claim(ledger: Ledger, environment: EnvironmentId, *names: str, of_others: str = "refuse") -> OwnNames:
    with ledger.transaction():
        ledger.save_settings(environment, named(*names))
        ledger.names.claim(environment, names, of_others=of_others)  # type: ignore[arg-type]
    return ledger.get_environment(environment).names


def test_a_name_is_one_environments(ledger: Ledger) -> None:
    assert claim(ledger, SHOP, "a.test", "b.test") == OwnNames(held=("a.test", "b.test"))
    with pytest.raises(Refused, match=r"cannot reach 'blog/production' by 'a\.test': 'shop/production' has that name"):
        claim(ledger, BLOG, "c.test", "a.test")
    assert ledger.find_environment(BLOG) is None
    claim(ledger, SHOP, "b.test")
    assert claim(ledger, BLOG, "c.test", "a.test").held == ("c.test", "a.test")
    ledger.verify()


def test_a_name_that_is_expected_is_nobody_elses_and_comes_once(ledger: Ledger) -> None:
    claim(ledger, SHOP, "a.test", "b.test")
    assert claim(ledger, BLOG, "a.test", of_others="expect") == OwnNames(expected=("a.test",))
    assert ledger.get_environment(SHOP).names.held == ("a.test", "b.test")
    other = EnvironmentId(service="wiki", name="production")
    with pytest.raises(Refused):
        claim(ledger, other, "a.test")
    assert ledger.names.take_expected(BLOG).names == OwnNames(held=("a.test",))
    assert ledger.get_environment(SHOP).names.held == ("b.test",)
    assert ledger.get_environment(SHOP).settings.names.sites == ("a.test", "b.test")
    with pytest.raises(Refused, match="'blog/production' has that name"):
        claim(ledger, SHOP, "a.test", "b.test")
    assert claim(ledger, SHOP, "a.test", "b.test", of_others="leave").held == ("b.test",)
    told = [event for event in ledger.history(SHOP) if event.kind == "names"]
    assert told[-1].detail == {"held": ["b.test"], "expected": [], "to": "blog/production"}
    ledger.verify()


def test_a_destroyed_environment_has_no_names(ledger: Ledger) -> None:
    claim(ledger, SHOP, "a.test")
    ledger.set_destroying(SHOP)
    ledger.remove_environment(SHOP)
    assert claim(ledger, BLOG, "a.test").held == ("a.test",)
