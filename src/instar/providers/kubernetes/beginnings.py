"""Which snapshots of a volume were begun and left: only such are ever removed without anybody asking for that.

What is kept must not be lost to who may only write labels and annotations: a snapshot that is signed whole is none,
whatever its labels say; and since whoever has read a snapshot's first signature can write it back later, one that has a
number and is ready to use is none either, though it says that it was only begun. Whether it is ready stands in its
status, which others may write: so one that was made longer ago than any is waited for is none, whatever is said of it.
When it was made, the API alone says.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from instar.errors import ProviderError
from instar.model.volume import SnapshotCause
from instar.providers.kubernetes import snapshot_objects as made_of
from instar.providers.kubernetes.api import Object
from instar.providers.kubernetes.names import COPY, SIGNATURE, WHOLE, Names
from instar.providers.kubernetes.signing import Signing

_LONGEST: Final = timedelta(days=1)


def is_copying(found: Object, names: Names, volume: str) -> bool:
    """Tell whether a snapshot is called as those by which a volume is copied are: those are nobody's to keep."""
    metadata = found["metadata"]
    own = rf"{re.escape(names.claim(volume))}\.copy-[0-9a-f]{{8}}"
    return COPY in (metadata.get("labels") or {}) and re.fullmatch(own, str(metadata["name"])) is not None


def is_begun(found: Object, signing: Signing) -> bool:
    """Tell whether Instar has begun a snapshot, and nobody says that it is whole."""
    labels = found["metadata"].get("labels") or {}
    return WHOLE not in labels and signing.is_signed(found, "begun")


def is_recent(found: Object, now: datetime) -> bool:
    """Tell whether a snapshot was made so lately that somebody may be at it, by the API's clock and this one."""
    try:
        made_at = datetime.fromisoformat(str(found["metadata"].get("creationTimestamp")))
        return now - made_at < _LONGEST
    except (ValueError, TypeError):  # nothing is said, or a time of nowhere
        return False


def is_left(found: Object, names: Names, volume: str, signing: Signing, now: datetime) -> bool:
    """Tell whether a snapshot was begun, and goes where nobody goes on with it."""
    is_copy = is_copying(found, names, volume)
    is_unready = bool(made_of.number_of(found)) and not made_of.is_ready(found) and is_recent(found, now)
    return is_begun(found, signing) and (is_copy or is_unready)


def why_left_out(found: Object, signing: Signing) -> str:
    """Return why what looks like a snapshot of Instar's counts for nothing, and stays; "" of one that does count."""
    if made_of.number_of(found) and signing.is_signed(found, "whole"):
        return ""
    metadata = found["metadata"]
    if is_begun(found, signing):
        return (
            "it was begun and is ready, or was begun a day ago or earlier, and nothing says that it was seen ready in "
            "time; it may have been kept, and be changed since: where nobody needs it, "
            f"kubectl delete volumesnapshot {metadata['name']} -n {metadata.get('namespace')}"
        )
    return (
        "it says that it is Instar's, and is not signed by this ledger's key: somebody else made it, or has changed it"
    )


def says_kept(found: Object) -> bool:
    """Tell whether a snapshot says of itself, truly or not, that it is one that counts."""
    metadata = found["metadata"]
    is_said = WHOLE in (metadata.get("labels") or {}) and bool(made_of.number_of(found))
    return is_said or SIGNATURE in (metadata.get("annotations") or {})


def cause_of(found: Object) -> SnapshotCause | None:
    """Return for which rollout a snapshot says that it was begun; None of one that says none, or nothing to be read."""
    try:
        return made_of.taken_of(found).cause if made_of.number_of(found) else None
    except ProviderError:
        return None
