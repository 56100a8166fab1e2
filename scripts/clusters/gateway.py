"""What a cluster has from its start: names of Services, volumes, a gateway of the Gateway API (HTTP and TLS)."""

from __future__ import annotations

import base64
from typing import Any

from clusters.api import Api
from clusters.configuration import GATEWAY, VOLUMES
from clusters.layout import Layout
from clusters.parts import GATEWAY_HTTP, GATEWAY_HTTPS

_CLASS = "contour"


def dns_objects(layout: Layout) -> list[dict[str, Any]]:
    """Return the Service by which pods find CoreDNS, which is no pod but a process of the control node."""
    name = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    slice_name = {**name, "labels": {"kubernetes.io/service-name": "kube-dns"}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"clusterIP": layout.dns_service, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": slice_name,
            "addressType": "IPv4",
            "endpoints": [{"addresses": [layout.control.address]}],
            "ports": ports,
        },
    ]


def storage_objects() -> list[dict[str, Any]]:
    """Return folders that all nodes have as volumes, each for one claim, and the storage class that gives them out."""
    name = "folders"
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "storageClassName": name,
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": f"/tmp/{volume}", "type": "Directory"},
            },
        }
        for volume in VOLUMES
    ]
    return [storage_class, *volumes]


def gateway_objects(layout: Layout) -> list[dict[str, Any]]:
    """Return the gateway: its certificate is the cluster's authority's, for names in cluster.test."""
    from_all = {"namespaces": {"from": "All"}}
    certificate = {"name": "gateway-certificate", "namespace": GATEWAY["namespace"]}
    tls = {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": certificate["name"]}]}
    listeners = [
        {"name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": from_all},
        {"name": "https", "protocol": "HTTPS", "port": 443, "allowedRoutes": from_all, "tls": tls},
    ]
    files = {f"tls.{end}": layout.keys / f"gateway.{end}" for end in ("crt", "key")}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY["namespace"]}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": certificate,
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()},
        },
        *_door_objects(layout),
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": _CLASS},
            "spec": {"controllerName": "projectcontour.io/gateway-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": GATEWAY,
            "spec": {"gatewayClassName": _CLASS, "listeners": listeners},
        },
    ]


def _door_objects(layout: Layout) -> list[dict[str, Any]]:
    """Return the Service that passes the listeners' ports on to Envoy, as in front of most gateways: it listens on
    others, and the Gateway's status says this one's address."""
    name = {"name": "envoy", "namespace": GATEWAY["namespace"]}
    ports = {"http": (80, GATEWAY_HTTP), "https": (443, GATEWAY_HTTPS)}
    shown = [{"name": one, "port": port, "targetPort": inner} for one, (port, inner) in ports.items()]
    inner_ports = [{"name": one, "port": inner, "protocol": "TCP"} for one, (_, inner) in ports.items()]
    address = layout.control.address
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"externalIPs": [address], "ports": shown},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**name, "labels": {"kubernetes.io/service-name": "envoy"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": inner_ports,
        },
    ]


def apply_resources(api: Api) -> None:
    """Tell the API of the kinds of objects that gateways are made of, and wait until it knows them."""
    folder = api.layout.programs / "resources"
    files = [word for name in ("gateway-api", "contour") for word in ("-f", str(folder / f"{name}.yaml"))]
    api.kubectl("apply", "--server-side", *files)
    api.kubectl("wait", "--for", "condition=Established", "crd", "--all", "--timeout", "30s")


def find_gateway(api: Api) -> Any:
    """Return the gateway as the API has it, or None."""
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{GATEWAY['namespace']}/gateways/{GATEWAY['name']}"
    return api.find(path)
