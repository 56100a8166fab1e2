"""A provider on a stub of a cluster, with what a ledger would say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster_stub import ClusterStub
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service, Volume
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.image import Image
from instar.model.lease import HeldLease
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.state import StateDirectory
from instar.model.volume import SnapshotCause
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.provider import KubernetesProvider
from simulated.values import image as simulated_image

ENV = EnvironmentId(service="shop", name="prod")
SECTION: Mapping[str, Any] = {
    "registry": "registry.example/team/shop",
    "namespace": "shop",
    "context": "stub",
    "gateway": {"name": "public", "namespace": "gateways"},
}
SETTINGS = Settings(
    provider="kubernetes", names=HostNames(http=("shop.example",)), instances=2, provider_settings=SECTION
)
WITHOUT_GATEWAY = dataclasses.replace(
    SETTINGS,
    names=HostNames(http=("shop-prod.shop.svc",)),
    provider_settings={name: one for name, one in SECTION.items() if name != "gateway"},
)
SERVICE = Service(command=("serve",), port=8080, health=Health(kind="http", path="/healthz"))
DATA = Volume(name="data", path="/data", access="shared", snapshot=True)
KEPT = dataclasses.replace(SETTINGS, provider_settings={**SECTION, "storage_class": "fast"})
CAUSE = SnapshotCause(rollout=4, release=1, before=2)


class Pushed:
    """Registries of which it is only known what came to them."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def has(self, what: object) -> bool:
        return str(what) in self.images

    def push(self, store: object, digest: str, to: object, *, tags: object) -> None:
        self.images.append(f"{to}@{digest}")


class World:
    """A provider of its own ledger, on a cluster of its own."""

    BEGAN = datetime(2026, 11, 29, tzinfo=UTC)

    def __init__(self, stub: ClusterStub, home: Path, settings: Settings = SETTINGS) -> None:
        self.stub = stub
        self.held: HeldLease | None = None
        self.settings: dict[EnvironmentId, Settings] = {ENV: settings}
        self.registries = Pushed()
        self.told: list[Progress] = []
        self.signing_key: bytes | None = b"k" * 32  # of the ledger that all of them share
        self.image: Image = simulated_image()
        self.site: Any = SimpleNamespace(
            state=StateDirectory(home, home / "run"),
            environ={"KUBECONFIG": str(stub.kubeconfig(home)), "HOME": str(home)},
            environments=lambda: self.settings,
            left_settings=lambda environment: None,
            ledger_name=lambda: "0a1b2c3d",
            signing_key=lambda *, make=False: self.signing_key,
            held_lease=lambda environment: self.held,
            registries=self.registries,
            report=self.told.append,
            store=None,
            machine_settings=None,
        )
        self.provider = KubernetesProvider(self.site, KUBERNETES.traits)

    def release(self, number: int = 1, service: Service = SERVICE, **more: Any) -> Release:
        configuration = Configuration(service=service, **more)
        return Release(
            environment=ENV,
            number=number,
            image=self.image.digest,
            configuration=configuration,
            created_at=datetime(2026, 11, 29, tzinfo=UTC),
        )

    def group(self, release: Release, serial: int = 1, members: int = 2, task: str | None = None) -> Instance:
        return Instance(
            id=f"{ENV.service}-{ENV.name}-{release.number}-{serial}",
            serial=serial,
            environment=ENV,
            release=release.number,
            created_at=datetime(2026, 11, 29, tzinfo=UTC),
            members=members,
            task=task,
        )

    def create(self, release: Release, serial: int = 1, **more: Any) -> Instance:
        group = self.group(release, serial, **more)
        self.provider.create(group, release, self.image)
        return group
