"""How objects of a group are made: once, under the lease that whoever makes them has."""

from __future__ import annotations

import contextlib

from instar.errors import InstarError, LeaseLost
from instar.model.release import Instance
from instar.providers.kubernetes import preflight
from instar.providers.kubernetes.answers import AlreadyExists
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.comparison import require_as_made
from instar.providers.kubernetes.fence import Fence, number_of
from instar.providers.kubernetes.kinds import CONFIG_MAP, JOB, Kind
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.occurrences import is_of_same_occurrence


def make(
    api: Api,
    fence: Fence,
    names: Names,
    namespace: str,
    kind: Kind,
    wanted: Object,
    group: Instance | None = None,
) -> Object:
    """Make an object, or return the one of that name, if it is ours: a Job, too, by which somebody began the same
    occurrence as ``group``. Raises Refused where it is somebody else's."""
    patient, metadata = preflight.patient(api), wanted["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **fence.annotations}
    if annotations:
        wanted = {**wanted, "metadata": {**metadata, "annotations": annotations}}
    try:
        return patient.create(kind, namespace, wanted)
    except AlreadyExists:
        found = patient.find(kind, namespace, wanted["metadata"]["name"])
        if found is None:
            raise
        names.require_own(kind.name, found)
        if kind != JOB or group is None or not is_of_same_occurrence(found, group):
            require_as_made(kind, wanted, found)
        return found


def require_newest(api: Api, fence: Fence, namespace: str, root: Object) -> None:
    """Raise LeaseLost where an anchor was made under a lease that has ended meanwhile: it goes again, and nobody has
    seen anything of it."""
    try:
        fence.require()
    except LeaseLost:
        if number_of(root) == (fence.held.number if fence.held else 0):
            with contextlib.suppress(InstarError):
                api.delete(CONFIG_MAP, namespace, root["metadata"]["name"], only=root)
        raise
