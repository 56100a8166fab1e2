"""Whether an environment is in maintenance, and with which page, in either ledger."""

from __future__ import annotations

from ledger_benches import LedgerBench

from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.release import EnvironmentId, Maintenance

SHOP = EnvironmentId(service="shop", name="production")


def test_what_was_said_last_is_known_with_its_page(bench: LedgerBench) -> None:
    ledger = bench.open()
    ledger.save_settings(SHOP, Settings())
    assert ledger.get_environment(SHOP).maintenance == Maintenance()
    said = ledger.set_maintenance(SHOP, on=True, page="<p>söön")
    assert (said.on, said.page) == (True, "<p>söön") and said.since is not None
    assert ledger.get_environment(SHOP).maintenance == said
    ledger.set_maintenance(SHOP, on=False, page=None)
    told = [event.detail for event in ledger.history(SHOP) if event.kind == "maintenance"]
    assert told == [{"on": True, "page": Digest.of("<p>söön".encode())}, {"on": False, "page": "usual"}]
    ledger.verify()
    ledger.remove_environment(SHOP)
    ledger.save_settings(SHOP, Settings())
    assert ledger.get_environment(SHOP).maintenance == Maintenance(), "it is another environment"
    ledger.verify()
