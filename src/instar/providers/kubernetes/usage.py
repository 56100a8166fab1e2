"""What pods use, as the cluster's own metrics API has it (metrics-server's, or another's that serves the same).

It says processors over the last seconds and the working set of memory, of each container, and nothing of processes or
the network; it looks every fifteen seconds or so, so an answer is taken again for a while. Limits are of the
Deployments. Figures are whatever somebody answers: what is no number is none.

Source: k8s.io/metrics, v1beta1; Kubernetes API conventions, "Quantity".
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from instar.errors import InstarError, LeaseLost
from instar.frozen import dataclass
from instar.model.release import EnvironmentId, Instance
from instar.model.usage import Measured, MemberUsage, Usage
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import DEPLOYMENT, POD_METRICS
from instar.providers.kubernetes.names import GROUP, Names
from instar.providers.kubernetes.observation import is_name_of
from instar.providers.kubernetes.settings import Place

_FRESH_S: Final = 10.0
_NOBODY: Final = (
    "nothing in the cluster says what pods use (metrics.k8s.io); metrics-server does, where the cluster's own people "
    "have installed it"
)
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?)(?:[eE]([+-]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)
_FACTORS: Final[Mapping[str, float]] = {
    **{"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3},
    **{unit: 1e3**power for power, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)},
}
_MOST: Final = 1 << 53


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What the cluster said of an environment ``at`` a time of the monotonic clock: of its pods, and the memory that
    those of each group may take. ``trouble``: why it says nothing of pods."""

    at: float
    pods: Sequence[Object] = ()
    limits: Mapping[str, tuple[frozenset[str], int | None]]
    trouble: str | None = None


class ClusterMeasures:
    """Implements providers.facets.Measures. May be asked by several threads."""

    def __init__(self, reach: Callable[[EnvironmentId], tuple[Api, Names, Place]]) -> None:
        self._reach = reach
        self._guard = threading.Lock()
        self._answers: dict[EnvironmentId, _Answer] = {}

    def measure(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Measured:
        if not groups:
            return Measured()
        answer = self._answer(environment)
        names = [one.id for one in groups]
        found = ((pod, group) for pod in answer.pods if (group := _group_of(pod, names)) is not None)
        return Measured(
            members=tuple(
                MemberUsage(name=str(pod["metadata"]["name"]), group=group, usage=_usage(pod, answer.limits.get(group)))
                for pod, group in found
            ),
            unknown=answer.trouble,
        )

    def _answer(self, environment: EnvironmentId) -> _Answer:
        with self._guard:
            known = self._answers.get(environment)
        if known is not None and time.monotonic() - known.at < _FRESH_S:
            return known
        answer = self._asked(environment)
        with self._guard:
            self._answers[environment] = answer
        return answer

    def _asked(self, environment: EnvironmentId) -> _Answer:
        api, names, place = self._reach(environment)
        now = time.monotonic()
        try:
            pods = api.find_list(POD_METRICS, place.namespace, names.labels)
            if pods is None:
                return _Answer(at=now, limits={}, trouble=_NOBODY)
            deployments = api.list(DEPLOYMENT, place.namespace, names.labels)
        except LeaseLost:
            raise
        except InstarError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return _Answer(at=now, limits={}, trouble=f"{error.message}{hint}")
        return _Answer(at=now, pods=pods, limits={str(one["metadata"]["name"]): _limit(one) for one in deployments})


def quantity(text: object) -> float | None:
    """Return what a quantity is ("1500000n", "12Ki", "1e3"); None of what is none, or no figure of a pod's."""
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    number, exponent, unit = found.groups()
    value = float(number) * (10.0 ** int(exponent) if exponent else _FACTORS[unit or ""])
    return value if value <= _MOST else None


def _group_of(pod: Object, names: Sequence[str]) -> str | None:
    """Return whose pod it is: its label says it, if what is called so is of that group at all."""
    name, told = str(pod["metadata"]["name"]), (pod["metadata"].get("labels") or {}).get(GROUP)
    fits = [one for one in names if is_name_of(name, one)]
    return told if told in fits else fits[0] if told is None and len(fits) == 1 else None


def _usage(pod: Object, limit: tuple[frozenset[str], int | None] | None) -> Usage:
    containers = _containers(pod)
    processors = _sum(containers, "cpu")
    memory = _sum(containers, "memory")
    limited = limit is not None and limit[0] == {str(one.get("name")) for one in containers}
    return Usage(
        processors=processors,
        memory_bytes=None if memory is None else int(memory),
        limit_bytes=limit[1]
        if limit is not None and limited
        else None,  # with others' containers it is no limit of all
    )


def _inner(found: Any, *names: str) -> Any:
    """Return what stands there in an object; None where nothing does."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _containers(of: Any) -> Sequence[Mapping[str, Any]]:
    found = _inner(of, "containers")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _sum(containers: Sequence[Mapping[str, Any]], resource: str) -> float | None:
    """Return what all containers use together; None where it isn't said of each."""
    used = [quantity(_inner(one, "usage", resource)) for one in containers]
    known = [one for one in used if one is not None]
    return sum(known) if known and len(known) == len(containers) else None


def _limit(deployment: Object) -> tuple[frozenset[str], int | None]:
    """Return the names of a group's containers, and what memory they may take together."""
    containers = _containers(_inner(deployment, "spec", "template", "spec"))
    limits = [quantity(_inner(one, "resources", "limits", "memory")) for one in containers]
    known = [one for one in limits if one is not None]
    total = int(sum(known)) if known and len(known) == len(containers) else None
    return frozenset(str(one.get("name")) for one in containers), total
