"""``instar drift``: is what runs what was baked? Changes nothing, and waits for nobody."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Literal

from instar.drift.check import Checked, check
from instar.drift.seals import Seals
from instar.errors import LedgerError, NotFound, StoreError
from instar.host import locks
from instar.model.digest import Digest
from instar.model.release import EnvironmentState, Place
from instar.operations.parts import Parts, place_lock, require_root


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """``blobs``: what keeps the bytes of layers as they are. "immutable": the file system refuses every write to
    them; "hashed": a write is found, and not prevented."""

    checked: Checked
    seconds: float
    blobs: Literal["immutable", "hashed"]


def drift(parts: Parts, state: EnvironmentState, instance: str | None = None, *, deep: bool = False) -> DriftReport:
    """Check an environment, or one ``instance`` of it. Raises NotFound, NotRoot.

    The router's traffic is held against the ledger only where nobody acts on the environment just then.
    """
    require_root("drift", "it looks into processes, mounts and namespaces")
    if instance is not None and instance not in {one.id for one in parts.ledger.instances(state.place)}:
        raise NotFound(
            f"cannot find '{instance}' in '{state.place}': there is no such instance now",
            hint=f"instar status {state.place} shows those that are there",
        )
    began = time.monotonic()
    provider = parts.provider(state.settings.provider)
    before = _resting(parts, state.place)
    seals = Seals(parts.state.sealed)
    where = (parts.ledger, parts.store, seals, provider, state)
    checked = check(*where, instance=instance, deep=deep, at_rest=before is not None)
    if before is not None and before != _resting(parts, state.place):  # somebody came: what it saw of traffic is stale
        checked = check(*where, instance=instance, deep=deep, at_rest=False)
    return DriftReport(checked=checked, seconds=time.monotonic() - began, blobs=guarantee(parts, state.place))


def guarantee(parts: Parts, place: Place) -> Literal["immutable", "hashed"]:
    """Return what keeps the layers of what runs in ``place`` as they were baked."""
    images = {parts.ledger.get_release(place, one.release).image for one in parts.ledger.instances(place)}
    layers: set[Digest] = set()
    for digest in images:
        with contextlib.suppress(LedgerError, StoreError):
            layers |= {layer.diff_id for layer in parts.store.image(digest).layers}
    return "immutable" if layers and all(parts.layers.is_immutable(one) for one in layers) else "hashed"


def _resting(parts: Parts, place: Place) -> int | None:
    """Return the number of the last event if nobody acts on ``place`` now, else None. Takes no lock: a deploy that
    comes meanwhile is not to be told that somebody is there."""
    if locks.find_holder(place_lock(parts, place)) is not None:
        return None
    (last,) = parts.ledger.history(last=1) or (None,)
    return last.seq if last is not None else 0
