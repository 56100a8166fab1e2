"""Renewals of one machine against a real authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from instar.cancellation import Cancellation
from instar.certificates.renewals import Renewals
from instar.certificates.store import CertificateStore
from instar.model.certificate import Source, WantedCertificate
from instar.model.machine import AcmeSettings
from instar.model.release import EnvironmentId
from pebble import Pebble
from simulated.door import SimulatedDoor

SHOP = EnvironmentId(service="shop", name="production")


class World:
    """One machine's renewals against ``pebble``, at a clock that can be moved."""

    def __init__(self, folder: Path, pebble: Pebble, door: SimulatedDoor, **settings: object) -> None:
        self.store = CertificateStore(folder / "certificates")
        self.door, self.cancellation, self.ahead = door, Cancellation(), timedelta(0)
        found = {"directory": pebble.directory, "ca": str(pebble.ca), "contact": "ops@shop.test", **settings}
        self.settings = AcmeSettings(**found)  # type: ignore[arg-type]
        self.renewals = self.again()

    def again(self) -> Renewals:
        """As another process would begin."""
        return Renewals(
            self.store,
            self.settings,
            machine="machine",
            cancellation=self.cancellation,
            now=lambda: datetime.now(UTC) + self.ahead,
            port=self.door.port,
            resolve=lambda name: ["127.0.0.1"],
        )


def wanted(*names: str, source: Source = "acme") -> WantedCertificate:
    return WantedCertificate(environment=SHOP, source=source, names=names)


def orders(pebble: Pebble) -> int:
    return pebble.log.count("Added order")
