"""Where a cluster is: its names, its addresses and its folders. Nothing here touches the machine.

    HOME/programs/           what was built, for every cluster of this machine     HOME/images/   pause and hello
    HOME/go/                 Go's caches, unless GOMODCACHE and GOCACHE name others
    HOME/clusters/NAME/      one cluster: keys, settings, logs, the API's store, its nodes' containers
    HOME/clusters/NAME.lock  held by whoever starts or ends it

All that is global to the machine carries the cluster's name: the link and the cgroup of node N are NAME-N, the bridge
is NAME-br. Of the network A.B.0.0/16 the nodes have A.B.0.0/24, the Services A.B.1.0/24, the pods of node N
A.B.16+N.0/24.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME = Path("/var/cache/instar-cluster")
NAME = "instar-k8s"
NETWORK = "10.167"
MOST_NODES = 4
_HIDDEN = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/lib", "/var/log")  # a node has these for itself


class Unusable(Exception):
    """What was asked for cannot be done, or did not happen; its text says why, and what to do."""


class Missing(Unusable):
    """A program that is needed is not on this machine."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One cluster's names, addresses and folders. ``network`` is the first half of its addresses."""

    name: str
    network: str
    home: Path

    @property
    def programs(self) -> Path:
        return self.home / "programs"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def state(self) -> Path:
        return self.home / "clusters" / self.name

    @property
    def lock(self) -> Path:
        return self.home / "clusters" / f"{self.name}.lock"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def shared(self) -> Path:
        """What all nodes have as their /tmp: volumes are in it."""
        return self.state / "shared"

    @property
    def kubeconfig(self) -> Path:
        return self.keys / "admin.kubeconfig"

    @property
    def bridge(self) -> str:
        return f"{self.name}-br"

    @property
    def host_address(self) -> str:
        return f"{self.network}.0.1"

    @property
    def services(self) -> str:
        return f"{self.network}.1.0/24"

    @property
    def api_service(self) -> str:
        return f"{self.network}.1.1"

    @property
    def dns_service(self) -> str:
        return f"{self.network}.1.10"

    @property
    def pods(self) -> str:
        return f"{self.network}.16.0/20"

    @property
    def registry(self) -> str:
        """The registry's address, which is its name in references to images too."""
        return f"{self.control.address}:5000"

    @property
    def control(self) -> Node:
        """The node with the API, the registry and the gateway."""
        return self.node(0)

    def node(self, number: int) -> Node:
        return Node(layout=self, number=number)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node's names, addresses and folders."""

    layout: Layout
    number: int

    @property
    def name(self) -> str:
        return f"{self.layout.name}-{self.number}"

    @property
    def address(self) -> str:
        return f"{self.layout.network}.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"{self.layout.network}.{16 + self.number}.0/24"

    @property
    def folder(self) -> Path:
        return self.layout.state / f"node-{self.number}"

    def log(self, part: str) -> Path:
        return self.layout.logs / f"{part}-{self.number}.log"


def layout(environ: Mapping[str, str] = os.environ) -> Layout:
    """Return the cluster that the environment names, or the usual one.

    Raises Unusable for a name, a network or a folder that a cluster cannot have.
    """
    name = environ.get("INSTAR_CLUSTER_NAME", NAME)
    network = environ.get("INSTAR_CLUSTER_NETWORK", NETWORK)
    home = Path(environ.get("INSTAR_CLUSTER_HOME", HOME))
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", name):
        raise Unusable(f"INSTAR_CLUSTER_NAME: {name!r} must be 2 to 12 small letters, digits and dashes")
    if not re.fullmatch(r"\d{1,3}\.\d{1,3}", network) or not all(int(part) < 256 for part in network.split(".")):
        raise Unusable(f"INSTAR_CLUSTER_NETWORK: {network!r} must be the first half of an address, such as {NETWORK}")
    if not home.is_absolute() or any(home.resolve().is_relative_to(folder) for folder in _HIDDEN):
        raise Unusable(f"INSTAR_CLUSTER_HOME: {home} must be an absolute path that is not below {', '.join(_HIDDEN)}")
    return Layout(name=name, network=network, home=home)
