"""Pods that are replaced one by one: by their labels alone, which say whose they are.

Without the engine's own label a pod is none of its ReplicaSet's, which makes another; without the group's it is behind
no Service and in no disruption budget. Labels of the environment stay, and with them what it may reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from instar.model.release import EnvironmentId
from instar.providers.facets import Member
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import DEPLOYMENT, POD
from instar.providers.kubernetes.logs import Logs
from instar.providers.kubernetes.names import ASIDE_AT, GROUP, POD_TEMPLATE, TAINTED, Names
from instar.providers.kubernetes.observation import is_name_of, is_of
from instar.providers.kubernetes.settings import LABEL, Place

Object = Mapping[str, Any]
_YEARS = range(2000, 3000)  # a time of another is no time that a pod was set aside at, and none to count with


class ClusterMembers:
    """Implements providers.facets.Members."""

    def __init__(
        self,
        reach: Callable[[EnvironmentId], tuple[Api, Names, Place]],
        claim: Callable[[EnvironmentId], object],
        logs: Logs,
    ) -> None:
        """``claim`` raises LeaseLost for who may not write there any more."""
        self._reach = reach
        self._claim = claim
        self._logs = logs

    def members(self, environment: EnvironmentId) -> tuple[Member, ...]:
        api, names, place = self._reach(environment)
        wanted = {
            str(one["metadata"]["name"]): int((one.get("spec") or {}).get("replicas") or 0)
            for one in api.list(DEPLOYMENT, place.namespace, names.labels)
        }
        pods = {str(one["metadata"]["name"]): one for one in api.list(POD, place.namespace, names.labels)}
        for group in wanted:  # a stranger's may have no other label
            strangers = [name for name in api.names(POD, place.namespace, {GROUP: group}) if name not in pods]
            found = ((name, api.find(POD, place.namespace, name)) for name in strangers)
            pods |= {name: one for name, one in found if one is not None}
        return tuple(_members(pods.values(), wanted, timedelta(milliseconds=place.evidence_ms)))

    def mark(self, environment: EnvironmentId, member: Member) -> None:
        self._label(environment, member, {TAINTED: member.group})

    def replace(self, environment: EnvironmentId, member: Member) -> None:
        self._claim(environment)
        self._label(environment, member, {TAINTED: member.group, POD_TEMPLATE: None})

    def set_aside(self, environment: EnvironmentId, member: Member, at: datetime) -> None:
        self._claim(environment)
        labels = {TAINTED: member.group, POD_TEMPLATE: None, GROUP: None}
        self._label(environment, member, labels, {ASIDE_AT: at.astimezone(UTC).isoformat()})

    def end(self, environment: EnvironmentId, member: Member) -> None:
        self._claim(environment)
        api, _, place = self._reach(environment)
        if not is_name_of(member.name, member.group):  # somebody else's with our labels: they go, and it stays
            self._label(environment, member, {TAINTED: None, GROUP: None})
            return
        self._logs.keep_of(api, place.namespace, member.group, member.name)
        api.delete(POD, place.namespace, member.name)

    def end_all(self, environment: EnvironmentId, group: str | None = None) -> None:
        """End all that were tainted, or those of a group: it goes, or their environment."""
        for one in self.members(environment):
            if one.tainted and group in (None, one.group):
                self.end(environment, one)

    def _label(
        self,
        environment: EnvironmentId,
        member: Member,
        labels: Mapping[str, str | None],
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        api, _, place = self._reach(environment)
        metadata = {"labels": labels, **({"annotations": annotations} if annotations else {})}
        api.merge(POD, place.namespace, member.name, {"metadata": metadata})


def _members(pods: Iterable[Object], wanted: Mapping[str, int], evidence: timedelta) -> Iterator[Member]:
    for pod in pods:
        metadata, labels = pod["metadata"], pod["metadata"].get("labels") or {}
        of_its_name = (one for one in wanted if str(metadata["name"]).startswith(f"{one}-"))
        group = labels.get(GROUP) or labels.get(TAINTED) or next(of_its_name, None)  # without: taken out by hand
        if group is None or metadata.get("deletionTimestamp") is not None:
            continue
        serves = GROUP in labels
        if not re.fullmatch(LABEL, str(group)) or not (serves or is_name_of(str(metadata["name"]), str(group))):
            continue  # a label is whatever somebody has written: what is not called as its group's is never ended
        aside_at = _time((metadata.get("annotations") or {}).get(ASIDE_AT)) or _time(metadata.get("creationTimestamp"))
        yield Member(
            name=str(metadata["name"]),
            group=str(group),
            wanted=wanted.get(str(group), 1),
            own=serves and POD_TEMPLATE in labels and is_of(pod, str(group)),
            serves=serves,
            ready=_is_ready(pod),
            tainted=TAINTED in labels,
            began_at=_time(metadata.get("creationTimestamp")) or datetime.min.replace(tzinfo=UTC),
            until=None if serves or aside_at is None else aside_at + evidence,
        )


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _time(text: object) -> datetime | None:
    """Return a time as it stands in an object, which somebody may have written by hand."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None and found.year in _YEARS else None
