"""What volumes held at a time, kept by a cluster's own storage: VolumeSnapshots, and claims that are made of them.

Nothing waits for longer than one answer of the storage: what is not ready yet is said to be so (``retry_after_s``), and
who asks for the same again, in the same process, goes on with what was begun. What a killed one has begun, another one
removes and begins anew; but the snapshot for a rollout, which is gone on with: nothing was written since.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from instar.errors import (
    HalfDone,
    HostError,
    InstarError,
    NotFound,
    Refused,
)
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.kubernetes import beginnings, claims
from instar.providers.kubernetes import snapshot_objects as made_of
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.filling import Filling, uid_of
from instar.providers.kubernetes.kinds import VOLUME_CLAIM, VOLUME_SNAPSHOT
from instar.providers.kubernetes.names import (
    ENVIRONMENT,
    LAST_SNAPSHOT,
    LEDGER,
    REPLACED_BY,
    SERVICE,
    VOLUME,
    Names,
)
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.signing import Signing
from instar.providers.kubernetes.storage import snapshot_class, waits_for_pods

Key = tuple[object, ...]


class Cluster(Protocol):
    """What is asked of the volumes whose snapshots these are."""

    def places(self) -> Iterable[Place]: ...

    def place_of(self, environment: EnvironmentId) -> Place | None:
        """Return where an environment is; None of one that is gone."""

    def api_of(self, place: Place) -> Api: ...

    def ledger(self) -> str: ...

    def report(self, told: Progress) -> None: ...

    def require_lease(self, environment: EnvironmentId) -> None: ...

    def find_volume(self, environment: EnvironmentId, name: str) -> tuple[Place, Object] | None: ...

    @property
    def signing(self) -> Signing: ...


class ClusterSnapshots:
    """Implements providers.facets.Snapshots."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._begun: dict[Key, str] = {}  # what this process has begun to make, by what for: its uid
        self._filling = Filling(self._forget)
        self._unsigned: set[str] = set()  # of which it was said that they are left out

    def snapshots(self, environment: EnvironmentId | None = None) -> Iterator[VolumeSnapshot]:
        found = [made_of.volume_snapshot(one) for _, one in self._kept(environment)]
        yield from sorted(found, key=lambda one: (str(one.environment), one.volume, one.number))

    def _leave_out(self, place: Place, found: Object) -> None:
        """Warn, once, of what looks like a snapshot of Instar's, and counts for nothing."""
        why = beginnings.why_left_out(found, self._cluster.signing)
        if why and uid_of(found) not in self._unsigned:
            self._unsigned.add(uid_of(found))
            text = f"the VolumeSnapshot '{place.namespace}/{found['metadata']['name']}' is left out: {why}"
            self._cluster.report(Progress(stage="snapshot", text=text, kind="warning"))

    def shown(self, environment: EnvironmentId, name: str) -> AbstractContextManager[Path]:
        raise HostError(
            f"cannot read the volume '{name}' of '{environment}' on this machine: it is in a cluster",
            hint="back it up by the cluster's own means; what it holds now is kept by: instar volumes snapshot",
        )

    def copied_bytes(self, environment: EnvironmentId, name: str) -> int | None:
        """Nobody can tell; but where a storage keeps nothing, it is said now."""
        place, claim = self._volume(environment, name, "keep")
        snapshot_class(self._cluster.api_of(place), (claim.get("spec") or {}).get("storageClassName"))
        return None

    def free_bytes(self) -> None:
        return None

    def take_snapshot(
        self, environment: EnvironmentId, name: str, *, running: bool, cause: SnapshotCause | None = None
    ) -> VolumeSnapshot:
        place, claim = self._volume(environment, name, "keep")
        api, names = self._cluster.api_of(place), self._names(environment)
        key: Key = ("take", environment, name, cause)
        found = self._begun_snapshot(api, names, place, claim, name, key, cause)
        if found is None:
            self._require_storage(api, claim, environment, name)
            has = (claim.get("spec") or {}).get("storageClassName")
            by = snapshot_class(api, has, defined=cause is not None)
            self._cluster.require_lease(environment)
            number = self._next_number(api, names, place, name, claim)
            at = datetime.now(UTC).isoformat()
            taken = made_of.Taken(at=at, running=running, shape=made_of.Shape.of(claim), cause=cause)
            wanted = made_of.snapshot_object(names, name, number, taken, claim, by)
            found = self._begin(api, place, wanted)
            self._begun[key] = uid_of(found)
        ready = self._filling.ready(api, place, found, f"keep what the volume '{name}' of '{environment}' holds")
        made = made_of.volume_snapshot(ready)
        self._cluster.signing.require_signed(VOLUME_SNAPSHOT, ready)
        self._cluster.signing.sign(api, VOLUME_SNAPSHOT, place.namespace, ready, "whole")
        self._begun.pop(key, None)
        return made

    def restore_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        place, snapshot = self._snapshot(environment, name, number)
        api, names = self._cluster.api_of(place), self._names(environment)
        key: Key = ("restore", environment, name, number)
        verb = f"restore the volume '{name}' of '{environment}'"
        self._cluster.require_lease(environment)
        known = self._claims_of(api, names, place, name)
        new = next((one for one in known if uid_of(one) == self._begun.get(key)), None)
        if new is None or claims.source_of(new) != snapshot["metadata"]["name"]:
            turn = claims.next_turn(known, f"cannot {verb}")
            last = max((made_of.last_number(one) for one in known), default=0)
            shape = made_of.taken_of(snapshot).shape
            wanted = made_of.claim_from(names, name, turn, shape, snapshot, last)
            new = api.create(VOLUME_CLAIM, place.namespace, self._cluster.signing.as_begun(wanted, place.namespace))
            self._begun[key] = uid_of(new)
        is_bound = self._filling.require_bound(api, place, new, verb)
        try:
            self._cluster.signing.sign(api, VOLUME_CLAIM, place.namespace, new, "whole")
        except InstarError as error:  # it may have come to that all the same
            cause, after_s = f"cannot be sure of what '{name}' holds: {error.message}", error.retry_after_s
            raise HalfDone(cause, hint=error.hint, retry_after_s=after_s) from error
        self._begun.pop(key, None)
        for one in known:
            if uid_of(one) != uid_of(new):
                with contextlib.suppress(InstarError):  # it counts for nothing, and goes with the next one
                    self._replace(api, place, one, new, is_bound=is_bound)

    def _replace(self, api: Api, place: Place, old: Object, new: Object, *, is_bound: bool) -> None:
        """Remove a claim that ``new`` has the place of. What has data stays until that one has its own, which is when
        the next group is made (claims.remove_replaced)."""
        name = old["metadata"]["name"]
        if is_bound:
            api.delete(VOLUME_CLAIM, place.namespace, name, same=old)
        elif claims.is_pending(old):
            api.delete(VOLUME_CLAIM, place.namespace, name, only=old)  # it may be given its storage just now
        else:
            said = {"metadata": {"uid": uid_of(old), "annotations": {REPLACED_BY: uid_of(new)}}}
            api.merge(VOLUME_CLAIM, place.namespace, name, said)

    def remove_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        place, snapshot = self._snapshot(environment, name, number)
        self._cluster.require_lease(environment)
        api, own = self._cluster.api_of(place), snapshot["metadata"]["name"]
        for one in api.list(VOLUME_CLAIM, place.namespace, {}):  # whatever somebody has written on them
            if claims.is_to_be_filled(one, own):
                raise Refused(
                    f"cannot remove snapshot {number} of the volume '{name}' of '{environment}': the claim "
                    f"'{place.namespace}/{one['metadata']['name']}' is yet to be filled from it",
                    hint="it is with its first pod: deploy what has that volume, or remove the volume, and ask again",
                )
        api.delete(VOLUME_SNAPSHOT, place.namespace, own, only=snapshot)

    def copy_volume(self, source: EnvironmentId, name: str, to: EnvironmentId, as_name: str) -> None:
        place, claim = self._volume(source, name, "copy")
        api, names = self._cluster.api_of(place), self._names(to)
        key: Key = ("copy", source, name, to, as_name)
        by_key: Key = (*key, "by")
        self._require_place(place, source, to)
        made = self._target(api, names, place, as_name, key)
        self._cluster.require_lease(to)
        verb = f"copy the volume '{name}' of '{source}'"
        unfinished = self._unfinished(api, names, place, as_name) if by_key in self._begun else ()
        by = next((one for one in unfinished if uid_of(one) == self._begun[by_key]), None)
        if by is None:
            self._sweep(api, names, place, as_name)
            kept_by = snapshot_class(api, (claim.get("spec") or {}).get("storageClassName"))
            wanted = made_of.copying_object(names, as_name, secrets.token_hex(4), claim, kept_by)
            by = self._begin(api, place, wanted)
            self._begun[by_key] = uid_of(by)
        by = self._filling.ready(api, place, by, verb)
        if made is None:
            wanted = made_of.claim_from(names, as_name, 0, made_of.Shape.of(claim), by)
            made = api.create(VOLUME_CLAIM, place.namespace, wanted)
            self._begun[key] = uid_of(made)
        is_bound = self._filling.require_bound(api, place, made, verb)
        if is_bound:  # else it is filled when a pod is to have it, and what it is filled from stays until then
            api.delete(VOLUME_SNAPSHOT, place.namespace, by["metadata"]["name"], same=by)
        self._begun.pop(key, None)
        self._begun.pop(by_key, None)

    def _require_place(self, place: Place, source: EnvironmentId, to: EnvironmentId) -> None:
        other = self._cluster.place_of(to)
        if other is not None and other.cluster != place.cluster:
            raise Refused(
                f"cannot copy a volume of '{source}' to '{to}': they are in different namespaces or clusters, and a "
                "snapshot is of one namespace",
                hint="copy the data by a command in an instance of each: instar run",
            )

    def _target(self, api: Api, names: Names, place: Place, volume: str, key: Key) -> Object | None:
        """Return the claim that this process has begun to fill. Raises Refused where there is another."""
        found = self._claims_of(api, names, place, volume)
        mine = next((one for one in found if uid_of(one) == self._begun.get(key)), None)
        if found and mine is None:
            to = names.environment
            raise Refused(
                f"cannot copy to the volume '{volume}' of '{to}': there is one",
                hint=f"instar volumes remove {to} {volume}; what it holds is gone then, unless a snapshot has it",
            )
        return mine

    def _begun_snapshot(
        self, api: Api, names: Names, place: Place, claim: Object, volume: str, key: Key, cause: SnapshotCause | None
    ) -> Object | None:
        """Return the snapshot that was begun for the very same, and is not ready yet; others that nobody goes on with
        are removed."""
        for one in self._unfinished(api, names, place, volume):
            is_its = cause is not None and beginnings.cause_of(one) == cause
            is_its = is_its and made_of.source_of(one) == claim["metadata"]["name"]
            if is_its or uid_of(one) == self._begun.get(key):
                return one
        self._sweep(api, names, place, volume)
        return None

    def _begin(self, api: Api, place: Place, wanted: Object) -> Object:
        """Make a snapshot, signed as begun; what cannot be signed goes again, since nobody else would remove it."""
        found = api.create(VOLUME_SNAPSHOT, place.namespace, wanted)
        try:
            self._cluster.signing.sign(api, VOLUME_SNAPSHOT, place.namespace, found, "begun")
        except InstarError:
            with contextlib.suppress(InstarError):
                api.delete(VOLUME_SNAPSHOT, place.namespace, found["metadata"]["name"], same=found)
            raise
        return found

    def _sweep(self, api: Api, names: Names, place: Place, volume: str) -> None:
        """Remove snapshots that were begun, and that nobody goes on with or fills a claim from; warn of what only looks
        so, and stays."""
        signing, found = self._cluster.signing, self._there(api, names, place, volume)
        now = datetime.now(UTC)
        left = [one for one in found if beginnings.is_left(one, names, volume, signing, now)]
        for one in found:
            if one not in left:
                self._leave_out(place, one)
        if not left:
            return
        self._cluster.require_lease(names.environment)
        known = api.list(VOLUME_CLAIM, place.namespace, {})  # whatever somebody has written on them
        filling = {claims.source_of(one) for one in known if not claims.is_bound(one)}
        for one in left:
            if one["metadata"]["name"] not in filling:
                api.delete(VOLUME_SNAPSHOT, place.namespace, one["metadata"]["name"], only=one)

    def _unfinished(self, api: Api, names: Names, place: Place, volume: str) -> list[Object]:
        found, now = self._there(api, names, place, volume), datetime.now(UTC)
        begun = (one for one in found if beginnings.is_begun(one, self._cluster.signing))
        return [one for one in begun if beginnings.is_recent(one, now) or not made_of.is_ready(one)]

    def _there(self, api: Api, names: Names, place: Place, volume: str) -> list[Object]:
        """Return the snapshots that say that they are a volume's, whoever made them."""
        found = api.find_list(VOLUME_SNAPSHOT, place.namespace, {**names.labels, VOLUME: volume}) or ()
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]

    def _next_number(self, api: Api, names: Names, place: Place, volume: str, claim: Object) -> int:
        """Return a number that none of the volume was given, and have the claim say so."""
        found = api.find_list(VOLUME_SNAPSHOT, place.namespace, {**names.labels, VOLUME: volume}) or ()
        number = made_of.next_number(names, volume, claim, found)
        metadata = claim["metadata"]
        said = {"resourceVersion": metadata["resourceVersion"], "annotations": {LAST_SNAPSHOT: str(number)}}
        api.merge(VOLUME_CLAIM, place.namespace, metadata["name"], {"metadata": said})
        return number

    def _forget(self, uid: str) -> None:
        """Begin anew what was begun as this, when it is asked for again: it is removed."""
        self._begun = {key: one for key, one in self._begun.items() if one != uid}

    def _require_storage(self, api: Api, claim: Object, environment: EnvironmentId, name: str) -> None:
        """Raise NotFound of a claim that gets its storage with its first pod: it holds nothing yet."""
        if not claims.is_bound(claim) and waits_for_pods(api, (claim.get("spec") or {}).get("storageClassName")):
            source = claims.source_of(claim)
            filled = f", from the snapshot '{source}'" if source else ""
            raise NotFound(
                f"cannot keep what the volume '{name}' of '{environment}' holds: its claim "
                f"'{claim['metadata']['name']}' has no storage yet, and is filled with its first pod{filled}"
            )

    def _kept(self, environment: EnvironmentId | None) -> Iterator[tuple[Place, Object]]:
        wanted = {} if environment is None else {SERVICE: environment.service, ENVIRONMENT: environment.name}
        for place in self._cluster.places():
            labels = {LEDGER: self._cluster.ledger(), **wanted}
            for one in self._cluster.api_of(place).find_list(VOLUME_SNAPSHOT, place.namespace, labels) or ():
                if one["metadata"].get("deletionTimestamp"):
                    continue
                if made_of.number_of(one) and self._cluster.signing.is_signed(one, "whole"):  # without its label too
                    yield place, one
                elif beginnings.says_kept(one) and not beginnings.is_begun(one, self._cluster.signing):
                    self._leave_out(place, one)

    def _snapshot(self, environment: EnvironmentId, name: str, number: int) -> tuple[Place, Object]:
        found = {
            made_of.number_of(one): (place, one)
            for place, one in self._kept(environment)
            if one["metadata"]["labels"][VOLUME] == name
        }
        if number not in found:
            known = ", ".join(map(str, sorted(found))) or "none"
            raise NotFound(
                f"cannot find snapshot {number} of the volume '{name}' of '{environment}'", hint=f"there is: {known}"
            )
        return found[number]

    def _volume(self, environment: EnvironmentId, name: str, verb: str) -> tuple[Place, Object]:
        found = self._cluster.find_volume(environment, name)
        if found is None:
            raise NotFound(
                f"cannot {verb} the volume '{name}' of '{environment}': there is none",
                hint="those that there are: instar volumes",
            )
        return found

    def _claims_of(self, api: Api, names: Names, place: Place, volume: str) -> list[Object]:
        found = api.list(VOLUME_CLAIM, place.namespace, {**names.labels, VOLUME: volume})
        return [one for one in found if claims.volume_of(one) == (names.environment, volume)]

    def _names(self, environment: EnvironmentId) -> Names:
        return Names(environment=environment, ledger=self._cluster.ledger())
