"""The port on a cluster of Kubernetes: see :class:`instar.providers.base.Provider`.

What an environment's objects are made from is in the ledger (its settings) and in the release; nothing is kept on this
machine but logs of what is gone. So any machine that shares the ledger and has a kubeconfig can go on with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from instar.errors import InstarError, ProviderError
from instar.model.definition import Service
from instar.model.environment import Check, Settings
from instar.model.held import tag_of
from instar.model.image import Image
from instar.model.progress import Progress
from instar.model.reference import Reference
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.roles import UNNAMED_ROLE
from instar.providers.base import Observation, Probe, Streams
from instar.providers.facets import Member
from instar.providers.kubernetes import checks, preflight
from instar.providers.kubernetes.attachment import ClusterAttachment, attach
from instar.providers.kubernetes.claims import (
    claim_names,
    claims_near,
    not_removable,
    removable,
    remove_replaced,
    require_none_hidden,
    require_sources,
)
from instar.providers.kubernetes.cluster import Cluster
from instar.providers.kubernetes.exposure import exposed, parts_of
from instar.providers.kubernetes.figures import Counted, Figures
from instar.providers.kubernetes.inspection import ClusterInspection
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD, VOLUME_CLAIM
from instar.providers.kubernetes.logs import Logs
from instar.providers.kubernetes.looking import last_words, look_at
from instar.providers.kubernetes.maintenance import ClusterMaintenance
from instar.providers.kubernetes.making import make, require_newest
from instar.providers.kubernetes.members import ClusterMembers
from instar.providers.kubernetes.names import ANCHOR, GROUP, PART, group_of
from instar.providers.kubernetes.network import ReleaseNetwork
from instar.providers.kubernetes.nodes import architecture_warning
from instar.providers.kubernetes.notes import notes
from instar.providers.kubernetes.objects import anchor, beginning, claim, group_objects, owned
from instar.providers.kubernetes.observation import has_come, is_of
from instar.providers.kubernetes.occurrences import find_other_anchor
from instar.providers.kubernetes.pod import Order
from instar.providers.kubernetes.selecting import shown_ports
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.shell import ClusterShell, open_shell
from instar.providers.kubernetes.sight import unseen
from instar.providers.kubernetes.stop_signal import require_signals
from instar.providers.kubernetes.usage import ClusterMeasures
from instar.providers.kubernetes.volumes import ClusterVolumes
from instar.providers.package import Site
from instar.providers.router_plan import RouterPlan
from instar.providers.traits import Traits
from instar.waiting import Deadline, retry

_ENDING_S: Final = 120  # each step of an environment's end is asked for again so long, as that of a group is
_PAUSE_S: Final = 5


class KubernetesProvider:
    """Implements instar.providers.base.Provider. A release is one group for each role of it: a Deployment."""

    ends = counts = log_files = edge = layers = sweeps = networks = None

    def __init__(self, site: Site, traits: Traits) -> None:
        self.traits = traits
        self._site = site
        self.cluster = Cluster(site)
        self._logs = Logs(site.state.root / "kubernetes" / "logs")
        self._figures: dict[EnvironmentId, Figures] = {}
        self._versions: dict[EnvironmentId, Mapping[str, str]] = {}
        self._guard = threading.Lock()
        self.measures = ClusterMeasures(self.cluster.reach)
        cluster = self.cluster
        self._volumes = ClusterVolumes(
            site.environments, site.ledger_name, cluster.api, cluster.claim, site.report, cluster.signing
        )

    @property
    def inspects(self) -> ClusterInspection:
        return ClusterInspection(self.cluster)

    @property
    def members(self) -> ClusterMembers:
        return ClusterMembers(self.cluster.reach, self.cluster.claim, self._logs)

    @property
    def shells(self) -> KubernetesProvider:
        return self

    @property
    def runs(self) -> KubernetesProvider:
        return self

    @property
    def maintains(self) -> ClusterMaintenance:
        return ClusterMaintenance(self.cluster.reach, self.cluster.traffic_of)

    @property
    def volumes(self) -> ClusterVolumes:
        return self._volumes

    @property
    def previews(self) -> KubernetesProvider:
        return self

    @property
    def changes(self) -> KubernetesProvider:
        return self

    def preflight(
        self,
        environment: EnvironmentId,
        settings: Settings,
        service: Service,
        *,
        launching: bool,
        others: Mapping[str, Service] | None = None,
    ) -> tuple[str, ...]:
        place, services = Place.of(settings), (service, *(others or {}).values())
        known = self._site.environments()
        before = known.get(environment)
        preflight.require_fit(environment, settings, {UNNAMED_ROLE: service, **(others or {})}, known)
        api, is_known = self.cluster.api(place), before is not None and before.provider == settings.provider
        parts = parts_of(settings, place, lambda: self.cluster.doors(environment) if is_known else None)
        warnings = preflight.look(api, self.cluster.names(environment), place, services, self.cluster.signing, parts)
        preflight.with_patience(lambda: require_signals(api, environment, place, services))
        if launching:
            preflight.require_registry(self._site.registries, place)
        return (*warnings, *notes(api, self.cluster.names(environment), settings), *unseen(api, place, settings))

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        return (settings.instances,)

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        """Push the image by its digest, where the registry has not got it; say where no node is of its architecture."""
        where, registries = self.cluster.place(environment).registry, self._site.registries
        if not registries.has(Reference(repository=where, digest=image.digest)):
            text = f"{image.digest.short} to {where}, which has it not yet"
            self._site.report(Progress(stage="push", text=text))
            tag = tag_of(image.digest, self._site.ledger_name())
            registries.push(self._site.store, image.digest, where, tags=(tag,))
        warning = architecture_warning(self.cluster.api(self.cluster.place(environment)), image)
        if warning is not None:
            self._site.report(Progress(stage="launch", text=warning, kind="warning"))

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        api, names, place = self.cluster.reach(environment)
        self.cluster.fence(environment).look()
        look = look_at(api, names, place.namespace, groups)
        with self._guard:
            self._versions[environment] = look.versions
        route = self.cluster.traffic_of(environment)
        traffic = route.look(look.ready, self._counting(environment, place))
        look = replace(look, services=route.services([one.id for one in groups if look.has_served(one)], traffic))
        warnings = last_words(api, place.namespace, look, groups)
        return Observation(groups=tuple(look.observed(one, warnings) for one in groups), traffic=traffic)

    def await_change(self, environment: EnvironmentId, groups: Sequence[Instance], within_s: float) -> bool:
        api, names, place = self.cluster.reach(environment)
        wanted, ending = {one.id: one for one in groups}, all(one.ending is not None for one in groups)
        kind, labels = (CONFIG_MAP, {**names.labels, PART: ANCHOR}) if ending else (DEPLOYMENT, names.labels)
        with self._guard:
            version = self._versions.get(environment, {}).get(kind.name, "")
        for what, found in api.watch(kind, place.namespace, version, within_s, labels=labels):
            group = wanted.get(group_of(found))
            if group is not None and (what == "DELETED" or (not ending and has_come(found, group))):
                return True
        return False

    def create(self, group: Instance, release: Release, image: Image) -> None:
        api, names, place = self.cluster.reach(group.environment)
        near = claims_near(api, place.namespace, release.service.volumes)
        known = [one for one in near if names.owns(one)]
        claims = claim_names(known, self.cluster.signing)
        order = Order(names=names, group=group, release=release, image=image, place=place, claims=claims)
        require_none_hidden(near, names, [one.name for one in order.volumes], self.cluster.signing)
        require_sources(api, place.namespace, known, [claims[one.name] for one in order.volumes if one.name in claims])
        made = group_objects(order, self.cluster.secret_values(release))
        fence = self.cluster.fence(group.environment)
        fence.claim()
        root = make(api, fence, names, place.namespace, CONFIG_MAP, anchor(order, made))
        if root["metadata"].get("deletionTimestamp") is not None:
            raise ProviderError(f"cannot create '{group.id}': one of that name is on its way to its end")
        require_newest(api, fence, place.namespace, root)
        for volume in (one for one in order.volumes if one.name not in order.claims):
            make(api, fence, names, place.namespace, VOLUME_CLAIM, claim(names, volume, place.storage_class))
        remove_replaced(
            known, self.cluster.signing, lambda name: self.cluster.delete(group.environment, VOLUME_CLAIM, name)
        )
        uid = str(root["metadata"]["uid"])
        serving = self._serving(group) if order.own.scaling is not None and order.serves else 0
        for kind, one in made:
            wanted = beginning(one, order, serving) if kind == DEPLOYMENT else one
            make(api, fence, names, place.namespace, kind, owned(wanted, group.id, uid), group)

    def start(self, group: Instance) -> None:
        """A Deployment, or a Job, has begun when it is made."""

    def destroy(self, group: Instance, release: Release) -> bool:
        api, names, place = self.cluster.reach(group.environment)
        self._end_begun_by_another(group)
        found = api.find(CONFIG_MAP, place.namespace, group.id)
        if found is None:
            left = api.list(POD, place.namespace, {**names.labels, GROUP: group.id})
            return not any(is_of(one, group.id) for one in left)
        names.require_own("ConfigMap", found)
        if found["metadata"].get("deletionTimestamp") is None:
            self._logs.keep(api, place.namespace, group.id)
            if ReleaseNetwork.of(release) is not None:  # its policy goes with it
                self.members.end_all(group.environment, group.id)
            self.cluster.delete(group.environment, CONFIG_MAP, group.id, foreground=True)
        return False

    def _end_begun_by_another(self, group: Instance) -> None:
        """What was begun of the same occurrence by somebody else, and taken for it, goes with it."""
        other = find_other_anchor(*self.cluster.reach(group.environment), group)
        if other is not None:
            self.cluster.delete(group.environment, CONFIG_MAP, other, foreground=True)

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        is_behind = self.cluster.place(release.environment).gateway is not None
        found = {one.id: exposed(release, one.role, asked=is_behind) for one in groups}
        self.cluster.traffic_of(release.environment).expose(found, plan, shown_ports(release))

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float | None:
        return self.cluster.traffic_of(environment).route(weights)

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> int | None:
        self.cluster.traffic_of(environment).withdraw(names)
        return None

    def preview(
        self,
        environment: EnvironmentId,
        targets: Mapping[int, str],
        beside: Mapping[int, Sequence[str]] = MappingProxyType({}),  # its doors find them by themselves
    ) -> None:
        self.cluster.traffic_of(environment).preview(targets)

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        place = self.cluster.place(group.environment)
        if check is None:
            seen = self.observe(group.environment, [group]).groups[0]
            well = seen.state == "running" and (seen.ready or 0) >= group.members
            told = f"{seen.ready or 0} of {group.members} are ready"
            return Probe(healthy=well, cause="" if well else f"{told}: {seen.reason}" if seen.reason else told)
        api = self.cluster.api(place)
        pods = [str(one["metadata"]["name"]) for one in api.list(POD, place.namespace, {GROUP: group.id})]
        return checks.ask(api, place.namespace, pods, release.service, check)

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        place = self.cluster.find_place(instance_id)
        if place is None:
            yield from self._logs.lines(None, "", instance_id, last)
        elif follow:
            yield from self._logs.follow(self.cluster.api(place), place.namespace, instance_id, last)
        else:
            yield from self._logs.lines(self.cluster.api(place), place.namespace, instance_id, last)

    def has_log(self, instance_id: str) -> bool:
        return self._logs.has(instance_id) or self._has_pods(instance_id)

    def forget_logs(self, names: Sequence[str]) -> None:
        self._logs.forget(names)

    def close(self, environment: EnvironmentId) -> None:
        self.cluster.traffic_of(environment).close()

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        fence = self.cluster.fence(environment)
        for step in (
            lambda: self.members.end_all(environment),
            lambda: self._logs.forget(names),
            lambda: self._remove_claims(environment) if volumes else None,
            fence.claim,
            fence.remove,
        ):
            retry(step, Deadline.after(_ENDING_S), longest_pause_s=_PAUSE_S)

    def _remove_claims(self, environment: EnvironmentId) -> None:
        api, own, place = self.cluster.reach(environment)
        near = api.list(VOLUME_CLAIM, place.namespace, {})  # whatever somebody has written on them
        for _, found in removable(near, own, self.cluster.signing):
            self.cluster.delete(environment, VOLUME_CLAIM, found["metadata"]["name"])
        for text in not_removable(near, own, self.cluster.signing):
            self.cluster.warn(text)

    def open_shell(
        self, instance: Instance, release: Release, *, toolbox: bool, member: Member | None = None
    ) -> ClusterShell:
        api, _, place = self.cluster.reach(instance.environment)
        if member is None:
            raise ProviderError(
                f"cannot open a shell in '{instance.id}': none of its pods answers",
                hint=f"instar status {instance.environment} says why; a pod that does not can be named itself",
            )
        return open_shell(api, place, member, release, toolbox=toolbox)

    def attach(self, instance: Instance, release: Release, streams: Streams) -> ClusterAttachment:
        api, _, place = self.cluster.reach(instance.environment)
        return attach(api, place, instance, release, streams)

    def _counting(self, environment: EnvironmentId, place: Place) -> Callable[[Mapping[str, int]], Counted] | None:
        """Return what counts an environment's requests; None where nobody does, or wants to know."""
        settings, where = self._site.environments().get(environment), place.prometheus
        if where is None or settings is None or settings.rollout.analysis is None:
            return None
        with self._guard:
            figures = self._figures.setdefault(environment, Figures())
        return lambda ports: figures.of(where, place.namespace, ports)

    def _serving(self, group: Instance) -> int:
        """Return how many pods those groups have that have the traffic of a group's role now."""
        place, doors = self.cluster.place(group.environment), self.cluster.traffic_of(group.environment).doors()
        api, weights = self.cluster.api(place), {} if doors is None else doors.serving(group.role)
        found = [api.find(DEPLOYMENT, place.namespace, name) for name in weights]
        return sum(int((one.get("spec") or {}).get("replicas") or 0) for one in found if one is not None)

    def _has_pods(self, instance_id: str) -> bool:
        place = self.cluster.find_place(instance_id)
        try:
            return place is not None and bool(self.cluster.api(place).list(POD, place.namespace, {GROUP: instance_id}))
        except InstarError:
            return False
