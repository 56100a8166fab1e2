"""Whether a group's objects are what Instar made of them, as they tell by themselves: who wrote to them, and when.

They are made once and never changed. So whoever else has written to what one says has changed it, and so has who wrote
as Instar's field manager after it was made. How many pods there are may be somebody else's to say, and so may notes on
an object, which nothing runs by. What a rollout reads anyway is enough for that; whether every field is as it was made
is what drift looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from instar.providers.kubernetes.api import MANAGER
from instar.providers.kubernetes.kinds import DEPLOYMENT
from instar.providers.kubernetes.taking_back import listed, written_paths

Object = Mapping[str, Any]
_SAID: Final = frozenset(("spec", "data", "binaryData", "immutable", "type"))
_OF_OTHERS: Final = (("spec", "replicas"),)
_SAME_MOMENT: Final = timedelta(seconds=1)  # times of an object have no fractions


def altered(found: Object, anchor: Object | None = None) -> str | None:
    """Say who has changed an object since it was made, what of it, and when; None: nobody. ``anchor``: of whose group
    it is, which says which image its pods have."""
    return next(_told(found, anchor), None)


def _told(found: Object, anchor: Object | None) -> Iterator[str]:
    kind, metadata = str(found.get("kind")), found["metadata"]
    for entry in _entries_since(metadata):
        paths = [path for path in written_paths(entry) if path[0] in _SAID and path not in _OF_OTHERS]
        if paths:
            yield f"'{entry.get('manager')}' wrote {listed(paths)} of its {kind} at {entry.get('time')}"
    if not any(_own(metadata)) or _is_unexplained(found):
        yield f"its {kind} does not say any more who wrote to it: that was taken out of it by hand"
    image = ((anchor or {}).get("data") or {}).get("image")
    if kind == DEPLOYMENT.name and image is not None:
        containers = found["spec"]["template"]["spec"].get("containers") or ()
        others = [str(one.get("image")) for one in containers if not str(one.get("image")).endswith(f"@{image}")]
        if others:
            yield f"its Deployment says that its pods run '{others[0]}', and its release is another image"


def _own(metadata: Object) -> Iterator[Object]:
    return (entry for entry in _entries(metadata) if entry.get("manager") == MANAGER)


def _entries_since(metadata: Object) -> Iterator[Object]:
    """Yield what an object says of who has written to it since it was made. The engine writes to what they say of none
    of them, and whoever writes under a name of its is somebody else."""
    made_at = _time(metadata.get("creationTimestamp"))
    for entry in _entries(metadata):
        at = _time(entry.get("time"))
        is_late = made_at is not None and at is not None and at > made_at + _SAME_MOMENT
        if entry.get("manager") != MANAGER or is_late:
            yield entry


def _is_unexplained(found: Object) -> bool:
    """Tell whether what a Deployment says is not the first that it said, and nobody says that they wrote that: not even
    a number of pods, which an API server writes down nobody for when it is 0."""
    metadata = found["metadata"]
    if found.get("kind") != DEPLOYMENT.name or found["spec"].get("replicas") == 0:
        return False
    written = (written_paths(entry) for entry in metadata.get("managedFields") or () if entry.get("manager") != MANAGER)
    others = any(path[0] in _SAID for paths in written for path in paths)
    return (metadata.get("generation") or 1) > 1 and not others


def _entries(metadata: Object) -> Iterator[Object]:
    """Yield them but of subresources: its status, and its number of pods by ``scale``."""
    return (entry for entry in metadata.get("managedFields") or () if entry.get("subresource") is None)


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
