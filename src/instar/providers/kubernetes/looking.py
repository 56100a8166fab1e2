"""What is asked of a cluster for one look at an environment: as little as says how it is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from instar.errors import ProviderError
from instar.model.release import Instance
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.causes import last_warnings
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, EVENT, JOB, POD, VOLUME_CLAIM, Kind
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.observation import Look


def last_words(api: Api, namespace: str, look: Look, groups: Sequence[Instance]) -> Mapping[str, str]:
    """Return what the cluster said last of what is not well and does not say why itself, by its name."""
    found: dict[str, str] = {}
    silent = {POD: look.silent_pods(groups), JOB: look.silent_jobs(groups), VOLUME_CLAIM: look.awaited_claims(groups)}
    for kind in (one for one, names in silent.items() if names):
        found |= _warnings(api, namespace, kind)
    return found


def _warnings(api: Api, namespace: str, kind: Kind) -> Mapping[str, str]:
    """Return what was said last of each object of a kind: nothing where it may not be read."""
    try:
        fields = {"type": "Warning", "involvedObject.kind": kind.name}
        return last_warnings(api.list(EVENT, namespace, {}, fields))
    except ProviderError as error:
        if error.retry_after_s is not None:
            raise
        return {}


def look_at(api: Api, names: Names, namespace: str, groups: Sequence[Instance]) -> Look:
    """Ask once for each kind, and for pods, of which there may be thousands, where only they say what is the matter.
    Where no group is asked about, who answers is all that the traffic needs."""
    found = functools.partial(api.list, namespace=namespace, labels=names.labels)
    configs, of_configs = api.listed(CONFIG_MAP, namespace, names.labels) if groups else ((), "")
    deployments, of_deployments = api.listed(DEPLOYMENT, namespace, names.labels)
    look = Look.of(
        configs=configs,
        deployments=deployments,
        jobs=found(JOB) if any(one.task is not None for one in groups) else (),
        pods=(),
        versions={CONFIG_MAP.name: of_configs, DEPLOYMENT.name: of_deployments},
    )
    return look if look.is_told_without_pods(groups) else look.with_pods(found(POD))
