"""What a snapshot of a volume is in a cluster: a VolumeSnapshot that says itself of when, what and why it is. Pure.

It is called as its volume's first claim is, with its number: SERVICE-ENVIRONMENT-VOLUME.NUMBER. It counts from the
moment that whoever took it has seen that it is ready, and has said so (``instar/whole``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.frozen import dataclass
from instar.model.codec import from_json, to_json
from instar.model.release import EnvironmentId
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.kubernetes.api import Object
from instar.providers.kubernetes.claims import HIGHEST
from instar.providers.kubernetes.kinds import VOLUME_CLAIM, VOLUME_SNAPSHOT
from instar.providers.kubernetes.names import (
    COPY,
    ENVIRONMENT,
    FILLED_FROM,
    LAST_SNAPSHOT,
    SERVICE,
    SNAPSHOT,
    TAKEN,
    TURN,
    VOLUME,
    Names,
)
from instar.providers.kubernetes.settings import LABEL

_NUMBER: Final = r"[1-9][0-9]{0,8}"
_SHOWN: Final = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How a claim is: what one made of its snapshot has to be too."""

    access_modes: tuple[str, ...]
    storage: str
    storage_class: str | None = None

    @classmethod
    def of(cls, claim: Object) -> Shape:
        spec = claim.get("spec") or {}
        requests = (spec.get("resources") or {}).get("requests") or {}
        return cls(
            access_modes=tuple(str(one) for one in spec.get("accessModes") or ()),
            storage=str(requests.get("storage") or "0"),
            storage_class=spec.get("storageClassName"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a snapshot says of itself. ``at`` as ISO 8601 has it."""

    at: str
    running: bool
    shape: Shape
    cause: SnapshotCause | None = None


def snapshot_name(names: Names, volume: str, number: int) -> str:
    return f"{names.claim(volume)}.{number}"


def snapshot_object(
    names: Names, volume: str, number: int, taken: Taken, claim: Object, snapshot_class: str
) -> dict[str, Any]:
    """Return what has the storage keep what ``claim`` holds."""
    metadata = {
        "name": snapshot_name(names, volume, number),
        "labels": {**names.all_labels, VOLUME: volume, SNAPSHOT: str(number)},
        "annotations": {TAKEN: json.dumps(to_json(taken))},
    }
    return _of_claim(metadata, claim, snapshot_class)


def copying_object(names: Names, volume: str, mark: str, claim: Object, snapshot_class: str) -> dict[str, Any]:
    """Return the snapshot of ``claim`` by which a volume is made of what it holds."""
    labels = {**names.all_labels, VOLUME: volume, COPY: "yes"}
    return _of_claim({"name": f"{names.claim(volume)}.copy-{mark}", "labels": labels}, claim, snapshot_class)


def _of_claim(metadata: Object, claim: Object, snapshot_class: str) -> dict[str, Any]:
    source = {"persistentVolumeClaimName": claim["metadata"]["name"]}
    spec = {"volumeSnapshotClassName": snapshot_class, "source": source}
    kinds = {"apiVersion": VOLUME_SNAPSHOT.api_version, "kind": VOLUME_SNAPSHOT.name}
    return {**kinds, "metadata": dict(metadata), "spec": spec}


def claim_from(names: Names, volume: str, turn: int, shape: Shape, snapshot: Object, last: int = 0) -> dict[str, Any]:
    """Return a claim that holds what ``snapshot`` does; of a restored volume the one of ``turn``, whose snapshots were
    given numbers up to ``last``."""
    own = names.claim(volume)
    restored = (snapshot.get("status") or {}).get("restoreSize")
    spec: dict[str, Any] = {
        "accessModes": list(shape.access_modes),
        "resources": {"requests": {"storage": _largest(shape.storage, str(restored or "0"))}},
        "dataSource": {
            "apiGroup": VOLUME_SNAPSHOT.group,
            "kind": VOLUME_SNAPSHOT.name,
            "name": snapshot["metadata"]["name"],
        },
    }
    if shape.storage_class is not None:
        spec["storageClassName"] = shape.storage_class
    labels = {**names.all_labels, VOLUME: volume, **({TURN: str(turn)} if turn else {})}
    metadata: dict[str, Any] = {"name": f"{own}.{turn}" if turn else own, "labels": labels}
    said = {FILLED_FROM: str(snapshot["metadata"]["uid"])}
    metadata["annotations"] = {**said, **({LAST_SNAPSHOT: str(last)} if last else {})}
    return {"apiVersion": "v1", "kind": VOLUME_CLAIM.name, "metadata": metadata, "spec": spec}


def number_of(found: Object) -> int:
    """Return a snapshot's number; 0 of one that has none, is not called by it, or was not taken of a claim of its
    volume: anybody may write a label, and bring data of their own (a VolumeSnapshotContent)."""
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    text = str(labels.get(SNAPSHOT, ""))
    parts = [str(labels.get(name, "")) for name in (SERVICE, ENVIRONMENT, VOLUME)]
    if not re.fullmatch(_NUMBER, text) or not all(re.fullmatch(LABEL, one) for one in parts):
        return 0
    first = "-".join(parts)
    is_of_it = re.fullmatch(rf"{first}(\.{_NUMBER})?", source_of(found)) is not None
    return int(text) if metadata["name"] == f"{first}.{text}" and is_of_it else 0


def source_of(found: Object) -> str:
    """Return the name of the claim that a snapshot was taken of; "" of one of a storage's own (volumeSnapshotContent),
    which Instar makes none of."""
    source = (found.get("spec") or {}).get("source") or {}
    return "" if "volumeSnapshotContentName" in source else str(source.get("persistentVolumeClaimName") or "")


def last_number(claim: Object) -> int:
    """Return the highest number that a snapshot of a claim's volume was given, as the claim says."""
    text = str((claim["metadata"].get("annotations") or {}).get(LAST_SNAPSHOT, ""))
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


def next_number(names: Names, volume: str, claim: Object, found: Sequence[Object]) -> int:
    """Return a number that no snapshot of a volume was given, of which ``found`` are there. Raises Refused where there
    is none any more: a snapshot of a higher one would count for nothing."""
    taken = {str(one["metadata"]["name"]) for one in found}
    number = 1 + max((last_number(claim), *map(number_of, found)))
    while snapshot_name(names, volume, number) in taken:  # with our labels, and none of ours
        number += 1
    if number > HIGHEST:
        name, highest = claim["metadata"]["name"], max(map(number_of, found), default=0)
        raise Refused(
            f"cannot keep what the volume '{volume}' of '{names.environment}' holds: by its claim '{name}' "
            f"({LAST_SNAPSHOT}) or its snapshots, the number {HIGHEST} was given, and there is none above",
            hint=f"somebody wrote that; the highest that is there is {highest}: remove it if it is not yours, kubectl "
            f"annotate --overwrite pvc {name} {LAST_SNAPSHOT}=NUMBER with the highest that was yours, and ask again",
        )
    return number


def taken_of(found: Object) -> Taken:
    """Return what a snapshot says of itself. Raises ProviderError where that is none of Instar's."""
    metadata = found["metadata"]
    try:
        taken: Taken = from_json(Taken, json.loads((metadata.get("annotations") or {}).get(TAKEN, "")))
        if datetime.fromisoformat(taken.at).tzinfo is None:
            raise ValueError("a time without a zone")
    except (ValueError, RecursionError) as error:
        where = f"{metadata.get('namespace')}/{metadata['name']}"
        raise ProviderError(
            f"cannot read what the VolumeSnapshot '{where}' says of itself, in its annotation {TAKEN}",
            hint="somebody has changed it: the claim that it was taken of is its spec.source",
        ) from error
    return taken


def volume_snapshot(found: Object) -> VolumeSnapshot:
    """Raises ProviderError where it says nothing of itself that can be read, or is not as Instar makes it."""
    metadata, taken, number = found["metadata"], taken_of(found), number_of(found)
    labels = metadata["labels"]
    if not number:
        raise ProviderError(
            f"cannot count on the VolumeSnapshot '{metadata.get('namespace')}/{metadata['name']}': it is not as Instar "
            "has made it, by its labels, its name and what it was taken of",
            hint="somebody has changed it: ask again, and another is taken",
        )
    return VolumeSnapshot(
        environment=EnvironmentId(service=labels[SERVICE], name=labels[ENVIRONMENT]),
        volume=labels[VOLUME],
        number=number,
        at=datetime.fromisoformat(taken.at),
        running=taken.running,
        where=f"{metadata.get('namespace')}/{metadata['name']}",
        used_bytes=None,
        cause=taken.cause,
    )


def is_ready(found: Object) -> bool:
    return (found.get("status") or {}).get("readyToUse") is True and not found["metadata"].get("deletionTimestamp")


def error_of(found: Object) -> str:
    """Return what the storage's driver says against a snapshot; "" where it says nothing."""
    said = (found.get("status") or {}).get("error")
    text = said.get("message") if isinstance(said, Mapping) else None
    return shown(str(text or "its driver does not say why")) if said else ""


def shown(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]


def _largest(*quantities: str) -> str:
    """Return the largest of the API's quantities ("1Gi", "1048576"); what is none counts as nothing."""
    from lightkube.utils.quantity import parse_quantity

    def size(text: str) -> Any:
        try:
            return parse_quantity(text) or 0
        except ValueError:
            return 0

    return max(quantities, key=size)
