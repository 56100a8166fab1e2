"""What lists of a cluster's objects say of groups: a pure function of one look.

A group is there as long as its anchor is. What runs it is a Deployment, or a Job of a task; what ends with it are pods.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.release import Instance
from instar.providers.base import Observed
from instar.providers.kubernetes.causes import awaited, cause, conditions, failure, scaled, warned
from instar.providers.kubernetes.kinds import SERVICE
from instar.providers.kubernetes.names import (
    ANCHOR,
    GENERATED,
    PART,
    environment_part,
    group_of,
    job_name,
    job_pattern,
)
from instar.providers.kubernetes.occurrences import is_of_same_occurrence
from instar.providers.kubernetes.originals import altered

_BY_SIGNAL: Final = 128

Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """All objects of an environment at one time, by the group that they are of. Of pods, tainted ones are of none."""

    anchors: Mapping[str, Object]
    deployments: Mapping[str, Object]
    jobs: Mapping[str, Object]
    pods: Mapping[str, tuple[Object, ...]]
    versions: Mapping[str, str] = field(default_factory=dict)  # by a kind's name: what a watch goes on from
    configs: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object | None] = field(default_factory=dict)  # None: somebody took it away

    @classmethod
    def of(
        cls,
        configs: Iterable[Object],
        deployments: Iterable[Object],
        jobs: Iterable[Object],
        pods: Iterable[Object],
        versions: Mapping[str, str] | None = None,
    ) -> Look:
        anchors, others = dict[str, Object](), dict[str, Object]()
        for one in configs:
            (anchors if _is_anchor(one) else others)[group_of(one)] = one
        look = cls(
            anchors=anchors,
            configs=others,
            deployments={group_of(one): one for one in deployments},
            jobs={group_of(one): one for one in jobs},
            pods={},
            versions=versions or {},
        )
        return look.with_pods(pods)

    def with_pods(self, pods: Iterable[Object]) -> Look:
        by_group: dict[str, list[Object]] = {}
        for pod in pods:
            by_group.setdefault(group_of(pod), []).append(pod)
        return replace(self, pods={name: tuple(found) for name, found in by_group.items()})

    def has_served(self, group: Instance) -> bool:
        """Tell whether a Service was made for a group that is there."""
        anchor = self.anchors.get(group.id)
        return anchor is not None and f"made.{SERVICE.name}.{group.id}" in (anchor.get("data") or {})

    def is_told_without_pods(self, groups: Sequence[Instance]) -> bool:
        """Tell whether all that is to be said of ``groups`` is said by what made them: as many pods answer as are
        wanted. Why one does not, what a task ended with, and who is left of a group that is gone, its pods say."""
        return all(
            group.task is None
            and (anchor := self.anchors.get(group.id)) is not None
            and (anchor["metadata"].get("deletionTimestamp") is not None or self._is_well(group))
            for group in groups
        )

    def _is_well(self, group: Instance) -> bool:
        deployment = self.deployments.get(group.id)
        return deployment is not None and _ready(deployment) >= group.members

    def silent_pods(self, groups: Sequence[Instance]) -> frozenset[str]:
        """Return the pods of ``groups`` that run and do not answer, and whose status does not say why."""
        return frozenset(
            str(pod["metadata"]["name"])
            for group in groups
            if group.task is None and (seen := self.observed(group)).ready is not None
            if seen.ready < group.members and seen.reason is None
            for pod in self.pods.get(group.id, ())
        )

    def silent_jobs(self, groups: Sequence[Instance]) -> frozenset[str]:
        """Return the Jobs of ``groups`` that run, and have no pod: a Job's status does not say why."""
        return frozenset(
            group.id
            for group in groups
            if group.task is not None and self._job(group) is not None and not self._pods_of(group)
            if self.observed(group).state == "running"
        )

    def awaited_claims(self, groups: Sequence[Instance]) -> frozenset[str]:
        """Return the volume claims of pods of ``groups`` that no node has yet, and that do not say why: a claim may be
        filled only then, and of what fails the engine speaks to that."""
        waiting = [one for one in groups if (seen := self.observed(one)).state == "running" and seen.reason is None]
        return frozenset(claim for group in waiting for pod in self._pods_of(group) for claim in awaited(pod))

    def _job(self, group: Instance) -> Object | None:
        """Return the Job of a task: its own, or that of whoever began the same occurrence before."""
        own = self.jobs.get(group.id)
        if own is not None or job_name(group) == group.id:
            return own
        return next((one for one in self.jobs.values() if is_of_same_occurrence(one, group)), None)

    def _pods_of(self, group: Instance) -> tuple[Object, ...]:
        job = None if group.task is None else self._job(group)
        return self.pods.get(group.id if job is None else group_of(job), ())

    @property
    def ready(self) -> Mapping[str, int]:
        """How many pods of each group answer."""
        return {name: _ready(one) for name, one in self.deployments.items()}

    def observed(self, group: Instance, warnings: Mapping[str, str] | None = None) -> Observed:
        """Return how a group is; ``warnings``: what the engine said last of pods and Jobs, by name."""
        anchor, pods = self.anchors.get(group.id), self._pods_of(group)
        if anchor is None:
            left = any(is_of(one, group.id) for one in pods)
            return Observed(id=group.id, state="ending" if left else "absent")
        if anchor["metadata"].get("deletionTimestamp") is not None:
            return Observed(id=group.id, state="ending")
        if group.task is not None:
            return self._task(group, pods, warnings or {})
        deployment = self.deployments.get(group.id)
        if deployment is None or self.services.get(group.id, deployment) is None:
            # half made, or somebody took it away: what was to be made is made again
            return Observed(id=group.id, state="absent")
        ready = _ready(deployment)
        if _is_beginning(deployment, group):
            ready = min(ready, group.members - 1)
        reason = None
        if ready < group.members:
            reason = scaled(deployment, group) or cause(deployment, pods) or warned(pods, warnings or {})
        return Observed(id=group.id, state="running", ready=ready, reason=reason, altered=self._altered(group))

    def _altered(self, group: Instance) -> str | None:
        """Say who has changed what runs a group, or what leads to it, since it was made: as far as that was read."""
        anchor, found = self.anchors[group.id], (self.deployments, self.configs, self.services)
        objects = (one for each in found if (one := each.get(group.id)) is not None)
        return next(filter(None, (altered(one, anchor) for one in objects)), None)

    def _task(self, group: Instance, pods: Sequence[Object], warnings: Mapping[str, str]) -> Observed:
        job = self._job(group)
        if job is None:
            return Observed(id=group.id, state="absent")
        ended = {one.get("type") for one in conditions(job) if one.get("status") == "True"}
        if not ended & {"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"}:
            reason = cause(job, pods) or warned(pods, warnings)
            if not pods and (told := warnings.get(job_name(group))):
                reason = f"its pod cannot be made: {' '.join(told.split())[:300]}"
            return Observed(id=group.id, state="running", ready=sum(map(runs, pods)), reason=reason)
        status = 0 if ended & {"Complete", "SuccessCriteriaMet"} else _exit_status(pods)
        found = _terminated(pods)
        return Observed(
            id=group.id,
            state="stopped",
            exit_status=status,
            signal=_signal(status),
            out_of_memory=found.get("reason") == "OOMKilled",
            reason=None if status == 0 else failure(job, found),
        )


def _is_anchor(config: Object) -> bool:
    return (config["metadata"].get("labels") or {}).get(PART) == ANCHOR


def has_come(deployment: Object, group: Instance) -> bool:
    """Tell whether a group that was waited for has as many pods that answer as it is to have, or can have none."""
    return _ready(deployment) >= group.members or cause(deployment, ()) is not None


def is_of(pod: Object, group: str) -> bool:
    """Tell whether the engine made a pod for a group: one of somebody else's can have its labels, and outlives it."""
    owners = (pod.get("metadata") or {}).get("ownerReferences") or ()
    return any(one.get("controller") and is_name_of(str(one.get("name", "")), group) for one in owners)


def runs(pod: Object) -> bool:
    """Tell whether a pod has begun, and is not on its way to its end."""
    phase = (pod.get("status") or {}).get("phase")
    return phase == "Running" and pod["metadata"].get("deletionTimestamp") is None


def is_name_of(name: str, group: str) -> bool:
    """Tell whether the engine calls what it makes for a group so: nobody can give what is there another name.

    Source: Kubernetes, names.SimpleNameGenerator: of what a pod is called after, 58 characters are left. What is due by
    the clock is called after its entry and time."""
    if name == group or name.startswith(f"{group}-"[:GENERATED]):
        return True
    environment = environment_part(group)
    return environment is not None and re.fullmatch(f"{job_pattern(environment)}(-[a-z0-9]+)?", name) is not None


def _ready(deployment: Object) -> int:
    """Return how many of its pods answer; of a status that is older than what is wanted, none."""
    status = deployment.get("status") or {}
    if (status.get("observedGeneration") or 0) < (deployment["metadata"].get("generation") or 0):
        return 0
    return int(status.get("readyReplicas") or 0)


def _is_beginning(deployment: Object, group: Instance) -> bool:
    """Tell whether one that was made with more pods than it has at least, since the one before has them, has never had
    all of them."""
    wanted = int((deployment.get("spec") or {}).get("replicas") or 0)
    if wanted <= group.members or _ready(deployment) >= wanted:
        return False
    done = [one.get("reason") for one in conditions(deployment) if one.get("type") == "Progressing"]
    return bool(done) and done[0] != "NewReplicaSetAvailable"


def _terminated(pods: Sequence[Object]) -> Object:
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            if found := (container.get("state") or {}).get("terminated"):
                return dict(found)
    return {}


def _exit_status(pods: Sequence[Object]) -> int | None:
    found = _terminated(pods).get("exitCode")
    return found if isinstance(found, int) and found != 0 else None


def _signal(status: int | None) -> str | None:
    try:
        return signal.Signals((status or 0) - _BY_SIGNAL).name
    except ValueError:
        return None
