"""The files that the parts of a cluster read, written where they differ. What is JSON here is read as YAML there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters.images import PAUSE
from clusters.layout import Layout, Node
from clusters.parts import CONTAINERD, FEATURE_GATES

VOLUMES = [f"volume-{number}" for number in range(32)]
GATEWAY = {"name": "public", "namespace": "gateways"}


def write_cluster(layout: Layout) -> None:
    """Write what belongs to the whole cluster, and what the parts on its control node read."""
    node = layout.control
    node.folder.mkdir(parents=True, exist_ok=True)
    _write(layout.state / "audit-policy.json", _audit_policy())
    for folder in (layout.shared, *(layout.shared / volume for volume in VOLUMES)):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)  # pods are not root
    _write(node.folder / "registry.json", _registry(layout))
    _write(node.folder / "contour.json", _contour())
    _write_text(node.folder / "Corefile", _corefile(node))
    for name in (layout.registry, "registry.test"):
        folder = layout.state / "registries" / name
        folder.mkdir(parents=True, exist_ok=True)
        address = f"http://{layout.registry}"
        hosts = f'server = "{address}"\n[host."{address}"]\n  capabilities = ["pull", "resolve"]\n'
        _write_text(folder / "hosts.toml", hosts)


def write_node(node: Node) -> None:
    """Write what the parts on every node read."""
    (node.folder / "cni").mkdir(parents=True, exist_ok=True)
    _write_text(node.folder / "containerd.toml", _containerd(node))
    _write_text(node.folder / "resolv.conf", "")
    _write(node.folder / "cni/10-pods.conflist", _pod_network(node))
    _write(node.folder / "kubelet.json", _kubelet(node))
    _write(node.folder / "kube-proxy.json", _proxy(node))


def _write(file: Path, value: Mapping[str, Any]) -> None:
    _write_text(file, json.dumps(value, indent=1) + "\n")


def _write_text(file: Path, text: str) -> None:
    """Write a file whole, if it says something else: kube-proxy ends itself when its own is only touched."""
    if file.exists() and file.read_text() == text:
        return
    draft = file.with_name(f".{file.name}")
    draft.write_text(text)
    draft.replace(file)


def _audit_policy() -> dict[str, Any]:
    """Write down who asked for what, but for what the cluster's own parts ask of one another all the time."""
    own_parts = {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]}
    own_users = {"level": "None", "users": [f"system:{name}" for name in _OWN_USERS]}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [own_parts, own_users, {"level": "Metadata"}],
    }


_OWN_USERS = ("apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


def _registry(layout: Layout) -> dict[str, Any]:
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.state / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": layout.registry},
    }


def _contour() -> dict[str, Any]:
    """Have answers of 5xx alone written down, with Envoy's own words for why."""
    said = {"accesslog-level": "critical", "accesslog-format-string": _ACCESS}
    return {"gateway": {"gatewayRef": GATEWAY}, **said}


_ACCESS = (
    "%START_TIME% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
    '"%REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)%" '
    "%UPSTREAM_CLUSTER% %UPSTREAM_HOST% from %UPSTREAM_LOCAL_ADDRESS% after %DURATION% ms, "
    "failure %UPSTREAM_TRANSPORT_FAILURE_REASON%\n"
)


def _corefile(node: Node) -> str:
    return f""".:53 {{
  bind {node.address}
  errors
  cache 5
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {node.layout.kubeconfig}
  }}
}}
"""


def _containerd(node: Node) -> str:
    return f"""version = 4
root = "{node.folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.server.v1.grpc"]
  address = "{CONTAINERD}"
[plugins."io.containerd.server.v1.ttrpc"]
  address = "{CONTAINERD}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{node.folder}/opt"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{node.layout.state}/registries"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{node.layout.programs}/cni"]
  conf_dir = "{node.folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def _pod_network(node: Node) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/pod-addresses",
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,  # nodes have routes to one another's pods
        "hairpinMode": True,
        "ipam": addresses,
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet(node: Node) -> dict[str, Any]:
    layout = node.layout
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.keys / f"kubelet-{node.number}.crt"),
        "tlsPrivateKeyFile": str(layout.keys / f"kubelet-{node.number}.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": FEATURE_GATES,
        "oomScoreAdj": 0,  # to lower it takes a capability that root of a container has not got
        "clusterDomain": "cluster.local",
        "clusterDNS": [layout.dns_service],
        "resolvConf": str(node.folder / "resolv.conf"),
        "volumePluginDir": str(layout.state / "volume-plugins"),
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 10,
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "500Mi", "imagefs.available": "500Mi"},
    }


def _proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.layout.keys / "kube-proxy.kubeconfig")},
        "hostnameOverride": node.name,
        "oomScoreAdj": 0,
        "mode": "nftables",
        "clusterCIDR": node.layout.pods,
        "nodePortAddresses": ["0.0.0.0/0"],
        "nftables": {"minSyncPeriod": "100ms"},  # an endpoint that is gone must be forgotten within a preStop
        "conntrack": {  # the machine's own sizes are not the cluster's to set
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
