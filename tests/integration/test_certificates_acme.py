"""Certificates from a real authority that speaks ACME: ordered, checked, kept, renewed."""

from __future__ import annotations

import dataclasses
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from acme_world import World, orders, wanted
from cryptography import x509

from instar.cancellation import Cancellation
from instar.certificates import pem
from instar.errors import AuthorityUnavailable, Cancelled, CertificateError, NameElsewhere
from pebble import Pebble
from simulated.door import SimulatedDoor


def test_an_order_gives_a_certificate_that_is_shown_and_kept(world: World, pebble: Pebble) -> None:
    shop = wanted("shop.test")
    found = world.renewals.renew(shop, world.door)
    assert found.outcome == "renewed" and found.error is None, found
    chain, key = world.door.shown["shop.test"]
    leaf, root = pem.read_chain(chain), x509.load_pem_x509_certificate(pebble.root().encode())
    leaf[-1].verify_directly_issued_by(root)
    assert found.held is not None and found.held.names == ("shop.test",) and found.held.renewal_id
    assert b"EC" in key or b"PRIVATE KEY" in key
    assert pem.read_pair(chain, key, ["shop.test"], datetime.now(UTC)).certificate == found.held
    folder = world.store.folder(shop)
    assert sorted(path.name for path in folder.path.iterdir()) == ["certificate.pem", "record.json"]
    for path in world.store.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert world.renewals.renew(shop, world.door).outcome == "kept" and world.door.nonces == 1
    assert world.again().renew(shop, world.door).outcome == "kept"
    assert not any("PRIVATE" in path.read_text() for path in folder.path.glob("*.json"))


def test_renewal_information_decides_and_the_renewal_says_what_it_replaces(world: World, pebble: Pebble) -> None:
    ari = wanted("ari.test")
    first = world.renewals.renew(ari, world.door).record
    world.renewals.ask_when(ari)
    record = world.store.folder(ari).record()
    assert record.renew_at is not None and record.ask_at is not None and not world.renewals.is_due(ari)
    hour = timedelta(hours=1)
    window = {"start": (datetime.now(UTC) - 2 * hour).isoformat(), "end": (datetime.now(UTC) - hour).isoformat()}
    chain = world.door.shown["ari.test"][0].decode()
    pebble.manage("set-renewal-info/", Certificate=chain, ARIResponse=json.dumps({"suggestedWindow": window}))
    world.renewals.ask_when(ari)
    assert not world.renewals.is_due(ari)  # it said when to ask again
    world.ahead = 7 * hour
    world.renewals.ask_when(ari)
    assert world.renewals.is_due(ari)
    again = world.renewals.renew(ari, world.door)
    assert again.outcome == "renewed" and again.held is not None and first.certificate is not None
    assert again.held.fingerprint != first.certificate.fingerprint
    assert world.door.served()["ari.test"] == again.held.fingerprint
    assert "is a replacement of" in pebble.log


def test_a_profile_of_the_machine_s_file_is_asked_for(tmp_path: Path, pebble: Pebble, world: World) -> None:
    usual = World(tmp_path / "usual", pebble, world.door, profile="default").renewals.renew(
        wanted("a.test"), world.door
    )
    assert usual.outcome == "renewed", usual
    other = World(tmp_path / "other", pebble, world.door, profile="tlsserver").renewals.renew(
        wanted("b.test"), world.door
    )
    assert other.outcome == "failed" and "tlsserver" in str(other.error), other


def test_who_does_not_say_when_has_it_renewed_at_two_thirds(world: World) -> None:
    shop = wanted("thirds.test")
    world.renewals.renew(shop, world.door)
    at = world.renewals.order_at(shop)
    held = world.store.folder(shop).record().certificate
    assert held is not None and at is not None
    assert held.life * 0.63 <= at - held.not_before <= held.life * 0.67
    world.ahead = held.life * 0.68
    assert world.renewals.renew(shop, world.door).outcome == "renewed"


def test_a_name_that_leads_elsewhere_waits_and_no_authority_is_asked(world: World, pebble: Pebble) -> None:
    world.door.answers, before = False, orders(pebble)
    found = world.renewals.renew(wanted("elsewhere.test"), world.door)
    assert found.outcome == "failed" and isinstance(found.error, NameElsewhere)
    assert "127.0.0.1 answered 404" in found.error.message and "--force" in (found.error.hint or "")
    assert orders(pebble) == before and found.record.failures == 1 and found.record.retry_at is not None
    assert timedelta(seconds=5) < found.record.retry_at - datetime.now(UTC) < timedelta(seconds=15)
    assert world.renewals.renew(wanted("elsewhere.test"), world.door).outcome == "kept"  # not yet again
    world.ahead, world.door.answers = timedelta(minutes=1), True
    assert world.renewals.renew(wanted("elsewhere.test"), world.door).outcome == "renewed"


def test_force_orders_all_the_same_and_says_what_the_authority_saw(world: World, pebble: Pebble) -> None:
    world.door.answers, before = False, orders(pebble)
    found = world.renewals.renew(wanted("forced.test"), world.door, force=True)
    assert found.outcome == "failed" and type(found.error) is CertificateError and orders(pebble) == before + 1
    assert "cannot prove 'forced.test': the authority says: " in found.error.message and "404" in found.error.message
    assert not (world.store.folder(wanted("forced.test")).path / "order.json").exists()


def test_a_name_that_the_authority_refuses_is_told_with_its_words(world: World) -> None:
    found = world.renewals.renew(wanted("blocked.test"), world.door)
    assert found.outcome == "failed" and found.error is not None
    assert "'localhost:" in found.error.message and "policy" in found.error.message


class Stopping(Cancellation):
    """Stops the work the n-th time that somebody waits."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def pause(self, seconds: float) -> None:
        self.left -= 1
        if self.left <= 0:
            self.request()
        else:
            super().pause(seconds)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_order_that_was_cut_off_goes_on_and_counts_once(world: World, pebble: Pebble, at: int) -> None:
    shop, before = wanted(f"cut{at}.test"), orders(pebble)
    world.cancellation = Stopping(at)
    world.renewals = world.again()
    cut = 0
    try:
        world.renewals.renew(shop, world.door)
    except Cancelled:
        cut = 1
        assert {path.name for path in world.store.folder(shop).path.iterdir()} == {"next.key", "order.json"}
    world.cancellation = Cancellation()
    found = world.again().renew(shop, world.door)
    assert found.outcome == ("renewed" if cut else "kept") and orders(pebble) == before + 1
    assert cut or at > 2


def test_an_order_that_the_authority_has_forgotten_is_placed_anew(world: World) -> None:
    shop = wanted("forgotten.test")
    world.cancellation = Stopping(1)
    with pytest.raises(Cancelled):
        world.again().renew(shop, world.door)
    folder = world.store.folder(shop)
    order = folder.order()
    assert order is not None and order.url is not None
    folder.keep_order(dataclasses.replace(order, url=f"{order.url}gone"))
    world.cancellation = Cancellation()
    found = world.again().renew(shop, world.door)
    assert found.outcome == "renewed", found.error


def test_a_record_that_is_behind_or_damaged_is_made_again_from_the_certificate(world: World) -> None:
    shop = wanted("behind.test")
    held = world.renewals.renew(shop, world.door).held
    folder = world.store.folder(shop)
    for damage in (b"", b"{", b'{"certificate": 7}', b"\x00" * 10):
        (folder.path / "record.json").write_bytes(damage)
        assert folder.record().certificate == held
    (folder.path / "certificate.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
    assert folder.record().certificate is None and world.renewals.is_due(shop)


def test_another_directory_is_asked_and_until_then_the_old_certificate_shown(
    world: World, pebble: Pebble, tmp_path: Path, door: SimulatedDoor
) -> None:
    shop = wanted("moved.test")
    world.renewals.renew(shop, world.door)
    shown = dict(door.served())
    other = World(tmp_path, pebble, door, directory="https://localhost:1/dir")
    found = other.renewals.renew(shop, door)
    assert found.outcome == "failed" and isinstance(found.error, AuthorityUnavailable)
    assert "'localhost:1' is not available: Connection refused" in found.error.message
    assert found.held is not None and door.served() == shown
