"""Whether a cluster has nodes that an image is for: looked at before pods are made, and said; it keeps nobody from it.

An autoscaler of nodes may have none of a kind just now, and make one when a pod waits for it.
"""

from __future__ import annotations

from typing import Final

from instar.errors import InstarError
from instar.model.image import Image
from instar.providers.kubernetes.api import METADATA, Api
from instar.providers.kubernetes.kinds import NODE
from instar.providers.kubernetes.pod import ARCHITECTURE

_SHOWN: Final = 5


def architecture_warning(api: Api, image: Image) -> str | None:
    """Say that no node has the architecture of an image; None: one has, or that is not known. Whoever may not look at
    nodes, and a cluster that does not answer now, is not told of it."""
    try:
        found, _ = api.listed(NODE, None, {}, accept=METADATA)
    except InstarError:
        return None
    labels = ((one.get("metadata") or {}).get("labels") or {} for one in found)
    there = {str(one[ARCHITECTURE]) for one in labels if ARCHITECTURE in one}
    wanted = image.config.architecture
    if not there or wanted in there:
        return None
    has = ", ".join(sorted(there)[:_SHOWN])
    return (
        f"the image is for {wanted}, and the cluster's nodes are {has}: its pods wait until there is one of that kind"
    )
