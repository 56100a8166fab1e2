"""Whether what is in a cluster is what was made: objects against their release, pods against theirs, the route.

Each object is held against what is made of the release now, where that is what the anchor says was made then; a
registry that changed since makes it another one, and then only who wrote to it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from instar.errors import InstarError, ProviderError, RouterError
from instar.model.drift import Finding, TakenNames
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Subject
from instar.providers.doors import Ports
from instar.providers.kubernetes import audit, exposure, other_listing, other_routes
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.claims import claim_names, claims_there
from instar.providers.kubernetes.cluster import Cluster
from instar.providers.kubernetes.comparison import Difference, differences, other_writers
from instar.providers.kubernetes.kinds import CONFIG_MAP, POD, SECRET
from instar.providers.kubernetes.names import GROUP
from instar.providers.kubernetes.objects import Made, digest_of, group_objects
from instar.providers.kubernetes.pod import Order, template
from instar.providers.kubernetes.pods import pod_facts, pod_findings, taken_out
from instar.providers.kubernetes.selecting import shown_ports
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RouterState, Target

Object = Mapping[str, Any]
_AS_MADE: Final = "as it was made"


class ClusterInspection:
    """Implements providers.facets.Inspects."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def inspect(self, subjects: Sequence[Subject], *, deep: bool = False) -> tuple[Finding, ...]:
        return tuple(finding for one in subjects for finding in self._group(one))

    def inspect_router(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        sites, doors = self._cluster.sites_of(environment), self._cluster.doors_of(environment)
        own = (_routed(one) for one in self._cluster.traffic_of(environment).differences(sites, doors))
        return (*own, *self.taken_names(environment).found)

    def taken_names(self, environment: EnvironmentId) -> TakenNames:
        api, names, place = self._cluster.reach(environment)
        sites = self._cluster.sites_of(environment)
        if place.gateway is None or not sites:
            return TakenNames()
        listed = other_listing.listed(api, place.namespace, place.gateway)
        found = other_routes.taking(listed, (place.namespace, names.route), place, sites)
        return TakenNames(found=tuple(one.finding for one in found), unseen=listed.unseen)

    def router(self, environment: EnvironmentId) -> RouterState:
        doors = self._cluster.traffic_of(environment).doors()
        if doors is None:
            return RouterState(running=False)
        return RouterState(running=True, targets=exposure.targets(doors), previewed=doors.first.previews)

    def targets(self, groups: Sequence[Instance], ports: Mapping[tuple[int, str], Ports]) -> tuple[Target, ...]:
        known = {one.id: own for one in groups if (own := ports.get((one.release, one.role))) is not None}
        doors = self._cluster.traffic_of(groups[0].environment).doors() if groups else None
        return exposure.wanted([one.id for one in groups], known, doors)

    def restore_router(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        active: Release | None = None,
        groups: Sequence[Instance] = (),
    ) -> bool:
        try:
            ports = {one.name: exposure.by_door(one) for one in targets}
            own = {} if active is None else exposure.ports_of(active, groups)
            shown = None if active is None else shown_ports(active)
            self._cluster.traffic_of(plan.environment).restore(plan, {**ports, **own}, tuple(own), shown)
        except RouterError:
            raise
        except InstarError as error:
            raise RouterError(error.message, hint=error.hint) from error
        return True

    def processes(self, instance: Instance) -> tuple[Mapping[str, Any], ...]:
        api, _, place = self._cluster.reach(instance.environment)
        return tuple(pod_facts(one) for one in api.list(POD, place.namespace, {GROUP: instance.id}))

    def _group(self, subject: Subject) -> Iterator[Finding]:
        group = subject.instance
        api, names, place = self._cluster.reach(group.environment)
        anchor = api.find(CONFIG_MAP, place.namespace, group.id)
        if anchor is None or anchor["metadata"].get("deletionTimestamp") is not None:
            return
        wanted: tuple[Made, ...] = ()
        order = None
        if subject.image is not None:
            known = claims_there(api, names, place.namespace, subject.release.service.volumes)
            claims = claim_names(known, self._cluster.signing)
            order = Order(
                names=names, group=group, release=subject.release, image=subject.image, place=place, claims=claims
            )
            try:
                wanted = group_objects(order, self._cluster.secret_values(subject.release))
            except ProviderError as error:  # a secret that is not here any more is no other difference
                expected = "kept on this machine"
                yield Finding(instance=group.id, kind="secret", path="", expected=expected, observed=error.message)
        made = {key: value for key, value in (anchor.get("data") or {}).items() if key.startswith("made.")}
        same = bool(wanted)
        for kind, one in wanted:
            name = one["metadata"]["name"]
            known = made.pop(f"made.{kind.name}.{name}", None) == digest_of(one)
            same = same and known
            for found in _object(api, place.namespace, kind, one, known=known):
                yield _finding(group, "secret" if kind == SECRET else "object", f"{kind.name} {name}", found)
        for who in sorted(set(other_writers(anchor))):
            writers = Difference(path="managedFields", expected="nobody else writes to it", observed=f"'{who}' has")
            yield _finding(group, "object", f"ConfigMap {group.id}", writers)
        pod_template = template(order) if order is not None and same else None
        for pod in api.list(POD, place.namespace, {GROUP: group.id}):
            yield from pod_findings(subject, pod, pod_template)
            yield from self._looked_into(group, pod)
        for pod in api.list(POD, place.namespace, names.labels, lacking=GROUP):
            yield from taken_out(group.id, pod)

    def _looked_into(self, group: Instance, pod: Object) -> Iterator[Finding]:
        """Yield that somebody looked into a pod, which whoever does so by Instar taints first."""
        log, name = self._cluster.audit_log, str(pod["metadata"]["name"])
        if log is None or group.taint is not None or group.member_taint(name) is not None:
            return
        looks = audit.looks_into(Path(log), str(pod["metadata"]["namespace"]), name)
        if looks:
            path, observed = f"{name}: looked into", audit.told(looks)
            yield Finding(
                instance=group.id, kind="process", path=path, expected="nobody", observed=observed, member=name
            )


def _object(api: Api, namespace: str, kind: Any, wanted: Object, *, known: bool) -> Iterator[Difference]:
    found = api.find(kind, namespace, wanted["metadata"]["name"])
    if found is None:
        yield Difference(path="", expected="it is there", observed="nothing")
        return
    if known:
        wanted = _without_scale(wanted)
        for one in differences(wanted, found):
            hidden = kind == SECRET and one.path.startswith("data.")
            yield Difference(path=one.path, expected=_AS_MADE, observed="another value") if hidden else one
    for who in sorted(set(other_writers(found))):
        yield Difference(path="managedFields", expected="nobody else writes to it", observed=f"'{who}' has")


def _without_scale(wanted: Object) -> Object:
    """The number of pods may be somebody else's to say."""
    spec = wanted.get("spec")
    if not isinstance(spec, Mapping) or "replicas" not in spec:
        return wanted
    return {**wanted, "spec": {name: one for name, one in spec.items() if name != "replicas"}}


def _finding(group: Instance, kind: str, path: str, found: Difference) -> Finding:
    where = f"{path}: {found.path}" if found.path else path
    return Finding(instance=group.id, kind=kind, path=where, expected=found.expected, observed=found.observed)


def _routed(found: Difference) -> Finding:
    return Finding(instance=None, kind="router", path=found.path, expected=found.expected, observed=found.observed)
