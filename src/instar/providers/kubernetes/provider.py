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

from instar.errors import InstarError, NotFound, ProviderError
from instar.model.definition import Service
from instar.model.environment import Check, Settings
from instar.model.held import tag_of
from instar.model.image import Image
from instar.model.progress import Progress
from instar.model.reference import Reference
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.roles import FIRST_DOOR, UNNAMED_ROLE
from instar.providers.base import Observation, Probe, Streams, Subject
from instar.providers.facets import Member
from instar.providers.kubernetes import checks, preflight
from instar.providers.kubernetes.api import Api
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
from instar.providers.kubernetes.doors import Doors
from instar.providers.kubernetes.exposure import exposed, parts_of
from instar.providers.kubernetes.fence import Fence
from instar.providers.kubernetes.figures import Counted, Figures
from instar.providers.kubernetes.inspection import ClusterInspection
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD, VOLUME_CLAIM, Kind
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.logs import Logs
from instar.providers.kubernetes.looking import last_words, look_at
from instar.providers.kubernetes.maintenance import ClusterMaintenance
from instar.providers.kubernetes.making import make, require_newest
from instar.providers.kubernetes.members import ClusterMembers
from instar.providers.kubernetes.names import ANCHOR, GROUP, PART, Names, environment_part, group_of
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
from instar.providers.kubernetes.sight import Sights, find_gateway, unseen
from instar.providers.kubernetes.signing import Signing
from instar.providers.kubernetes.stop_signal import require_signals
from instar.providers.kubernetes.traffic import EnvironmentTraffic
from instar.providers.kubernetes.usage import ClusterMeasures
from instar.providers.kubernetes.volumes import ClusterVolumes
from instar.providers.package import Site
from instar.providers.router_plan import RouterPlan
from instar.providers.secrets import secret_value
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
        self._logs = Logs(site.state.root / "kubernetes" / "logs")
        self._apis: dict[str | None, Api] = {}
        self._fences: dict[EnvironmentId, Fence] = {}
        self._figures: dict[EnvironmentId, Figures] = {}
        self._sights: dict[EnvironmentId, tuple[Place, Sights]] = {}
        self._versions: dict[EnvironmentId, Mapping[str, str]] = {}
        self._guard = threading.Lock()
        self.measures = ClusterMeasures(self.place_of)
        self.signing = Signing(site.signing_key)
        self._volumes = ClusterVolumes(
            site.environments, site.ledger_name, self._api, self._claim, site.report, self.signing
        )

    @property
    def inspects(self) -> ClusterInspection:
        return ClusterInspection(self)

    @property
    def audit_log(self) -> str | None:
        settings = self._site.machine_settings
        return None if settings is None else settings.kubernetes.audit_log

    @property
    def members(self) -> ClusterMembers:
        return ClusterMembers(self.place_of, self._claim, self._logs)

    @property
    def shells(self) -> KubernetesProvider:
        return self

    @property
    def runs(self) -> KubernetesProvider:
        return self

    @property
    def maintains(self) -> ClusterMaintenance:
        return ClusterMaintenance(self.place_of, self._traffic)

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
        api, is_known = self._api(place), before is not None and before.provider == settings.provider
        parts = parts_of(settings, place, lambda: self._doors(environment) if is_known else None)
        warnings = preflight.look(api, self._names(environment), place, services, self.signing, parts)
        preflight.with_patience(lambda: require_signals(api, environment, place, services))
        if launching:
            preflight.require_registry(self._site.registries, place)
        return (*warnings, *notes(api, self._names(environment), settings), *unseen(api, place, settings))

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        return (settings.instances,)

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        """Push the image by its digest, where the registry has not got it; say where no node is of its architecture."""
        where, registries = self._place(environment).registry, self._site.registries
        if not registries.has(Reference(repository=where, digest=image.digest)):
            text = f"{image.digest.short} to {where}, which has it not yet"
            self._site.report(Progress(stage="push", text=text))
            tag = tag_of(image.digest, self._site.ledger_name())
            registries.push(self._site.store, image.digest, where, tags=(tag,))
        warning = architecture_warning(self._api(self._place(environment)), image)
        if warning is not None:
            self._site.report(Progress(stage="launch", text=warning, kind="warning"))

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        place, names = self._place(environment), self._names(environment)
        api = self._api(place)
        self._fence(environment).look()
        look = look_at(api, names, place.namespace, groups)
        with self._guard:
            self._versions[environment] = look.versions
        route = self._traffic(environment)
        traffic = route.look(look.ready, self._counting(environment, place))
        look = replace(look, services=route.services([one.id for one in groups if look.has_served(one)], traffic))
        warnings = last_words(api, place.namespace, look, groups)
        return Observation(groups=tuple(look.observed(one, warnings) for one in groups), traffic=traffic)

    def await_change(self, environment: EnvironmentId, groups: Sequence[Instance], within_s: float) -> bool:
        place, names = self._place(environment), self._names(environment)
        wanted, ending = {one.id: one for one in groups}, all(one.ending is not None for one in groups)
        kind, labels = (CONFIG_MAP, {**names.labels, PART: ANCHOR}) if ending else (DEPLOYMENT, names.labels)
        with self._guard:
            version = self._versions.get(environment, {}).get(kind.name, "")
        for what, found in self._api(place).watch(kind, place.namespace, version, within_s, labels=labels):
            group = wanted.get(group_of(found))
            if group is not None and (what == "DELETED" or (not ending and has_come(found, group))):
                return True
        return False

    def create(self, group: Instance, release: Release, image: Image) -> None:
        api, names, place = self.place_of(group.environment)
        near = claims_near(api, place.namespace, release.service.volumes)
        known = [one for one in near if names.owns(one)]
        claims = claim_names(known, self.signing)
        order = Order(names=names, group=group, release=release, image=image, place=place, claims=claims)
        require_none_hidden(near, names, [one.name for one in order.volumes], self.signing)
        require_sources(api, place.namespace, known, [claims[one.name] for one in order.volumes if one.name in claims])
        made = group_objects(order, self._secrets(release))
        fence = self._fence(group.environment)
        fence.claim()
        root = make(api, fence, names, place.namespace, CONFIG_MAP, anchor(order, made))
        if root["metadata"].get("deletionTimestamp") is not None:
            raise ProviderError(f"cannot create '{group.id}': one of that name is on its way to its end")
        require_newest(api, fence, place.namespace, root)
        for volume in (one for one in order.volumes if one.name not in order.claims):
            make(api, fence, names, place.namespace, VOLUME_CLAIM, claim(names, volume, place.storage_class))
        remove_replaced(known, self.signing, lambda name: self._delete(group.environment, VOLUME_CLAIM, name))
        uid = str(root["metadata"]["uid"])
        serving = self._serving(group) if order.own.scaling is not None and order.serves else 0
        for kind, one in made:
            wanted = beginning(one, order, serving) if kind == DEPLOYMENT else one
            make(api, fence, names, place.namespace, kind, owned(wanted, group.id, uid), group)

    def start(self, group: Instance) -> None:
        """A Deployment, or a Job, has begun when it is made."""

    def destroy(self, group: Instance, release: Release) -> bool:
        api, names, place = self.place_of(group.environment)
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
            self._delete(group.environment, CONFIG_MAP, group.id, foreground=True)
        return False

    def _end_begun_by_another(self, group: Instance) -> None:
        """What was begun of the same occurrence by somebody else, and taken for it, goes with it."""
        other = find_other_anchor(*self.place_of(group.environment), group)
        if other is not None:
            self._delete(group.environment, CONFIG_MAP, other, foreground=True)

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        is_behind = self._place(release.environment).gateway is not None
        found = {one.id: exposed(release, one.role, asked=is_behind) for one in groups}
        self._traffic(release.environment).expose(found, plan, shown_ports(release))

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float | None:
        return self._traffic(environment).route(weights)

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> int | None:
        self._traffic(environment).withdraw(names)
        return None

    def preview(
        self,
        environment: EnvironmentId,
        targets: Mapping[int, str],
        beside: Mapping[int, Sequence[str]] = MappingProxyType({}),  # its doors find them by themselves
    ) -> None:
        self._traffic(environment).preview(targets)

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        place = self._place(group.environment)
        if check is None:
            seen = self.observe(group.environment, [group]).groups[0]
            well = seen.state == "running" and (seen.ready or 0) >= group.members
            told = f"{seen.ready or 0} of {group.members} are ready"
            return Probe(healthy=well, cause="" if well else f"{told}: {seen.reason}" if seen.reason else told)
        api = self._api(place)
        pods = [str(one["metadata"]["name"]) for one in api.list(POD, place.namespace, {GROUP: group.id})]
        return checks.ask(api, place.namespace, pods, release.service, check)

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        place = self._place_of(instance_id)
        if place is None:
            yield from self._logs.lines(None, "", instance_id, last)
        elif follow:
            yield from self._logs.follow(self._api(place), place.namespace, instance_id, last)
        else:
            yield from self._logs.lines(self._api(place), place.namespace, instance_id, last)

    def has_log(self, instance_id: str) -> bool:
        return self._logs.has(instance_id) or self._has_pods(instance_id)

    def forget_logs(self, names: Sequence[str]) -> None:
        self._logs.forget(names)

    def close(self, environment: EnvironmentId) -> None:
        self._traffic(environment).close()

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        fence = self._fence(environment)
        for step in (
            lambda: self.members.end_all(environment),
            lambda: self._logs.forget(names),
            lambda: self._remove_claims(environment) if volumes else None,
            fence.claim,
            fence.remove,
        ):
            retry(step, Deadline.after(_ENDING_S), longest_pause_s=_PAUSE_S)

    def _remove_claims(self, environment: EnvironmentId) -> None:
        api, own, place = self.place_of(environment)
        near = api.list(VOLUME_CLAIM, place.namespace, {})  # whatever somebody has written on them
        for _, found in removable(near, own, self.signing):
            self._delete(environment, VOLUME_CLAIM, found["metadata"]["name"])
        for text in not_removable(near, own, self.signing):
            self._site.report(Progress(stage="note", text=text, kind="warning"))

    def open_shell(
        self, instance: Instance, release: Release, *, toolbox: bool, member: Member | None = None
    ) -> ClusterShell:
        api, _, place = self.place_of(instance.environment)
        if member is None:
            raise ProviderError(
                f"cannot open a shell in '{instance.id}': none of its pods answers",
                hint=f"instar status {instance.environment} says why; a pod that does not can be named itself",
            )
        return open_shell(api, place, member, release, toolbox=toolbox)

    def attach(self, instance: Instance, release: Release, streams: Streams) -> ClusterAttachment:
        api, _, place = self.place_of(instance.environment)
        return attach(api, place, instance, release, streams)

    def place_of(self, environment: EnvironmentId) -> tuple[Api, Names, Place]:
        place = self._place(environment)
        return self._api(place), self._names(environment), place

    def secret_values(self, subject: Subject) -> Mapping[str, bytes]:
        return self._secrets(subject.release)

    def traffic_of(self, environment: EnvironmentId) -> EnvironmentTraffic:
        return self._traffic(environment)

    def sites_of(self, environment: EnvironmentId) -> Sequence[str]:
        settings = self._site.environments().get(environment)
        return () if settings is None else settings.names.sites

    def doors_of(self, environment: EnvironmentId) -> Sequence[str]:
        settings = self._site.environments().get(environment)
        return (FIRST_DOOR,) if settings is None else (FIRST_DOOR, *settings.doors)

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
        place, doors = self._place(group.environment), self._traffic(group.environment).doors()
        api, weights = self._api(place), {} if doors is None else doors.serving(group.role)
        found = [api.find(DEPLOYMENT, place.namespace, name) for name in weights]
        return sum(int((one.get("spec") or {}).get("replicas") or 0) for one in found if one is not None)

    def _secrets(self, release: Release) -> Mapping[str, bytes]:
        wanted, state = release.configuration.secrets, self._site.state
        return {name: secret_value(state, name, digest) for name, digest in wanted.items()}

    def _delete(self, environment: EnvironmentId, kind: Kind, name: str, *, foreground: bool = False) -> None:
        """Begin to delete what is ours, unless somebody with a newer lease has claimed it. Raises LeaseLost."""
        place, fence = self._place(environment), self._fence(environment)
        api = self._api(place)
        fence.claim()
        found = api.find(kind, place.namespace, name)
        if found is not None:
            fence.admit(found)
            api.delete(kind, place.namespace, name, foreground=foreground, only=found)

    def _has_pods(self, instance_id: str) -> bool:
        place = self._place_of(instance_id)
        try:
            return place is not None and bool(self._api(place).list(POD, place.namespace, {GROUP: instance_id}))
        except InstarError:
            return False

    def _traffic(self, environment: EnvironmentId) -> EnvironmentTraffic:
        place = self._place(environment)
        api, names, fence = self._api(place), self._names(environment), self._fence(environment)
        with self._guard:
            known = self._sights.get(environment)
            if known is None or known[0] != place:  # a deploy may name another gateway
                known = self._sights[environment] = (place, Sights(names, lambda: find_gateway(api, place)))
        if not place.has_services:
            place = place.keeping(self._site.left_settings(environment))
        return EnvironmentTraffic(api, names, place, fence, known[1], self._settings(environment).doors)

    def _doors(self, environment: EnvironmentId) -> Doors | None:
        return preflight.with_patience(self._traffic(environment).doors)

    def _claim(self, environment: EnvironmentId) -> None:
        self._fence(environment).require_claimed()

    def _fence(self, environment: EnvironmentId) -> Fence:
        """Return what keeps older holders out, the same for as long as this process has the lease."""
        held, place = self._site.held_lease(environment), self._place(environment)
        api = self._api(place)
        with self._guard:
            known = self._fences.get(environment)
            if known is None or known.held != held:
                known = self._fences[environment] = Fence(api, self._names(environment), place, held)
            return known

    def _names(self, environment: EnvironmentId) -> Names:
        return Names(environment=environment, ledger=self._site.ledger_name())

    def _place(self, environment: EnvironmentId) -> Place:
        return Place.of(self._settings(environment))

    def _settings(self, environment: EnvironmentId) -> Settings:
        settings = self._site.environments().get(environment)
        if settings is None:
            raise NotFound(f"cannot find environment '{environment}': the ledger has it not")
        return settings

    def _place_of(self, instance_id: str) -> Place | None:
        """Return where an instance's environment is; None of one that is gone."""
        part = environment_part(instance_id)
        for one, settings in self._site.environments().items():
            if f"{one.service}-{one.name}" == part and "namespace" in settings.provider_settings:
                return Place.of(settings)
        return None

    def _api(self, place: Place) -> Api:
        with self._guard:
            if place.context not in self._apis:
                config = find_config(place.context, self._site.environ)
                self._apis[place.context] = Api(config, self._site.environ)
            return self._apis[place.context]
