"""What tests do in a cluster: make objects of a namespace, wait for them, and ask through the gateway."""

from __future__ import annotations

import http.client
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clusters.api import condition
from clusters.cluster import Cluster
from clusters.configuration import GATEWAY
from clusters.parts import GATEWAY_HTTP
from clusters.registry import push

READY_S = 60.0


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = READY_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Namespace:
    """A namespace of one test."""

    cluster: Cluster
    name: str

    def apply(self, *objects: Mapping[str, Any]) -> None:
        mine = [{**one, "metadata": {**one["metadata"], "namespace": self.name}} for one in objects]
        self.cluster.api.apply(*mine)

    def find(self, version: str, path: str) -> Any:
        """Return what is at a path of the namespace, such as ``apps/v1`` and ``deployments/web``, or None."""
        group = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        return self.cluster.api.find(f"{group}/namespaces/{self.name}/{path}")

    def pods(self, **labels: str) -> list[dict[str, Any]]:
        chosen = ",".join(f"{name}%3D{value}" for name, value in labels.items())
        found: list[dict[str, Any]] = self.find("v1", f"pods?labelSelector={chosen}")["items"]
        return found

    def deploy(self, name: str, image: str, *, replicas: int = 1, node: str | None = None) -> None:
        """Make a Deployment of the web server and its Service, without waiting for them."""
        self.apply(deployment(name, image, replicas, node), service(name))

    def ready(self, name: str) -> int:
        """Return how many pods of a Deployment are ready."""
        found = self.find("apps/v1", f"deployments/{name}")
        return int(found["status"].get("readyReplicas", 0)) if found else 0

    def wait_until_ready(self, name: str, replicas: int = 1) -> None:
        wait_for(lambda: self.ready(name) == replicas, f"{replicas} ready pods of {name}")

    def route(self, weights: Mapping[str, int]) -> None:
        """Give Services their shares of what is asked of this namespace's host; wait until the gateway has seen it."""
        backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {"parentRefs": [GATEWAY], "hostnames": [self.host], "rules": [{"backendRefs": backends}]},
        }
        self.apply(route)
        wait_for(self._is_accepted, "the gateway's acceptance of the route")

    def _is_accepted(self) -> bool:
        found = self.find("gateway.networking.k8s.io/v1", "httproutes/web")
        accepted = [condition({"status": parent}, "Accepted") for parent in found.get("status", {}).get("parents", [])]
        generation = found["metadata"]["generation"]
        return any(one.get("status") == "True" and one["observedGeneration"] == generation for one in accepted)

    @property
    def host(self) -> str:
        return f"{self.name}.cluster.test"

    def ask(self) -> str | None:
        """Ask the gateway once, by a connection of its own; return the version that answered, None when none did."""
        connection = http.client.HTTPConnection(self.cluster.layout.control.address, GATEWAY_HTTP, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": self.host})
            answer = connection.getresponse()
            answer.read()
            return answer.headers["X-Version"] if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def count(self, requests: int) -> Counter[str | None]:
        return Counter(self.ask() for _ in range(requests))


def made_namespace(cluster: Cluster) -> Namespace:
    """Make an empty namespace, in which pods can be made."""
    made = Namespace(cluster, f"test-{secrets.token_hex(4)}")
    cluster.api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name, "labels": {"test": "yes"}}}
    )
    wait_for(lambda: made.find("v1", "serviceaccounts/default") is not None, "the namespace's service account")
    return made


def pushed_hello(cluster: Cluster) -> Mapping[str, str]:
    """Push the images of the small web server; return what pods name, by their version ("1", "2", "sick")."""
    archives = cluster.layout.images.glob("hello-*.tar")
    return {file.stem.removeprefix("hello-"): push(cluster.layout, file, "hello") for file in archives}


def deployment(name: str, image: str, replicas: int, node: str | None) -> dict[str, Any]:
    """Return a Deployment as a release's is: without privileges, by digest, and leaving its Service before it ends."""
    container = {
        "name": "web",
        "image": image,
        "ports": [{"containerPort": 8080}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
