"""The programs that a cluster consists of, and how each is started: argument lists, and nothing that acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clusters.layout import Node, Unusable

ON_EVERY_NODE = ("containerd", "kubelet", "kube-proxy")
ON_CONTROL = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "docker-registry",
    "coredns",
    "contour",
    "envoy",
)
SNAPSHOTTING = ("csi-snapshotter", "snapshot-controller")
STORAGE_DRIVER = "csi-driver"
METRICS, METRICS_PORT = "metrics-server", 4443
ON_DEMAND = ("kwok", METRICS, *SNAPSHOTTING)  # on the control node, by whoever needs it; the driver on each
GATEWAY_HTTP, GATEWAY_HTTPS = 8080, 8443  # where the gateway's listeners 80 and 443 are found
ENVOY_ADMIN = "/run/envoy-admin.sock"
CONTAINERD = "/run/containerd/containerd.sock"
_CSI = "/run/csi.sock"
NODE_IS_LOST_S = 40  # as long as the engine takes unless told otherwise, or nearly: a busy machine is not a lost one
FEATURE_GATES = {"ContainerStopSignals": True}  # of the API server and of each node: alpha, and of use to `stop.signal`
SIMULATED = "instar.test/simulated"


def parts_of(node: Node) -> Sequence[str]:
    """Return what runs on a node, in the order in which it starts."""
    return (*ON_CONTROL, *ON_EVERY_NODE) if node.number == 0 else ON_EVERY_NODE


def argv(node: Node, part: str) -> list[str]:
    """Return how a part of a node is started. Raises Unusable when it has no such part."""
    demanded = part == STORAGE_DRIVER or (part in ON_DEMAND and node.number == 0)
    if part not in parts_of(node) and not demanded:
        raise Unusable(f"node {node.number} has no part '{part}'; it has {', '.join(parts_of(node))}")
    return [program(node, part), *_ARGUMENTS[part](node)]


def program(node: Node, part: str) -> str:
    """Return a part's program, by which its process is known too."""
    return "/usr/bin/docker-registry" if part == "docker-registry" else str(node.layout.programs / part)


def bootstrap_envoy(node: Node) -> list[str]:
    """Return how the file is written by which Envoy finds its control plane."""
    xds = ["--xds-address", "127.0.0.1", "--xds-port", "8001", "--admin-address", ENVOY_ADMIN]
    return [program(node, "contour"), "bootstrap", str(node.folder / "envoy.json"), *xds]


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def _etcd(node: Node) -> list[str]:
    keys, client, peer = node.layout.keys, "https://127.0.0.1:2379", "http://127.0.0.1:2380"
    flags = {
        "name": node.layout.name,
        "data-dir": node.layout.state / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{node.layout.name}={peer}",
        "cert-file": keys / "etcd.crt",
        "key-file": keys / "etcd.key",
        "client-cert-auth": "true",
        "trusted-ca-file": keys / "etcd-ca.crt",
        "unsafe-no-fsync": "true",  # a cluster of tests needs to survive no loss of power
    }
    return _flags(flags)


def _api_server(node: Node) -> list[str]:
    layout, keys = node.layout, node.layout.keys
    flags = {
        "etcd-servers": "https://127.0.0.1:2379",
        "etcd-cafile": keys / "etcd-ca.crt",
        "etcd-certfile": keys / "apiserver-etcd.crt",
        "etcd-keyfile": keys / "apiserver-etcd.key",
        "bind-address": "0.0.0.0",
        "advertise-address": node.address,
        "secure-port": 6443,
        "allow-privileged": "true",
        "feature-gates": ",".join(f"{name}={str(on).lower()}" for name, on in FEATURE_GATES.items()),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",  # as some clusters have
        "client-ca-file": keys / "ca.crt",
        "tls-cert-file": keys / "apiserver.crt",
        "tls-private-key-file": keys / "apiserver.key",
        "kubelet-certificate-authority": keys / "ca.crt",
        "kubelet-client-certificate": keys / "apiserver-kubelet.crt",
        "kubelet-client-key": keys / "apiserver-kubelet.key",
        "kubelet-preferred-address-types": "InternalIP,Hostname",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": keys / "service-accounts.pub",
        "service-account-signing-key-file": keys / "service-accounts.key",
        "service-cluster-ip-range": layout.services,
        "requestheader-client-ca-file": keys / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": keys / "front-proxy-client.crt",
        "proxy-client-key-file": keys / "front-proxy-client.key",
        "audit-policy-file": layout.state / "audit-policy.json",
        "audit-log-path": layout.logs / "audit.log",
    }
    return _flags(flags)


def _as_user(node: Node, name: str) -> dict[str, object]:
    file = node.layout.keys / f"{name}.kubeconfig"
    return {"kubeconfig": file, "authentication-kubeconfig": file, "authorization-kubeconfig": file}


_OFTEN = {"kube-api-qps": 200, "kube-api-burst": 400}  # a thousand pods would take them a minute


def _controller_manager(node: Node) -> list[str]:
    keys = node.layout.keys
    flags = {
        **_as_user(node, "kube-controller-manager"),
        "root-ca-file": keys / "ca.crt",
        "service-account-private-key-file": keys / "service-accounts.key",
        "use-service-account-credentials": "true",
        "cluster-signing-cert-file": keys / "ca.crt",
        "cluster-signing-key-file": keys / "ca.key",
        "node-monitor-grace-period": f"{NODE_IS_LOST_S}s",
        "flex-volume-plugin-dir": node.layout.state / "volume-plugins",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        **_OFTEN,
    }
    return _flags(flags)


def _scheduler(node: Node) -> list[str]:
    alone = {"bind-address": "127.0.0.1", "leader-elect": "false"}
    return _flags({**_as_user(node, "kube-scheduler"), **alone, **_OFTEN})


def _kubelet(node: Node) -> list[str]:
    flags = {
        "config": node.folder / "kubelet.json",
        "kubeconfig": node.layout.keys / f"kubelet-{node.number}.kubeconfig",
        "root-dir": node.folder / "kubelet",
        "hostname-override": node.name,
        "node-ip": node.address,
    }
    return _flags(flags)


def _contour(node: Node) -> list[str]:
    return [
        "serve",
        "--insecure",  # between the two on loopback
        "--disable-leader-election",
        *_flags(
            {
                "kubeconfig": node.layout.kubeconfig,
                "config-path": node.folder / "contour.json",
                "xds-address": "127.0.0.1",
                "xds-port": 8001,
                "http-address": "127.0.0.1",
                "health-address": "127.0.0.1",
                "envoy-http-access-log": access_log(node),
                "envoy-https-access-log": access_log(node),
                "envoy-service-http-port": GATEWAY_HTTP,
                "envoy-service-https-port": GATEWAY_HTTPS,
                "ingress-status-address": node.address,
            }
        ),
    ]


def access_log(node: Node) -> Path:
    """Return where the gateway writes which requests it has answered with 5xx, and why (configuration.py)."""
    return node.layout.logs / f"envoy-{node.number}-access.log"


def _envoy(node: Node) -> list[str]:
    identity = ["--service-cluster", "contour", "--service-node", node.name]
    return ["-c", str(node.folder / "envoy.json"), *identity, "--concurrency", "1", "--disable-hot-restart"]


def _kwok(node: Node) -> list[str]:
    flags = {
        "kubeconfig": node.layout.kubeconfig,
        "config": node.layout.programs / "resources/kwok.yaml",
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": f"{SIMULATED}=yes",
        "node-ip": node.address,
        "cidr": "198.18.0.1/16",  # of pods that are not there
        "node-lease-duration-seconds": 2 * NODE_IS_LOST_S,  # renewed each quarter of it: 0, as it is, and they are lost
    }
    return _flags(flags)


def _metrics_server(node: Node) -> list[str]:
    config = node.layout.kubeconfig
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "secure-port": METRICS_PORT,
        "cert-dir": "/tmp/metrics-server",
        "kubelet-certificate-authority": node.layout.keys / "ca.crt",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-request-timeout": "5s",
        "metric-resolution": "10s",
    }
    return _flags(flags)


def _storage_driver(node: Node) -> list[str]:
    flags = {
        "folder": "/tmp/csi",  # which all nodes share
        "node": node.name,
        "endpoint": _CSI,
        "registration": node.folder / "kubelet/plugins_registry/folders.sock",
    }
    provisions = {"kubeconfig": node.layout.kubeconfig} if node.number == 0 else {}
    return _flags({**flags, **provisions})


_ARGUMENTS: Mapping[str, Callable[[Node], list[str]]] = {
    "etcd": _etcd,
    "kube-apiserver": _api_server,
    "kube-controller-manager": _controller_manager,
    "kube-scheduler": _scheduler,
    "docker-registry": lambda node: ["serve", str(node.folder / "registry.json")],
    "coredns": lambda node: ["-conf", str(node.folder / "Corefile")],
    "contour": _contour,
    "envoy": _envoy,
    "kwok": _kwok,
    METRICS: _metrics_server,
    "csi-driver": _storage_driver,
    "csi-snapshotter": lambda node: _flags({"kubeconfig": node.layout.kubeconfig, "csi-address": _CSI}),
    "snapshot-controller": lambda node: _flags({"kubeconfig": node.layout.kubeconfig}),
    "containerd": lambda node: ["--config", str(node.folder / "containerd.toml")],
    "kubelet": _kubelet,
    "kube-proxy": lambda node: ["--config", str(node.folder / "kube-proxy.json")],
}
