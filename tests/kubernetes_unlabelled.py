"""What somebody may try with the labels of an environment's objects, so that nothing goes by them any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from instar.providers.kubernetes import names
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD, ROUTE, SERVICE, SLICE
from instar.providers.kubernetes.names import GROUP, MANAGED_BY, POD_TEMPLATE, TAINTED

BEHIND = "kubernetes.io/service-name"


def unlabelled(api: Api, where: str, pod: str) -> Mapping[str, Callable[[], Any]]:
    """Return what takes an object from under the policy, or from under a selector, by its labels alone."""
    kinds = {POD: pod, ROUTE: "shop-prod", **dict.fromkeys((DEPLOYMENT, SERVICE, CONFIG_MAP), "shop-prod-1-1")}
    gone = dict.fromkeys((MANAGED_BY, names.SERVICE))
    labels = {**gone, names.ENVIRONMENT: "other", names.RELEASE: "9", TAINTED: "shop-prod-1-1", "instar/to-a.b": "x"}
    (ends,) = api.list(SLICE, where, {BEHIND: "shop-prod-1-1"})
    tried = [(kind, name, label, value) for kind, name in kinds.items() for label, value in labels.items()]
    tried += [(POD, pod, GROUP, None), (POD, pod, POD_TEMPLATE, None), (SLICE, ends["metadata"]["name"], BEHIND, None)]
    return {
        f"{label} of a {kind.name}": partial(api.merge, kind, where, name, {"metadata": {"labels": {label: value}}})
        for kind, name, label, value in tried
    }
