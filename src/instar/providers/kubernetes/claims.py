"""The claims that volumes are: SERVICE-ENVIRONMENT-VOLUME, and SERVICE-ENVIRONMENT-VOLUME.TURN once restored.

A claim's data cannot be exchanged, and its name is not free before it is gone. So a volume that is to hold what it did
in a snapshot gets another claim of the next turn, made from that snapshot, while the one that it has stays as it is.
The new one counts from the moment that it says that it is whole, in one write; what it replaces is removed after that.
So whoever is killed leaves the volume as it was or as it is to be, and what is left over counts for nothing.

Which claim a volume has is the same for as long as an instance has it: it is only restored while none does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instar.model.release import EnvironmentId
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import VOLUME_CLAIM
from instar.providers.kubernetes.names import ENVIRONMENT, SERVICE, TURN, VOLUME, WHOLE, Names
from instar.providers.kubernetes.settings import LABEL


def volume_of(found: Object) -> tuple[EnvironmentId, str] | None:
    """Return of which environment and volume a claim is; None of one that is no environment's, whatever labels somebody
    has written on it: it is never removed."""
    labels = found["metadata"].get("labels") or {}
    service, name, volume = (str(labels.get(label, "")) for label in (SERVICE, ENVIRONMENT, VOLUME))
    if not all(re.fullmatch(LABEL, text) for text in (service, name, volume)):
        return None
    environment = EnvironmentId(service=service, name=name)
    turn = turn_of(found)
    own = Names(environment=environment, ledger="").claim(volume)
    expected = f"{own}.{turn}" if turn else own
    return (environment, volume) if found["metadata"]["name"] == expected else None


def turn_of(found: Object) -> int:
    """Return the how manieth a restored claim of its volume is; 0 of the first, which was not restored."""
    text = str((found["metadata"].get("labels") or {}).get(TURN, ""))
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else 0


def counting(found: Iterable[Object]) -> Mapping[tuple[EnvironmentId, str], Object]:
    """Return the claim that each volume has: of those that are whole, the one of the last turn."""
    made: dict[tuple[EnvironmentId, str], Object] = {}
    for one in sorted(found, key=turn_of):
        is_whole = not turn_of(one) or (one["metadata"].get("labels") or {}).get(WHOLE) == "yes"
        if is_whole and (volume := volume_of(one)) is not None:
            made[volume] = one
    return made


def claim_names(api: Api, names: Names, namespace: str, volumes: Sequence[Any]) -> Mapping[str, str]:
    """Return the name of the claim that each volume of an environment has that is there; asks only where there are
    ``volumes`` to be had."""
    found = api.list(VOLUME_CLAIM, namespace, names.labels) if volumes else ()
    return {volume: str(one["metadata"]["name"]) for (_, volume), one in counting(found).items()}
