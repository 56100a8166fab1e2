"""What a release's pods may talk to, as a NetworkPolicy of its own: made with it, and never changed.

As on this machine, port 53 is open, the world outside of private networks, and what the definition names. Whether a
policy is held to is the business of the cluster's network plugin: nobody can ask it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from instar.definition import address_forms, forms
from instar.definition.cluster_forms import NAMESPACE
from instar.definition.forms import Misfit
from instar.frozen import dataclass
from instar.model.codec import from_json, to_json
from instar.model.environment import MACHINE, Allow, Settings
from instar.model.release import EnvironmentId, Release
from instar.providers.kubernetes.kinds import POLICY
from instar.providers.kubernetes.names import ENVIRONMENT, LEDGER, MANAGED_BY, NETWORK, SERVICE, Names
from instar.providers.kubernetes.settings import unfit

_NAMESPACE: Final = "kubernetes.io/metadata.name"  # a label that the API itself gives each namespace
_NOT_THE_WORLD: Final = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
_NOT_THE_WORLD_6: Final = ("fc00::/7", "fe80::/10")
_LONGEST_LABEL: Final = 63  # what stands behind its prefix
_KEPT: Final = 54
_DNS: Final = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseNetwork:
    """``allow``: what its pods may begin to talk to besides the world. ``senders``: namespaces, and networks, from
    which requests come; None: from anywhere in the cluster."""

    allow: tuple[Allow, ...]
    senders: tuple[str, ...] | None

    @classmethod
    def of(cls, release: Release) -> ReleaseNetwork | None:
        """Return that of a release, None of one that says nothing. Raises Refused for what no definition could have
        said."""
        found = release.configuration.provider_settings.get("network")
        if found is None:
            return None
        try:
            made = from_json(cls, found)
            for one in made.allow:
                ports = [address_forms.port(port) for port in one.ports]
                if address_forms.peer(one.to) != one.to or ports != list(one.ports):
                    raise ValueError
            for sender in made.senders or ():
                _checked_sender(sender)
        except (ValueError, Misfit):
            raise unfit("network", found) from None
        return made

    @property
    def environments(self) -> tuple[EnvironmentId, ...]:
        """Those that its pods may talk to."""
        return tuple(_environment(one) for one in self.allow if one.names_environment)


def release_network(settings: Settings) -> Mapping[str, Any] | None:
    """Return what a release keeps of it, None where the environment says nothing."""
    if not settings.network.allow:
        return None
    gateway, namespace = settings.provider_settings.get("gateway"), settings.provider_settings.get("namespace")
    senders = None
    if gateway is not None:
        senders = (str(gateway.get("namespace") or namespace), *(settings.provider_settings.get("senders") or ()))
    made: Mapping[str, Any] = to_json(ReleaseNetwork(allow=settings.network.allow, senders=senders))
    return made


def network_labels(network: ReleaseNetwork | None, group: str, ledger: str) -> Mapping[str, str]:
    """Return the labels by which a pod is under its group's policy, and by which others know who may come in."""
    return {} if network is None else {NETWORK: group, **{_reaches(one): ledger for one in network.environments}}


def network_policy(
    names: Names, group: str, metadata: Mapping[str, Any], network: ReleaseNetwork, *, serves: bool
) -> Mapping[str, Any]:
    """Return the policy of a group. ``serves``: requests can get to it."""
    open_to_all = serves and network.senders is None
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": {NETWORK: group}},
        "policyTypes": ["Egress"] if open_to_all else ["Egress", "Ingress"],
        "egress": list(_egress(names, network)),
    }
    if not open_to_all:
        senders = [*map(_from, network.senders or ()), _from_others(names)] if serves else []
        spec["ingress"] = [{"from": senders}] if senders else []
    return {"apiVersion": POLICY.api_version, "kind": POLICY.name, "metadata": metadata, "spec": spec}


def _egress(names: Names, network: ReleaseNetwork) -> Iterator[Mapping[str, Any]]:
    yield {"ports": _DNS}
    world = {"cidr": "0.0.0.0/0", "except": list(_NOT_THE_WORLD)}
    yield {"to": [{"ipBlock": world}, {"ipBlock": {"cidr": "::/0", "except": list(_NOT_THE_WORLD_6)}}]}
    for one in network.allow:
        rule: dict[str, Any] = {"to": [_to(names, one)]}
        if one.ports:
            rule["ports"] = [_port(port) for port in one.ports]
        yield rule


def _to(names: Names, one: Allow) -> Mapping[str, Any]:
    if not one.names_environment:
        return {"ipBlock": {"cidr": one.to}}
    to = _environment(one)
    labels = {SERVICE: to.service, ENVIRONMENT: to.name, MANAGED_BY: "instar", LEDGER: names.ledger}
    return {"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}


def _from(sender: str) -> Mapping[str, Any]:
    if "/" in sender:
        return {"ipBlock": {"cidr": sender}}
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: sender}}}


def _from_others(names: Names) -> Mapping[str, Any]:
    """Pods of releases that name this environment in their own network.allow."""
    labels = {_reaches(names.environment): names.ledger, MANAGED_BY: "instar"}
    return {"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}


def _reaches(to: EnvironmentId) -> str:
    """Return the label of pods that may begin to talk to an environment: of no two the same, however long they are."""
    word = f"to-{to.service}.{to.name}"
    if len(word) > _LONGEST_LABEL:
        word = f"{word[:_KEPT]}-{hashlib.sha256(word.encode()).hexdigest()[:8]}"
    return f"instar/{word}"


def _environment(one: Allow) -> EnvironmentId:
    service, _, name = one.to.partition("/")
    return EnvironmentId(service=service, name=name)


def _port(port: str) -> Mapping[str, Any]:
    number, _, protocol = port.partition("/")
    return {"port": int(number), "protocol": protocol.upper()}


def _checked_sender(sender: str) -> None:
    if "/" in sender:
        address_forms.network(sender)
    elif not forms.fits(NAMESPACE, sender):
        raise Misfit


def unreachable(one: Allow, providers: Mapping[EnvironmentId, str]) -> Iterator[str]:
    """Yield why no policy can say ``one``, given each known environment's provider; nothing where one can."""
    if one.to == MACHINE:
        yield "'network.allow' names 'machine', and there is no one machine: name a network, or an environment"
    elif one.names_environment and providers.get(_environment(one), "kubernetes") != "kubernetes":
        yield f"'network.allow' names '{one.to}', which is not in a cluster: name the network that it is in"
