"""Keeps out who acted on an environment before: its objects carry the number of the ledger's lease.

The ledger is asked before every call of the provider; who is stopped between that and its write would still write. The
API has no transaction over several objects, but it refuses a write to an object that was changed since it was read. So
whoever has a lease *claims* the environment in the cluster before it looks at it: the number goes into a Lease
(coordination.k8s.io) of the environment, and then into an annotation of every object that an older holder could change
or delete. What an older one read before that is another version by now; what it reads afterwards names a higher number.
A process that had the lease last, and has it again, is no danger to itself: it claims at its first write, if there is
one, so that an agent that finds all as wanted writes nothing.

A group's anchor cannot be held against a version, for it is new: after it was made the Lease is read again. Everything
else of a group is owned by that very anchor, and goes with it.

Where a ledger is one machine's own there is no number: its lock keeps an older holder out until it has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from instar.errors import LeaseLost
from instar.model.lease import HeldLease
from instar.providers.kubernetes.answers import AlreadyExists, Changed
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import CONFIG_MAP, LEASE, VOLUME_CLAIM, Kind
from instar.providers.kubernetes.names import ANCHOR, FIRST_PART, LEASE_NUMBER, PART, Names
from instar.providers.kubernetes.parts import Parts
from instar.providers.kubernetes.settings import Place

_TRIES: Final = 5


class Fence:
    """Of one environment, and the lease on it that this process has: None where the ledger gives none."""

    def __init__(self, api: Api, names: Names, place: Place, held: HeldLease | None) -> None:
        self.held = held
        self._api = api
        self._names = names
        self._place = place
        self._claimed = self._looked = held is None
        self._guard = threading.Lock()

    @property
    def annotations(self) -> Mapping[str, str]:
        """What objects carry that are made under this lease."""
        return {} if self.held is None else {LEASE_NUMBER: str(self.held.number)}

    def claim(self) -> bool:
        """Have every object say that this lease is the one; return whether any may have changed by that. It is done
        once, before the first write. Raises LeaseLost where a newer one has claimed it."""
        with self._guard:
            if self._claimed or self.held is None:
                return False
            self._take(self.held)
            for kind, found in self._written():
                self._stamp(kind, found, self.held)
            self._claimed = True
            return True

    def require_claimed(self) -> None:
        """Claim it, or ask whether it is claimed still: before a write to what carries no number, such as a pod.
        Raises LeaseLost."""
        if not self.claim():
            self.require()

    def look(self) -> None:
        """Claim it now, unless this very process is the one that had it last. Raises LeaseLost."""
        with self._guard:
            if self._looked or self.held is None:
                return
            found = self._api.find(LEASE, self._place.namespace, self._names.lease)
            spec = (found or {}).get("spec") or {}
            self._looked = spec.get("holderIdentity") == self.held.holder and _number(spec) <= self.held.number
        self._looked = self._looked or self.claim()

    def admit(self, found: Object | None) -> None:
        """Raise LeaseLost for an object that was claimed under a newer lease, or is gone (None) by its doing. That the
        Lease has the last word lets somebody begin anew whose ledger was put back from a copy, and counts from less."""
        if self.held is None or not self._claimed:  # to claim it comes before each write, and asks too
            return
        if found is None or number_of(found) > self.held.number:
            self.require()

    def require(self) -> None:
        """Raise LeaseLost unless the cluster, asked now, says that this lease is the newest."""
        if self.held is None:
            return
        found = self._api.find(LEASE, self._place.namespace, self._names.lease)
        if found is None or _number(found.get("spec")) != self.held.number:
            raise self._lost(found, self.held)

    def remove(self) -> None:
        """Take the Lease away, as the last thing of an environment."""
        if self.held is not None:
            self._api.delete(LEASE, self._place.namespace, self._names.lease)

    def _take(self, held: HeldLease) -> None:
        for last in (*[False] * (_TRIES - 1), True):
            try:
                found = self._api.find(LEASE, self._place.namespace, self._names.lease)
                if found is None:
                    self._api.create(LEASE, self._place.namespace, self._lease(held))
                    return
                self._names.require_own(LEASE.name, found)
                if _number(found.get("spec")) > held.number:
                    raise self._lost(found, held)
                version = found["metadata"].get("resourceVersion")
                changes = {"metadata": {"resourceVersion": version}, "spec": _said(held)}
                if self._api.merge(LEASE, self._place.namespace, self._names.lease, changes):
                    return
            except (AlreadyExists, Changed):  # two at once: which of them is newer is seen now
                if last:
                    raise

    def _lease(self, held: HeldLease) -> Object:
        metadata = {"name": self._names.lease, "labels": dict(self._names.all_labels)}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": _said(held)}

    def _written(self) -> Iterator[tuple[Kind, Object]]:
        """Yield what is there that is changed, or deleted, by its name."""
        namespace, labels = self._place.namespace, self._names.labels
        yield from ((CONFIG_MAP, one) for one in self._api.list(CONFIG_MAP, namespace, {**labels, PART: ANCHOR}))
        yield from ((VOLUME_CLAIM, one) for one in self._api.list(VOLUME_CLAIM, namespace, labels))
        parts = Parts(self._names, self._place)
        first = self._api.find(parts.kind(FIRST_PART), namespace, parts.name(FIRST_PART))
        if first is None or not self._names.owns(first):
            return
        yield parts.kind(FIRST_PART), first
        for part in parts.further(first):
            found = self._api.find(parts.kind(part), namespace, parts.name(part))
            if found is not None and self._names.owns(found):
                yield parts.kind(part), found

    def _stamp(self, kind: Kind, found: Object | None, held: HeldLease) -> None:
        for last in (*[False] * (_TRIES - 1), True):
            if found is None or number_of(found) == held.number:
                return
            metadata = found["metadata"]
            changes = {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": self.annotations}}
            try:
                self._api.merge(kind, self._place.namespace, metadata["name"], changes)
                return
            except Changed:
                if last:
                    raise
            self.require()
            found = self._api.find(kind, self._place.namespace, metadata["name"])

    def _lost(self, found: Object | None, held: HeldLease) -> LeaseLost:
        spec = (found or {}).get("spec") or {}
        by = f"number {_number(spec)}, of {spec.get('holderIdentity')}" if found else "none: it was removed meanwhile"
        environment, namespace = self._names.environment, self._place.namespace
        again = f"kubectl delete lease {self._names.lease} -n {namespace}"
        return LeaseLost(
            f"cannot go on with '{environment}': its lease has ended meanwhile: this one is number {held.number}, and "
            f"the cluster knows {by}",
            hint=f"nothing was written there since; see where it is: instar status {environment}. If the ledger was "
            f"put back from a copy, it counts from less, and nobody else works there: {again}",
        )


def number_of(found: Object) -> int:
    """Return the number of the lease that an object was claimed under last, 0 where it says none."""
    text = str(((found.get("metadata") or {}).get("annotations") or {}).get(LEASE_NUMBER) or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _number(spec: Any) -> int:
    found = spec.get("leaseTransitions") if isinstance(spec, Mapping) else None
    return found if isinstance(found, int) else 0


def _said(held: HeldLease) -> Mapping[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"holderIdentity": held.holder, "leaseTransitions": held.number, "acquireTime": now}
