"""The rights that Instar needs in a cluster, and no more: what ``preflight`` asks for and ``rbac`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.frozen import dataclass
from instar.providers.kubernetes.kinds import (
    AUTOSCALER,
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    GATEWAY,
    GRPC_ROUTE,
    JOB,
    LEASE,
    POD,
    POD_METRICS,
    POLICY,
    ROUTE,
    SECRET,
    SERVICE,
    SLICE,
    SNAPSHOT_CLASS,
    STORAGE_CLASS,
    TCP_ROUTE,
    TLS_ROUTE,
    VOLUME_CLAIM,
    VOLUME_SNAPSHOT,
    Kind,
)

_RBAC: Final = "rbac.authorization.k8s.io/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Right:
    """A verb on a resource ("pods", "pods/log"). ``of_gateway``: in the Gateway's own namespace."""

    verb: str
    resource: str
    group: str = ""
    of_gateway: bool = False

    @property
    def resource_name(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def is_in(self, rules: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether one of ``rules`` gives it, of whatever name the object has."""
        _, _, part = self.resource.partition("/")
        resources = {"*", self.resource, *([f"*/{part}"] if part else [])}
        return any(
            not rule.get("resourceNames")
            and {"*", self.verb} & _words(rule, "verbs")
            and {"*", self.group} & _words(rule, "apiGroups")
            and resources & _words(rule, "resources")
            for rule in rules
        )


def _words(rule: Mapping[str, Any], name: str) -> set[str]:
    found = rule.get(name)
    return {one for one in found if isinstance(one, str)} if isinstance(found, list) else set()


_VERBS: Final[Mapping[Kind, Sequence[str]]] = {  # what an anchor owns goes with it: the engine itself deletes that
    CONFIG_MAP: ("create", "get", "list", "patch", "delete"),
    SECRET: ("create", "get"),
    SERVICE: ("create", "get", "patch", "delete"),
    POD: ("get", "list", "patch", "delete"),
    EVENT: ("list",),
    VOLUME_CLAIM: ("create", "get", "list", "patch", "delete"),
    DEPLOYMENT: ("create", "get", "list"),
    JOB: ("create", "get", "list"),
    BUDGET: ("create", "get"),
    POLICY: ("create", "get"),
    AUTOSCALER: ("create", "get"),
    SLICE: ("list",),
    LEASE: ("create", "get", "patch", "delete"),
    ROUTE: ("create", "get", "patch", "delete"),
}
# what may not be watched is asked for again and again
_WATCHED: Final = (CONFIG_MAP, DEPLOYMENT, ROUTE, VOLUME_CLAIM, VOLUME_SNAPSHOT)
SNAPSHOTS: Final = tuple(  # needed by who keeps what volumes hold alone: what has no volumes to keep asks for none
    Right(verb=verb, resource=VOLUME_SNAPSHOT.plural, group=VOLUME_SNAPSHOT.group)
    for verb in ("create", "get", "list", "delete", "patch")
)
# An object waits for the end of what it owns where each of these says so, which some clusters let only those say who
# may change the owner's finalizers (the admission plugin OwnerReferencesPermissionEnforcement); elsewhere none asks.
_OWNING: Final = Right(verb="update", resource=f"{CONFIG_MAP.plural}/finalizers", group=CONFIG_MAP.group)
_MEASURING: Final = Right(verb="list", resource=POD_METRICS.plural, group=POD_METRICS.group)  # without, nothing is said
LISTING: Final = tuple(  # without, others' are not found
    Right(verb="list", resource=kind.plural, group=kind.group)
    for kind in (ROUTE, GRPC_ROUTE, TLS_ROUTE, TCP_ROUTE, GATEWAY)
)
_PARTS: Final = (
    ("get", "pods/log"),
    ("get", "pods/proxy"),
    ("get", "pods/exec"),
    ("create", "pods/exec"),
    ("patch", "pods/ephemeralcontainers"),
)

NEEDED: Final = (
    *(Right(verb=verb, resource=kind.plural, group=kind.group) for kind, verbs in _VERBS.items() for verb in verbs),
    *(Right(verb=verb, resource=part) for verb, part in _PARTS),
    Right(verb="get", resource=GATEWAY.plural, group=GATEWAY.group, of_gateway=True),
)


def roles(namespace: str, gateway: tuple[str, str] | None, account: str = "instar") -> list[Mapping[str, Any]]:
    """Return the account, the roles and their bindings: in the environment's namespace, for that namespace itself,
    for the Gateway in its own, and for a look at what of all namespaces could take requests."""
    watching = (Right(verb="watch", resource=kind.plural, group=kind.group) for kind in _WATCHED)
    inner = [
        one
        for one in (*NEEDED, _OWNING, *watching, *SNAPSHOTS, _MEASURING, *LISTING)
        if not one.of_gateway and (gateway is not None or one.group != GATEWAY.group)
    ]
    who = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    made: list[Mapping[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}},
        *_role("Role", account, namespace, _rules(inner), who),
        *_role("ClusterRole", f"{account}-{namespace}", None, [_reading_namespace(namespace), *_READING_STORAGE], who),
    ]
    if gateway is not None:
        rule = {
            "apiGroups": [GATEWAY.group],
            "resources": [GATEWAY.plural],
            "resourceNames": [gateway[1]],
            "verbs": ["get"],
        }
        made += _role("Role", f"{account}-{namespace}-gateway", gateway[0], [rule], who)
        made += _role("ClusterRole", routes_role(namespace, account), None, _rules(LISTING), who)
    return made


def routes_role(namespace: str, account: str = "instar") -> str:
    """Return the name of the ClusterRole that may be left away: it finds others' routes in other namespaces."""
    return f"{account}-{namespace}-routes"


def _reading_namespace(namespace: str) -> Mapping[str, Any]:
    return {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [namespace], "verbs": ["get"]}


_READING_STORAGE: Final = [  # which driver a class has, and whether that one takes snapshots: of the whole cluster
    {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": verbs}
    for kind, verbs in ((STORAGE_CLASS, ["get", "list"]), (SNAPSHOT_CLASS, ["list"]))
]


def _rules(rights: Sequence[Right]) -> list[Mapping[str, Any]]:
    by_resource: dict[tuple[str, str], list[str]] = {}
    for one in rights:
        by_resource.setdefault((one.group, one.resource), []).append(one.verb)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs}
        for (group, resource), verbs in by_resource.items()
    ]


def _role(
    kind: str, name: str, namespace: str | None, rules: Sequence[Mapping[str, Any]], who: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    binding = {
        "apiVersion": _RBAC,
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": reference,
        "subjects": [who],
    }
    return [{"apiVersion": _RBAC, "kind": kind, "metadata": metadata, "rules": list(rules)}, binding]
