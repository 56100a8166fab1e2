"""The claims that volumes are: SERVICE-ENVIRONMENT-VOLUME, and SERVICE-ENVIRONMENT-VOLUME.TURN once restored.

A claim's data cannot be exchanged, and its name is not free before it is gone. So a volume that is to hold what it did
in a snapshot gets another claim of the next turn, made from that snapshot, while the one that it has stays as it is.
The new one counts from the moment that Instar has signed that it is whole, in one write; what it replaces is removed
after that, and when the new one has its storage. So whoever is killed leaves the volume as it was or as it is to be,
what is left over counts for nothing, and no data goes before the new claim holds its own.

Which claim a volume has is the same for as long as an instance has it: it is only restored while none does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import VOLUME_CLAIM, VOLUME_SNAPSHOT
from instar.providers.kubernetes.names import (
    ENVIRONMENT,
    FILLED_FROM,
    REPLACED_BY,
    SERVICE,
    SIGNATURE,
    TURN,
    VOLUME,
    Names,
)
from instar.providers.kubernetes.settings import LABEL
from instar.providers.kubernetes.signing import Signing

HIGHEST: Final = 999_999_999  # of the claims of a volume, and of its snapshots


def volume_of(found: Object) -> tuple[EnvironmentId, str] | None:
    """Return of which environment and volume a claim is; None of one that is no environment's, whatever labels somebody
    has written on it: it is never removed."""
    labels = found["metadata"].get("labels") or {}
    service, name, volume = (str(labels.get(label, "")) for label in (SERVICE, ENVIRONMENT, VOLUME))
    if not all(re.fullmatch(LABEL, text) for text in (service, name, volume)):
        return None
    environment = EnvironmentId(service=service, name=name)
    turn = turn_of(found)
    own = f"{service}-{name}-{volume}"  # Names.claim, of which others' words may make one that is no name
    expected = f"{own}.{turn}" if turn else own
    return (environment, volume) if found["metadata"]["name"] == expected else None


def turn_of(found: Object) -> int:
    """Return the how manieth a restored claim of its volume is; 0 of the first, which was not restored."""
    text = str((found["metadata"].get("labels") or {}).get(TURN, ""))
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else 0


def next_turn(known: Iterable[Object], cannot: str) -> int:
    """Return the turn of a claim that is to take the place of those ``known``. Raises Refused ("``cannot``: …") where
    there is none any more: a claim of a higher one would count for nothing, and what it replaces is removed."""
    last = max(known, key=turn_of, default=None)
    turn = 1 + (0 if last is None else turn_of(last))
    if last is not None and turn > HIGHEST:
        name = f"{last['metadata'].get('namespace')}/{last['metadata']['name']}"
        raise Refused(
            f"{cannot}: the claim '{name}' has the number {HIGHEST}, and there is none above",
            hint="somebody made it, and it is none of the volume's: remove it, and ask again",
        )
    return turn


def is_whole(found: Object, signing: Signing) -> bool:
    """Tell whether a claim may count: the first of a volume does, a restored one once that was signed of it."""
    return not turn_of(found) or signing.is_signed(found, "whole")


def is_bound(found: Object) -> bool:
    return (found.get("status") or {}).get("phase") == "Bound"


def is_pending(found: Object) -> bool:
    """Tell whether a claim has no storage yet, and so holds nothing."""
    return (found.get("status") or {}).get("phase") == "Pending"


def source_of(found: Object) -> str:
    """Return the name of the snapshot that a claim is, or was, filled from; "" of one that began empty."""
    return str(((found.get("spec") or {}).get("dataSource") or {}).get("name") or "")


def is_to_be_filled(found: Object, source: str) -> bool:
    """Tell whether a restored claim, which somebody may have changed since, is yet to be filled from a snapshot."""
    is_signed = SIGNATURE in (found["metadata"].get("annotations") or {})
    return is_signed and not is_bound(found) and source_of(found) == source


def counting(found: Iterable[Object], signing: Signing) -> Mapping[tuple[EnvironmentId, str], Object]:
    """Return the claim that each volume has: of those that are whole, the one of the last turn."""
    made: dict[tuple[EnvironmentId, str], Object] = {}
    for one in sorted(found, key=turn_of):
        if is_whole(one, signing) and (volume := volume_of(one)) is not None:
            made[volume] = one
    return made


def replaced(found: Sequence[Object], signing: Signing) -> list[Object]:
    """Return the claims whose place another has taken that has its storage now: those that say so themselves, since
    whoever may make a claim can have it look newer."""
    now = counting(found, signing)
    return [
        one
        for one in found
        if (volume := volume_of(one)) in now
        and volume is not None
        and turn_of(one) < turn_of(now[volume])
        and (one["metadata"].get("annotations") or {}).get(REPLACED_BY) == str(now[volume]["metadata"]["uid"])
        and is_bound(now[volume])
        and not one["metadata"].get("deletionTimestamp")
    ]


def remove_replaced(found: Sequence[Object], signing: Signing, remove: Callable[[str], None]) -> None:
    """Have claims removed that others have replaced. What cannot be now counts for nothing, and goes with the next."""
    for one in replaced(found, signing):
        with contextlib.suppress(ProviderError):
            remove(str(one["metadata"]["name"]))


def claims_there(api: Api, names: Names, namespace: str, volumes: Sequence[Any]) -> Sequence[Object]:
    """Return the claims of an environment; asks only where there are ``volumes`` to be had."""
    return api.list(VOLUME_CLAIM, namespace, names.labels) if volumes else ()


def claims_near(api: Api, namespace: str, volumes: Sequence[Any]) -> Sequence[Object]:
    """Return all claims of a namespace, whatever is written on them; asks only where there are ``volumes``."""
    return api.list(VOLUME_CLAIM, namespace, {}) if volumes else ()


def claim_names(found: Iterable[Object], signing: Signing) -> Mapping[str, str]:
    """Return the name of the claim that each volume has that is there, of one environment's claims."""
    return {volume: str(one["metadata"]["name"]) for (_, volume), one in counting(found, signing).items()}


def removable(near: Iterable[Object], names: Names, signing: Signing) -> Iterator[tuple[str, Object]]:
    """Yield the claims of a namespace that go with an environment's volumes, and of which volume each is: what anybody
    may write on a claim, its labels, makes it none. A first one is known by its name and its labels; a restored one by
    its name, and by what Instar has signed of it, as it was made or once it was whole, whatever its labels say now."""
    own = re.compile(rf"{re.escape(names.claim(''))}({LABEL})(?:\.[1-9][0-9]{{0,8}})?")
    for found in near:
        named = own.fullmatch(str(found["metadata"]["name"]))
        if named is None or found["metadata"].get("deletionTimestamp"):
            continue
        if _turn_by_name(found, names, named[1]):
            made = _as_made(found, names, named[1])
            is_own = signing.is_signed(made, "whole") or signing.is_begun(made)
        else:
            is_own = names.owns(found) and volume_of(found) == (names.environment, named[1])
        if is_own:
            yield named[1], found


def not_removable(near: Iterable[Object], names: Names, signing: Signing) -> Iterator[str]:
    """Yield, for each claim that says that it is the environment's and stays, why it does."""
    there = [one for one in near if not one["metadata"].get("deletionTimestamp")]
    gone = {str(one["metadata"]["name"]) for _, one in removable(there, names, signing)}
    for found in filter(names.owns, there):
        name = str(found["metadata"]["name"])
        if name not in gone:
            yield (
                f"the claim '{name}' stays: it says that it is a volume of '{names.environment}', and neither its name "
                "and labels nor a signature of this ledger's key say so too; somebody else made it, or a restore by "
                "an older Instar was killed: where nobody needs it, kubectl delete pvc "
                f"{name} -n {found['metadata'].get('namespace')}"
            )


def require_sources(api: Api, namespace: str, found: Iterable[Object], names: Collection[str]) -> None:
    """Raise Refused where one of the claims of these ``names`` is yet to be filled, and the snapshot that it was made
    from is gone, or another one has its name: the storage goes by that name alone."""
    for one in found:
        wanted = (one["metadata"].get("annotations") or {}).get(FILLED_FROM)
        if one["metadata"]["name"] not in names or wanted is None or is_bound(one):
            continue
        name = source_of(one)
        snapshot = api.find(VOLUME_SNAPSHOT, namespace, name)
        if snapshot is None or snapshot["metadata"].get("uid") != wanted:
            has = "is gone" if snapshot is None else "is another one now, made anew under that name"
            raise Refused(
                f"cannot have the claim '{namespace}/{one['metadata']['name']}' filled: the VolumeSnapshot "
                f"'{namespace}/{name}' that it was made from {has}",
                hint="restore another snapshot, or copy again; an older claim of the volume, if there is one, counts "
                f"again after kubectl delete pvc {one['metadata']['name']} -n {namespace}",
            )


def require_none_hidden(near: Iterable[Object], names: Names, volumes: Iterable[str], signing: Signing) -> None:
    """Raise Refused where what is written on a claim hides that it is one of these volumes', so that a group would get
    an empty one, or an older one, in its place: ``near``, all claims of the namespace, are looked at by their names,
    which nobody can change.

    Of a volume without a claim that counts any restored one is refused, else one that Instar has signed or that the
    one that counts is replaced by. The first one of a volume, SERVICE-ENVIRONMENT-VOLUME, is not looked at: who makes
    that anew finds it.
    """
    there = [one for one in near if not one["metadata"].get("deletionTimestamp")]
    now = counting(filter(names.owns, near), signing)
    for volume in volumes:
        counts = now.get((names.environment, volume))
        for one in there:
            turn = _turn_by_name(one, names, volume)
            if turn > (0 if counts is None else turn_of(counts)) and _is_hidden(one, names, volume, counts, signing):
                raise _hidden(one, names, volume, turn)


def _turn_by_name(found: Object, names: Names, volume: str) -> int:
    """Return the turn that a claim has by its name as a restored one of a volume; 0 of any other."""
    said = re.fullmatch(rf"{re.escape(names.claim(volume))}\.([1-9][0-9]{{0,8}})", str(found["metadata"]["name"]))
    return int(said[1]) if said else 0


def _is_hidden(found: Object, names: Names, volume: str, counts: Object | None, signing: Signing) -> bool:
    """Tell whether a claim that is called as one of a volume may be its real one, beside the one that ``counts``."""
    whose = volume_of(found)
    if whose is not None and whose != (names.environment, volume) and signing.is_signed(found, "whole"):
        return False  # another's: "a-b" of "c" is called as "b" of "c-a" is
    if counts is None:
        return True
    replaced_by = (counts["metadata"].get("annotations") or {}).get(REPLACED_BY)
    return replaced_by == str(found["metadata"].get("uid")) or signing.is_signed(
        _as_made(found, names, volume), "whole"
    )


def _as_made(found: Object, names: Names, volume: str) -> Object:
    """Return a restored claim with the labels that Instar has made it with."""
    labels = {**names.all_labels, VOLUME: volume, TURN: str(_turn_by_name(found, names, volume))}
    return {**found, "metadata": {**found["metadata"], "labels": labels}}


def _hidden(found: Object, names: Names, volume: str, turn: int) -> Refused:
    own, labels = found["metadata"]["name"], {**names.labels, VOLUME: volume, TURN: str(turn)}
    said = " ".join(f"{label}={value}" for label, value in labels.items())
    return Refused(
        f"cannot tell whether the claim '{found['metadata'].get('namespace')}/{own}' is that of the volume '{volume}' "
        f"of '{names.environment}': it is called so, and with its labels it is not signed by this ledger's key",
        hint="if somebody has changed it, write its labels back: kubectl label --overwrite "
        f"-n {found['metadata'].get('namespace')} pvc {own} {said}; if a "
        "restore was killed, restore again; if somebody else made it, remove it; if its data is yours all the same "
        "(the ledger was put back from a copy that has not that key, say), copy that into a claim "
        f"'{names.claim(volume)}' with the same labels but {TURN}",
    )
