"""Whether a storage has made what was begun, a snapshot or what a claim holds, and for how long its driver may err.

Nothing waits for longer than one answer of the storage. What its driver has said errors of for a while is removed: when
it is asked for again, it is begun anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from instar.errors import ProviderError, ProviderUnavailable
from instar.providers.kubernetes import claims
from instar.providers.kubernetes import snapshot_objects as made_of
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.causes import said_at
from instar.providers.kubernetes.kinds import EVENT, VOLUME_CLAIM, VOLUME_SNAPSHOT, Kind
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.storage import waits_for_pods
from instar.waiting import Deadline

_WATCHED_S: Final = 2.0
_SOON_S: Final = 1.0
_ERRS_S: Final = 20.0  # for so long a driver that says an error may try again
_FRESH_S: Final = 10.0  # for so long after its last one a claim's warnings count: each try of a driver says another


class Filling:
    """Of one process, which remembers what was said of what it has begun. ``forget`` is told of what is removed, by its
    uid."""

    def __init__(self, forget: Callable[[str], None]) -> None:
        self._forget = forget
        self._errs: dict[str, Deadline] = {}  # until when a driver may say errors of it, by its uid
        self._warnings: dict[str, tuple[tuple[str, str], Deadline]] = {}  # the last of a claim, and how long it counts

    def ready(self, api: Api, place: Place, begun: Object, verb: str) -> Object:
        """Return a snapshot that is ready. Raises ProviderUnavailable where it is not yet, ProviderError, and it is
        removed, where its driver has said errors for a while."""
        found = self._seen(api, VOLUME_SNAPSHOT, place, begun, made_of.is_ready)
        if found is None:
            raise ProviderError(f"cannot {verb}: somebody has removed the snapshot meanwhile")
        if made_of.is_ready(found):
            self._errs.pop(uid_of(found), None)
            return found
        cause = made_of.error_of(found)
        waits, errs = "the snapshot is not ready to use", bool(cause)
        raise self._not_yet(api, VOLUME_SNAPSHOT, place, found, verb, waits, cause, errs)

    def require_bound(self, api: Api, place: Place, begun: Object, verb: str) -> bool:
        """Tell whether a claim has its storage; False where it gets that with its first pod. Raises as above."""
        found = self._seen(api, VOLUME_CLAIM, place, begun, claims.is_bound)
        if found is None:
            raise ProviderError(f"cannot {verb}: somebody has removed the claim meanwhile")
        is_bound = claims.is_bound(found)
        if is_bound or waits_for_pods(api, (found.get("spec") or {}).get("storageClassName")):
            self._errs.pop(uid_of(found), None)
            self._warnings.pop(uid_of(found), None)
            return is_bound
        cause, is_fresh = self._last_warning(api, place, found)
        raise self._not_yet(api, VOLUME_CLAIM, place, found, verb, "the claim has no storage yet", cause, is_fresh)

    def _last_warning(self, api: Api, place: Place, claim: Object) -> tuple[str, bool]:
        """Return what was said last against a claim, and whether it counts: what was said once, and not again, is over.

        When it was said is told by what changes here, and not by the cluster's clock, which may be another.
        """
        uid = uid_of(claim)
        warnings = api.list(EVENT, place.namespace, {}, {"type": "Warning", "involvedObject.uid": uid})
        if not warnings:
            return "", False
        last = max(warnings, key=said_at)
        said = (said_at(last), str(last.get("message") or ""))
        if uid not in self._warnings or self._warnings[uid][0] != said:
            self._warnings[uid] = (said, Deadline.after(_FRESH_S))
        return made_of.shown(said[1]), not self._warnings[uid][1].is_over

    def _seen(
        self, api: Api, kind: Kind, place: Place, begun: Object, is_so: Callable[[Object], bool]
    ) -> Object | None:
        """Return an object as it is, as soon as it is so, or after a moment; None where it is gone, or another has its
        name."""
        name = str(begun["metadata"]["name"])
        found = _same(begun, api.find(kind, place.namespace, name))
        if found is None or is_so(found):
            return found
        version = str(found["metadata"].get("resourceVersion", ""))
        for _, one in api.watch(kind, place.namespace, version, _WATCHED_S, name=name):
            if is_so(one):
                break
        return _same(begun, api.find(kind, place.namespace, name))

    def _not_yet(
        self, api: Api, kind: Kind, place: Place, found: Object, verb: str, waits: str, cause: str, errs: bool
    ) -> ProviderError:
        """Return the error that says what is waited for; where its driver errs (``errs``: it says ``cause`` now), and
        has done so for a while, remove what was begun, and return the one that is not to be tried again."""
        uid = uid_of(found)
        deadline = self._errs.setdefault(uid, Deadline.after(_ERRS_S)) if errs else None
        if deadline is None:
            self._errs.pop(uid, None)
        elif deadline.is_over:
            del self._errs[uid]
            self._warnings.pop(uid, None)
            self._forget(uid)
            api.delete(kind, place.namespace, str(found["metadata"]["name"]), same=found)
            return ProviderError(
                f"cannot {verb}: {cause}", hint="the storage's driver says so; what the volume holds was left as it is"
            )
        text = f": {cause}" if cause else ""
        return ProviderUnavailable(f"cannot {verb} yet: {waits}{text}", retry_after_s=_SOON_S)


def uid_of(found: Object) -> str:
    return str(found["metadata"].get("uid"))


def _same(begun: Object, found: Object | None) -> Object | None:
    return found if found is not None and uid_of(found) == uid_of(begun) else None
