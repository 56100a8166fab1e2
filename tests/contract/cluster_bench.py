"""The provider of Kubernetes on a cluster that runs (scripts/cluster), in a namespace of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from instar.model.definition import Service
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId, Release
from instar.providers.base import Provider
from instar.waiting import Deadline, until
from instar.workspace import MachineWorkspace
from kubernetes_namespace import Namespace, tiny_image

PATIENCE_S = 60.0


class ClusterBench:
    def __init__(
        self, home: Path, environment: EnvironmentId, service: Service, stubborn: Service, *, gateway: bool = True
    ) -> None:
        self.service, self.stubborn = service, stubborn
        self.namespace = Namespace(home)
        self.workspace = MachineWorkspace(self.namespace.environ, lambda progress: None)
        section = {
            "registry": f"{self.namespace.registry}/tiny",
            "namespace": self.namespace.name,
            "pre_stop_ms": 2_000,
        }
        name = f"{self.namespace.name}.cluster.test"
        if gateway:
            section["gateway"] = {"name": "public", "namespace": "gateways"}
        else:
            name = f"{environment.service}-{environment.name}.{self.namespace.name}.svc"
        self.settings = Settings(
            provider="kubernetes", names=HostNames(http=(name,)), instances=2, provider_settings=section
        )
        api = f"api.{name}"
        named = HostNames(http=(name, api))
        self.with_doors = dataclasses.replace(self.settings, names=named, doors={"api": Door(sites=(api,))})
        self.with_uses = dataclasses.replace(self.with_doors, provider_settings={**section, "inside": True})
        if not gateway:
            self.with_uses = dataclasses.replace(self.settings, doors={"api": Door(internal=True)})
        self.package = self.workspace.provider_package("kubernetes")
        self.know(environment, self.settings)
        self.provider: Provider = self.workspace.provider("kubernetes")
        self.image = tiny_image(self.workspace.store, home)
        self.provider.publish(environment, self.image)

    def know(self, environment: EnvironmentId, settings: Settings, *releases: Release) -> None:
        self.workspace.ledger.save_settings(environment, settings)

    def until(self, condition: Callable[[], bool]) -> None:
        assert until(condition, Deadline.after(PATIENCE_S), every_s=0.1), "it did not come about in time"

    def close(self) -> None:
        self.namespace.close()
