"""What tells a claim or a snapshot that Instar made from one that looks so: labels are anybody's to write who may make
such objects, and a signature by the ledger's key is not.

It is over what the object is (its uid, which the API gives once and never again) and what Instar has said of it, that
it was begun or found whole. So another of the same name, or one that somebody has changed, has none that holds.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from instar.errors import ProviderError
from instar.model.codec import canonical
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import Kind
from instar.providers.kubernetes.names import (
    BEGUN,
    ENVIRONMENT,
    FILLED_FROM,
    LEDGER,
    SERVICE,
    SIGNATURE,
    SNAPSHOT,
    TAKEN,
    TURN,
    VOLUME,
    WHOLE,
)

Stage = Literal["begun", "whole"]
_UNMADE: Final = "to be made"  # in place of a stage, and of a uid
_LABELS: Final = (SERVICE, ENVIRONMENT, LEDGER, VOLUME, SNAPSHOT, TURN)


class KeyOf(Protocol):
    """Return the ledger's key; None where there is none yet, and none is to be made."""

    def __call__(self, *, make: bool = False) -> bytes | None: ...


class Signing:
    """Signs objects, and knows them again."""

    def __init__(self, key: KeyOf) -> None:
        self._ask = key
        self._known: bytes | None = None

    def _key(self, *, make: bool = False) -> bytes | None:
        """A ledger keeps the one that it has: it is asked for once."""
        if self._known is None:
            self._known = self._ask(make=make)
        return self._known

    def _annotations(self, found: Object, stage: Stage) -> Mapping[str, str]:
        key = self._key(make=True)
        assert key is not None
        return {SIGNATURE: _signature(key, found, stage)}

    def as_begun(self, wanted: Object, namespace: str) -> Object:
        """Return an object that is to be made with a signature that it is Instar's from its first moment on. It has no
        uid yet: so another of its name may have the same, and it says no more than whose name that is."""
        key, metadata = self._key(make=True), {**wanted["metadata"], "namespace": namespace}
        assert key is not None
        said = {BEGUN: _signature(key, {**wanted, "metadata": metadata}, _UNMADE)}
        return {
            **wanted,
            "metadata": {**wanted["metadata"], "annotations": {**metadata.get("annotations", {}), **said}},
        }

    def is_begun(self, found: Object) -> bool:
        """Tell whether an object was made so."""
        said, key = (found["metadata"].get("annotations") or {}).get(BEGUN), self._key()
        return isinstance(said, str) and key is not None and _is_same(said, _signature(key, found, _UNMADE))

    def is_signed(self, found: Object, stage: Stage) -> bool:
        """Tell whether Instar, with this ledger, has said that of this very object as it is."""
        said, key = (found["metadata"].get("annotations") or {}).get(SIGNATURE), self._key()
        return isinstance(said, str) and key is not None and _is_same(said, _signature(key, found, stage))

    def require_signed(self, kind: Kind, found: Object) -> None:
        """Raise ProviderError where an object is not what was begun."""
        if not self.is_signed(found, "begun"):
            metadata = found["metadata"]
            raise ProviderError(
                f"cannot count on the {kind.name} '{metadata.get('namespace')}/{metadata['name']}': it is not what was "
                "begun",
                hint="somebody has changed it: ask again, and another is taken",
            )

    def sign(self, api: Api, kind: Kind, namespace: str, found: Object, stage: Stage) -> None:
        """Have an object carry that it is Instar's, and, once whole, that it counts: that very one, by its uid. Raises
        ProviderError where it is gone, or changed."""
        metadata = found["metadata"]
        said: dict[str, Any] = {"uid": metadata["uid"], "annotations": self._annotations(found, stage)}
        if stage == "whole":
            said["labels"] = {WHOLE: "yes"}
        signed = api.merge(kind, namespace, metadata["name"], {"metadata": said})
        if signed is None or not self.is_signed(signed, stage):
            done = "removed" if signed is None else "changed"
            raise ProviderError(
                f"cannot use the {kind.name} '{namespace}/{metadata['name']}': somebody has just {done} it"
            )


def _is_same(said: str, expected: str) -> bool:
    return hmac.compare_digest(said.encode(), expected.encode())


def _signature(key: bytes, found: Object, stage: str) -> str:
    metadata, spec = found["metadata"], found.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    said = {
        "stage": stage,
        "uid": _UNMADE if stage == _UNMADE else str(metadata["uid"]),
        "namespace": str(metadata.get("namespace")),
        "name": str(metadata["name"]),
        "labels": {name: str(labels[name]) for name in _LABELS if name in labels},
        "taken": str(annotations.get(TAKEN, "")),
        **({"from": str(annotations[FILLED_FROM])} if FILLED_FROM in annotations else {}),
        "source": spec.get("source") or spec.get("dataSource") or {},
    }
    return hmac.new(key, canonical(said), "sha256").hexdigest()
