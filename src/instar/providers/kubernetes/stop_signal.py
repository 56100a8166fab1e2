"""Another signal than SIGTERM tells pods to end: by the field that newer clusters have for it, where theirs is in use.

It is behind a gate there, and an API server whose gate is shut takes what is said, and forgets it. So it is asked, by
something that is not made. What a node's kubelet does with it nobody can ask: it has the same gate.

Source: Kubernetes, KEP-4960, Lifecycle.stopSignal; it needs ``spec.os``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.model.definition import Service
from instar.model.digest import Digest
from instar.model.reference import Reference
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import DEPLOYMENT
from instar.providers.kubernetes.settings import Place

USUAL: Final = "SIGTERM"
_NAME: Final = "instar-asks"  # of what is never made


def with_signal(lifecycle: Mapping[str, Any], signal: str) -> Mapping[str, Any]:
    """Return what a container has as its life cycle that ends by ``signal``."""
    return lifecycle if signal == USUAL else {**lifecycle, "stopSignal": signal}


def require_signals(api: Api, environment: EnvironmentId, place: Place, services: Sequence[Service]) -> None:
    """Raise Refused where services end by a signal that the cluster would not keep; nothing is made."""
    wanted = sorted({one.stop.signal for one in services} - {USUAL})
    if not wanted:
        return
    told = f"cannot run '{environment}' on this cluster: it would say {USUAL} to its pods, and not {wanted[0]}"
    hint = (
        "its API server and its nodes need the feature gate ContainerStopSignals (Kubernetes 1.33 or newer); else have "
        f"the service end by {USUAL}, and take 'stop.signal' out"
    )
    try:
        kept = api.create(DEPLOYMENT, place.namespace, _asking(wanted[0], place), dry=True)
    except ProviderError as error:
        if error.retry_after_s is not None:
            raise
        raise Refused(f"{told} ({error.message})", hint=hint) from error
    containers = (((kept.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers") or [{}]
    if (containers[0].get("lifecycle") or {}).get("stopSignal") != wanted[0]:
        raise Refused(f"{told}: it has no use for the field 'stopSignal'", hint=hint)


def _asking(signal: str, place: Place) -> Mapping[str, Any]:
    labels, image = {"app": _NAME}, str(Reference(repository=place.registry, digest=Digest.of(b"")))
    container = {"name": "asks", "image": image, "lifecycle": {"stopSignal": signal}}
    template = {"metadata": {"labels": labels}, "spec": {"os": {"name": "linux"}, "containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    kinds = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name}
    return {**kinds, "metadata": {"name": _NAME}, "spec": spec}
