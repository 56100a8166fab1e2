"""The provider of Kubernetes on a cluster that runs (scripts/cluster), in a namespace of its own."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable
from pathlib import Path

from instar.model.definition import Service
from instar.model.environment import HostNames, Settings
from instar.model.image import ImageConfig
from instar.model.release import EnvironmentId
from instar.providers.base import Provider
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config
from instar.waiting import Deadline, until
from instar.workspace import MachineWorkspace
from integration.tiny_world import tiny_tree

PATIENCE_S = 60.0
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


class Namespace:
    """A namespace of a test's own in the cluster of this machine, and a state directory that works with it."""

    def __init__(self, home: Path) -> None:
        from clusters.layout import layout

        found = layout()
        self.name = f"test-instar-{secrets.token_hex(4)}"
        self.registry = found.registry
        self.gateway = f"http://{found.control.address}:8080"
        machine = home / "config.yaml"
        machine.write_text(f"registries: {{'{found.registry}': {{http: true}}}}\n")
        self.environ = {
            "INSTAR_HOME": str(home),
            "KUBECONFIG": str(found.kubeconfig),
            "HOME": str(home),
            "PATH": os.environ["PATH"],
        }
        self.api = Api(find_config(None, self.environ), self.environ)
        self.api.create(NAMESPACE, None, {"metadata": {"name": self.name, "labels": {"test": "yes"}}})

    def close(self) -> None:
        self.api.delete(NAMESPACE, "", self.name)


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
        self.workspace.ledger.save_settings(environment, self.settings)
        self.provider: Provider = self.workspace.provider("kubernetes")
        layer = self.workspace.store.add_layer(tiny_tree(home / "tree"), step="base", epoch=1_700_000_000)
        config = ImageConfig(architecture=ARCHITECTURE, user="10001:10001", command=("sh",), env={"PATH": "/bin"})
        self.image = self.workspace.store.add_image(config, [layer], created=1_700_000_000)
        self.provider.publish(environment, self.image)

    def until(self, condition: Callable[[], bool]) -> None:
        assert until(condition, Deadline.after(PATIENCE_S), every_s=0.1), "it did not come about in time"

    def close(self) -> None:
        self.namespace.close()
