"""gc and certificates, in a real state directory: what no name needs goes once it is of use to none that comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from leftovers import remove_state

from instar import locks
from instar.certificates.own_authority import OwnAuthority
from instar.certificates.record import CertificateRecord, Order
from instar.certificates.store import CertificateFolder, CertificateStore
from instar.model.certificate import Source, WantedCertificate
from instar.model.environment import Settings
from instar.model.garbage import Collection
from instar.model.host_names import HostNames, Tls
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.operations.gc import gc
from instar.operations.old_certificates import remove_old_certificates
from instar.workspace import MachineWorkspace
from simulated.values import configuration, image

pytestmark = pytest.mark.root

DEV = EnvironmentId(service="web", name="dev")
LIVE = EnvironmentId(service="web", name="live")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Home:
    """A state directory with certificates in it."""

    def __init__(self, path: Path) -> None:
        self.told: list[Progress] = []
        self.workspace = MachineWorkspace({"INSTAR_HOME": str(path)}, self.told.append)
        self.workspace.provider("local")
        self.store = CertificateStore(self.workspace.state.certificates)
        self._authority = OwnAuthority(path / "another-authority", "test")

    def want(self, environment: EnvironmentId, *names: str, kind: Source = "acme") -> Settings:
        settings = Settings(names=HostNames(https=names), tls=Tls(kind=kind))
        self.workspace.ledger.save_settings(environment, settings)
        return settings

    def folder(self, name: str, *, source: Source = "acme", environment: EnvironmentId = DEV) -> CertificateFolder:
        return self.store.folder(WantedCertificate(environment=environment, source=source, names=(name,)))

    def hold(self, name: str, *, source: Source = "acme", issued: datetime = NOW, written: datetime = NOW) -> None:
        """Keep a certificate of 30 days that was issued then, and of which something was written last then."""
        pair = self._authority.issue([name], issued)
        self.folder(name, source=source).put(pair.chain, pair.key, CertificateRecord(certificate=pair.certificate))
        self.touch(name, written, source)

    def touch(self, name: str, at: datetime, source: Source = "acme") -> None:
        folder = self.folder(name, source=source).path
        for path in (*folder.iterdir(), folder):
            os.utime(path, (at.timestamp(), at.timestamp()))

    def there(self) -> set[str]:
        return {f"{source}/{folder.path.name}" for source, folder in self.store.held()}

    def gc(self, *, dry_run: bool = False, everything: bool = False) -> Collection:
        return gc(self.workspace, dry_run=dry_run, everything=everything)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    remove_state(tmp_path / "home")


def test_what_no_name_needs_goes_once_a_name_that_comes_back_could_not_use_it(home: Home) -> None:
    home.want(DEV, "shop.test", "old.test")
    home.want(LIVE, "own.test", kind="internal")
    long_ago = NOW - 40 * DAY
    for name in ("shop.test", "old.test", "moved.test", "given-up.test"):
        home.hold(name, issued=NOW if name == "moved.test" else long_ago, written=long_ago)
    for name in ("own.test", "other.test"):
        home.hold(name, source="internal")
    before = home.there()
    assert len(before) == 6

    dry = home.gc(dry_run=True)
    assert dry.certificates == ("acme/given-up.test", "internal/other.test")
    assert home.there() == before and home.workspace.ledger.history(last=1)[-1].kind != "gc"
    assert home.gc() == dry
    assert home.there() == before - {"acme/given-up.test", "internal/other.test"}
    event = home.workspace.ledger.history(last=1)[-1]
    assert event.kind == "gc" and event.detail["certificates"] == 2
    assert home.gc().certificates == ()

    assert home.gc(dry_run=True, everything=True).certificates == ("acme/moved.test",)
    assert home.gc(everything=True).certificates == ("acme/moved.test",)
    assert home.there() == {"acme/shop.test", "acme/old.test", "internal/own.test"}, "expired and wanted: it is renewed"
    home.workspace.ledger.remove_environment(LIVE)
    home.workspace.ledger.remove_environment(DEV)
    assert home.gc().certificates == ("acme/old.test", "acme/shop.test", "internal/own.test")
    assert home.there() == set() and home.workspace.ledger.verify()


def test_what_a_failed_rollout_falls_back_to_stays(home: Home) -> None:
    before = home.want(DEV, "old.test", kind="files")
    home.workspace.ledger.add_release(DEV, image().digest, configuration())
    home.hold("old.test", source="files")
    home.want(DEV, "new.test", kind="internal")
    rollout = home.workspace.ledger.begin_rollout(DEV, "deploy", 1, settings_before=before)
    assert remove_old_certificates(home.workspace, dry_run=False, everything=True) == ()
    home.workspace.ledger.end_rollout(rollout, "done")
    assert remove_old_certificates(home.workspace, dry_run=False) == ("files/web--dev",)


def test_an_order_that_can_be_gone_on_with_stays_and_one_that_is_made_is_left_alone(home: Home) -> None:
    home.folder("shop.test").begin_order(Order(authority="https://ca.test", names=("shop.test",)), b"key")
    assert home.gc().certificates == ()
    with locks.hold(home.workspace.state.locks / "certificates", "an order", inherited=False):
        assert home.gc(everything=True).certificates == ()
    assert "certificates stay: cannot work on" in home.told[-1].text
    home.touch("shop.test", NOW - 9 * DAY)
    assert home.gc().certificates == ("acme/shop.test",)


def test_one_that_cannot_be_read_keeps_no_other_from_going(home: Home) -> None:
    for name in ("a.test", "b.test", "c.test"):
        home.hold(name, source="internal")
    blocked = home.folder("b.test", source="internal").path / "record.json"
    blocked.unlink()
    blocked.mkdir()
    assert home.gc().certificates == ("internal/a.test", "internal/c.test")
    assert "certificate internal/b.test stays: cannot read" in home.told[-1].text
    blocked.rmdir()
    assert home.gc().certificates == ("internal/b.test",)


def test_what_is_damaged_and_needed_by_nobody_goes_too(home: Home) -> None:
    home.hold("shop.test", written=NOW - 9 * DAY)
    (home.folder("shop.test").path / "certificate.pem").write_bytes(b"\0")
    (home.store.root / "acme" / "a-file").write_text("somebody's")
    home.touch("shop.test", NOW - 9 * DAY)
    assert home.gc().certificates == ("acme/shop.test",)
    assert (home.store.root / "acme" / "a-file").exists()
