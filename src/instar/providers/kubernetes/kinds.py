"""The kinds of objects that are asked for, and where the API has them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of object. ``group`` "" is the core's; ``namespaced``: it is in a namespace."""

    name: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, part: str | None = None) -> str:
        """Return where the API has them, one of them (``name``), or a ``part`` of it ("log")."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None and self.namespaced else ""
        one = f"/{quote(name, safe='')}" if name is not None else ""
        return f"{root}{inside}/{self.plural}{one}{f'/{part}' if part else ''}"


CONFIG_MAP: Final = Kind(name="ConfigMap", plural="configmaps")
SECRET: Final = Kind(name="Secret", plural="secrets")
SERVICE: Final = Kind(name="Service", plural="services")
POD: Final = Kind(name="Pod", plural="pods")
EVENT: Final = Kind(name="Event", plural="events")
VOLUME_CLAIM: Final = Kind(name="PersistentVolumeClaim", plural="persistentvolumeclaims")
VOLUME_SNAPSHOT: Final = Kind(name="VolumeSnapshot", plural="volumesnapshots", group="snapshot.storage.k8s.io")
SNAPSHOT_CLASS: Final = Kind(
    name="VolumeSnapshotClass", plural="volumesnapshotclasses", group="snapshot.storage.k8s.io", namespaced=False
)
STORAGE_CLASS: Final = Kind(name="StorageClass", plural="storageclasses", group="storage.k8s.io", namespaced=False)
NODE: Final = Kind(name="Node", plural="nodes", namespaced=False)
NAMESPACE: Final = Kind(name="Namespace", plural="namespaces", namespaced=False)
DEPLOYMENT: Final = Kind(name="Deployment", plural="deployments", group="apps")
JOB: Final = Kind(name="Job", plural="jobs", group="batch")
BUDGET: Final = Kind(name="PodDisruptionBudget", plural="poddisruptionbudgets", group="policy")
AUTOSCALER: Final = Kind(
    name="HorizontalPodAutoscaler", plural="horizontalpodautoscalers", group="autoscaling", version="v2"
)
POLICY: Final = Kind(name="NetworkPolicy", plural="networkpolicies", group="networking.k8s.io")
SLICE: Final = Kind(name="EndpointSlice", plural="endpointslices", group="discovery.k8s.io")
GATEWAY: Final = Kind(name="Gateway", plural="gateways", group="gateway.networking.k8s.io")
ROUTE: Final = Kind(name="HTTPRoute", plural="httproutes", group="gateway.networking.k8s.io")
GRPC_ROUTE: Final = Kind(name="GRPCRoute", plural="grpcroutes", group="gateway.networking.k8s.io")
TLS_ROUTE: Final = Kind(name="TLSRoute", plural="tlsroutes", group="gateway.networking.k8s.io")
TCP_ROUTE: Final = Kind(name="TCPRoute", plural="tcproutes", group="gateway.networking.k8s.io")
LEASE: Final = Kind(name="Lease", plural="leases", group="coordination.k8s.io")
POD_METRICS: Final = Kind(name="PodMetrics", plural="pods", group="metrics.k8s.io", version="v1beta1")
ACCESS_REVIEW: Final = Kind(
    name="SelfSubjectAccessReview", plural="selfsubjectaccessreviews", group="authorization.k8s.io", namespaced=False
)
RULES_REVIEW: Final = Kind(
    name="SelfSubjectRulesReview", plural="selfsubjectrulesreviews", group="authorization.k8s.io", namespaced=False
)
