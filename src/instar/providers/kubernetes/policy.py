"""A policy by which a cluster itself keeps a release as it was made: ValidatingAdmissionPolicy, without a webhook.

It holds for everybody but Instar's own identity, administrators too: in the namespace, and for what carries the
environment's labels. The engine's own controllers do what they do (status, scaling, clearing away). Whoever may change
the policy itself may also change the agent and its account, have it run, and get a token: nobody else may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.model.release import EnvironmentId
from instar.providers.kubernetes.agent_objects import LEDGER_SECRET
from instar.providers.kubernetes.agent_objects import NAME as AGENT
from instar.providers.kubernetes.names import (
    ASIDE_AT,
    BEGUN,
    CONFIGURATION,
    DOORS,
    ENVIRONMENT,
    EXPOSED,
    GROUP,
    IMAGE,
    LAST_SNAPSHOT,
    LEASE_NUMBER,
    MAINTENANCE,
    MANAGED_BY,
    OCCURRENCE,
    PLAN,
    POD_TEMPLATE,
    PORTS,
    REPLACED_BY,
    SERVICE,
    SIGNATURE,
    TAINTED,
    TAKEN,
    VOLUME,
    pod_pattern,
)

_API: Final = "admissionregistration.k8s.io/v1"
_ACCOUNT: Final = "instar"
_ENGINE: Final = (
    "request.userInfo.username.startsWith('system:serviceaccount:kube-system:') || "
    "request.userInfo.username.startsWith('system:node:') || "
    "request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver']"
)
_PREFIX: Final = "instar/"  # of Instar's own labels: also of those by which pods may talk to an environment
_LABELS: Final = (MANAGED_BY, POD_TEMPLATE)  # and of others, those that something goes by
_ANNOTATIONS: Final = (
    *(MAINTENANCE, PLAN, EXPOSED, PORTS, DOORS, LEASE_NUMBER, IMAGE, CONFIGURATION, ASIDE_AT),
    *(OCCURRENCE, TAKEN, LAST_SNAPSHOT, REPLACED_BY, BEGUN, SIGNATURE),
)


def _left(part: str, names: Sequence[str]) -> str:
    return " && ".join(f"object.metadata.?{part}[?'{one}'] == oldObject.metadata.?{part}[?'{one}']" for one in names)


def _left_by_prefix() -> str:
    """Of each label of Instar's that an object has, or had: it is as it was."""
    same = "object.metadata.?labels[?name] == oldObject.metadata.?labels[?name]"
    each = f"all(name, !name.startsWith('{_PREFIX}') || {same})"
    return " && ".join(f"{one}.metadata.?labels.orValue({{}}).{each}" for one in ("object", "oldObject"))


_LEFT: Final = f"{_left('labels', _LABELS)} && {_left_by_prefix()}"
_LEFT_SAID: Final = _left("annotations", _ANNOTATIONS)
_OWNED: Final = "object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences"
_HELD_UP: Final = (  # a route's by the gateway's controller, a snapshot's by its own: nobody knows their accounts here
    "request.resource.resource in ['httproutes', 'volumesnapshots'] || "
    "object.metadata.?finalizers == oldObject.metadata.?finalizers"
)
_MADE_OF: Final = " || ".join(
    f"object.{above}?spec.?template.?metadata.?labels[?'{GROUP}'].hasValue()" for above in ("", "?spec.?jobTemplate.")
)
_DIGEST: Final = (
    "has(object.spec.containers) && object.spec.containers.all(c, c.image.matches('@sha256:[0-9a-f]{64}$'))"
)
_AS_ACCOUNT: Final = " || ".join(
    f"object.?spec.{above}?{name}.orValue('') == '{_ACCOUNT}'"
    for above in ("", "?template.?spec.", "?jobTemplate.?spec.?template.?spec.")
    for name in ("serviceAccountName", "serviceAccount")
)
_TOKEN: Final = (
    f"request.resource.resource == 'serviceaccounts' ? request.name == '{_ACCOUNT}' : "
    "object.?type.orValue('') == 'kubernetes.io/service-account-token' && "
    f"object.metadata.?annotations[?'kubernetes.io/service-account.name'].orValue('') == '{_ACCOUNT}'"
)
_OF_POLICY: Final = (
    "authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicies').check('update').allowed()"
)
_AGENT: Final = f"request.resource.resource == 'deployments' && request.name == '{AGENT}' && {_OF_POLICY}"
_NAME: Final = "(oldObject != null ? oldObject : object).metadata.?name.orValue('')"
_OF_AGENT: Final = (
    f"request.resource.resource in ['serviceaccounts', 'roles', 'rolebindings'] ? {_NAME} == '{_ACCOUNT}' : "
    f"request.resource.resource == 'secrets' ? {_NAME} == '{LEDGER_SECRET}' : "
    f"request.resource.resource == 'replicasets' ? {_NAME}.matches('^{AGENT}-[a-z0-9]+$') : {_NAME} == '{AGENT}'"
)
_SERVICE_OF: Final = ".metadata.?labels[?'kubernetes.io/service-name'].orValue('')"
_INSIDE: Final = ("pods/exec", "pods/attach", "pods/portforward", "pods/proxy")


def policies(environment: EnvironmentId, namespace: str) -> list[Mapping[str, Any]]:
    """Return the policies for one environment, and their bindings."""
    own = {"matchLabels": {SERVICE: environment.service, ENVIRONMENT: environment.name}}
    name = f"instar.{namespace}.{environment.service}.{environment.name}"  # of the whole cluster: no two are the same
    user = f"request.userInfo.username == 'system:serviceaccount:{namespace}:{_ACCOUNT}'"
    own_pods = pod_pattern(f"{environment.service}-{environment.name}")
    pods = f"request.name.matches('^({own_pods}|{AGENT}-.*)$')"
    leads = f"{_SERVICE_OF}.matches('^{environment.service}-{environment.name}(-[0-9]+-[0-9]+|--[a-z0-9-]+)?$')"
    behind = f"object{leads} || oldObject != null && oldObject{leads}"  # also of what is to be no Service's any more
    allowed = {"name": "others", "expression": f"!({user}) && !({_ENGINE})"}
    no_agent = {"name": "not-the-agent", "expression": f"!({_AGENT})"}
    no_keeper = {"name": "not-of-the-policy", "expression": f"!({_OF_POLICY})"}
    as_account = {"name": "as-the-account", "expression": _AS_ACCOUNT}
    made: list[Mapping[str, Any]] = []
    for part, rules, selector, conditions, validations in (
        ("objects", _OBJECTS, own, [allowed], _AS_MADE),
        ("removal", _REMOVED, own, [allowed], [_never(_removed_by(namespace))]),
        ("volumes", _VOLUMES, _labelled(VOLUME), [allowed], [_never(_MADE_BY_INSTAR)]),
        ("claims", _CLAIMS, _labelled(VOLUME), [allowed], _AS_CLAIMED),
        ("pods", _PODS, _labelled(GROUP), [], _BY_DIGEST),
        ("makers", _MAKERS, None, [allowed, {"name": "of-releases", "expression": _MADE_OF}], [_never(_MADE_BY)]),
        ("endpoints", _ENDPOINTS, None, [allowed, {"name": "own", "expression": behind}], [_never(_REACHED)]),
        ("labels", _CHANGED_PODS, _labelled(GROUP), [allowed], _AS_MADE),
        ("evidence", _EVIDENCE, _labelled(TAINTED), [allowed], [_never(_KEPT)]),
        ("account", _RUNNING, None, [allowed, as_account, no_agent], [_never(_ONLY_AGENT)]),
        ("agent", _AGENTS, None, [allowed, {"name": "of-the-agent", "expression": _OF_AGENT}, no_keeper], _OTHER_AGENT),
        ("token", _TOKENS, None, [allowed, {"name": "of-the-account", "expression": _TOKEN}, no_keeper], _NO_TOKEN),
        ("inside", _CONNECTED, None, [allowed, {"name": "own-pods", "expression": pods}], [_never(_SHELL)]),
    ):
        constraints: dict[str, Any] = {"resourceRules": rules, "namespaceSelector": _only(namespace)}
        if selector is not None:
            constraints["objectSelector"] = selector
        spec = {
            "failurePolicy": "Fail",
            "matchConstraints": constraints,
            "matchConditions": conditions,
            "validations": validations,
        }
        made += _bound(f"{name}.{part}", {name: one for name, one in spec.items() if one})
    return made


def _bound(name: str, spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    binding = {"policyName": name, "validationActions": ["Deny", "Audit"]}
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
    ]


def _only(namespace: str) -> Mapping[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def _rule(group: str, resources: Sequence[str], operations: Sequence[str], version: str = "v1") -> Mapping[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": list(resources),
        "operations": list(operations),
    }


def _labelled(name: str) -> Mapping[str, Any]:
    """Whatever has a label, or had it: of any environment of Instar's in that namespace."""
    return {"matchExpressions": [{"key": name, "operator": "Exists"}]}


def _never(message: str) -> Mapping[str, str]:
    return {"expression": "false", "message": message}


def _removed_by(namespace: str) -> str:
    return (
        f"only Instar's account removes what it has made: ask as 'system:serviceaccount:{namespace}:{_ACCOUNT}', "
        "with a kubeconfig for it (docs/kubernetes.md, For whoever runs the cluster)"
    )


_SHELL: Final = "nobody looks into an instance but by Instar, which taints it first, nor into Instar's agent"
_OBJECTS: Final = [
    # by a status, too, metadata can be written
    _rule("", ("configmaps", "secrets", "services", "services/status"), ("UPDATE",)),
    _rule("apps", ("deployments", "deployments/status"), ("UPDATE",)),
    _rule("batch", ("jobs", "jobs/status"), ("UPDATE",)),
    _rule("policy", ("poddisruptionbudgets", "poddisruptionbudgets/status"), ("UPDATE",)),
    _rule("networking.k8s.io", ("networkpolicies",), ("UPDATE",)),
    _rule("autoscaling", ("horizontalpodautoscalers", "horizontalpodautoscalers/status"), ("UPDATE",), "v2"),
    _rule("gateway.networking.k8s.io", ("httproutes",), ("UPDATE",)),
    _rule("snapshot.storage.k8s.io", ("volumesnapshots",), ("UPDATE",)),
]
_REMOVED: Final = [
    _rule("", ("configmaps", "secrets", "services"), ("DELETE",)),
    _rule("apps", ("deployments",), ("DELETE",)),
    _rule("policy", ("poddisruptionbudgets",), ("DELETE",)),
    _rule("networking.k8s.io", ("networkpolicies",), ("DELETE",)),
    _rule("autoscaling", ("horizontalpodautoscalers",), ("DELETE",), "v2"),
    _rule("gateway.networking.k8s.io", ("httproutes",), ("DELETE",)),
    _rule("snapshot.storage.k8s.io", ("volumesnapshots",), ("DELETE",)),
]
_VOLUMES: Final = [  # by their labels Instar knows which of them has a volume's data
    _rule("", ("persistentvolumeclaims",), ("CREATE", "DELETE")),
    _rule("snapshot.storage.k8s.io", ("volumesnapshots",), ("CREATE", "DELETE")),
]
_MADE_BY_INSTAR: Final = "only Instar's account makes and removes volumes and their snapshots: instar volumes"
_CLAIMS: Final = [
    _rule("", ("persistentvolumeclaims", "persistentvolumeclaims/status"), ("UPDATE",)),
    _rule("snapshot.storage.k8s.io", ("volumesnapshots",), ("UPDATE",)),
]
_PODS: Final = [_rule("", ("pods",), ("CREATE",))]
_CHANGED_PODS: Final = [_rule("", ("pods", "pods/resize", "pods/status"), ("UPDATE",))]
_EVIDENCE: Final = [_rule("", ("pods", "pods/resize", "pods/status"), ("UPDATE", "DELETE"))]
_MAKERS: Final = [  # by whose templates the engine makes pods
    _rule("", ("replicationcontrollers",), ("CREATE", "UPDATE")),
    _rule("apps", ("deployments", "replicasets", "statefulsets", "daemonsets"), ("CREATE", "UPDATE")),
    _rule("batch", ("jobs", "cronjobs"), ("CREATE", "UPDATE")),
]
_RUNNING: Final = [_rule("", ("pods",), ("CREATE", "UPDATE")), *_MAKERS]
_ONLY_AGENT: Final = (
    "as Instar's account runs the agent alone: instar kubernetes agent, applied by who may change policies"
)
_TOKENS: Final = [
    _rule("", ("serviceaccounts/token",), ("CREATE",)),
    _rule("", ("secrets",), ("CREATE", "UPDATE")),
]
_AGENTS: Final = [
    _rule("apps", ("deployments", "deployments/scale", "deployments/status"), ("UPDATE", "DELETE")),
    _rule("apps", ("replicasets", "replicasets/scale", "replicasets/status"), ("UPDATE", "DELETE")),
    _rule("", ("configmaps", "secrets"), ("CREATE", "UPDATE", "DELETE")),  # its machine's file, its ledger and key
    _rule("", ("serviceaccounts",), ("UPDATE", "DELETE")),  # without its account it has no say
    _rule("rbac.authorization.k8s.io", ("roles", "rolebindings"), ("UPDATE", "DELETE")),
]
_MADE_BY: Final = "what makes pods with the labels of a release is made by Instar alone"
_ENDPOINTS: Final = [_rule("discovery.k8s.io", ("endpointslices",), ("CREATE", "UPDATE"))]
_REACHED: Final = "which pods a Service of Instar's leads to is told by the engine alone"
_KEPT: Final = "a tainted pod is kept as it is, as evidence: Instar ends it when its time is over"
_CONNECTED: Final = [
    _rule("", _INSIDE, ("CONNECT",)),
    _rule("", ("pods/ephemeralcontainers",), ("UPDATE",)),
]
_AS_MADE: Final = [
    {
        "expression": "object.?spec == oldObject.?spec && object.?data == oldObject.?data",
        "message": "what Instar has made is never changed: deploy a new release",
    },
    # what has an owner that is gone is deleted by the garbage collector
    {"expression": _OWNED, "message": "whose what Instar has made is (ownerReferences) is never changed"},
    {"expression": _HELD_UP, "message": "what keeps an object of Instar's from going (finalizers) is never changed"},
    {"expression": _LEFT_SAID, "message": "what Instar keeps in annotations of its own is never changed"},
    {"expression": _LEFT, "message": "the labels by which Instar knows what it has made are never changed"},
]
_AS_CLAIMED: Final = [  # a claim may grow, and drivers and their sidecars, whose accounts nobody knows here, hold it up
    {
        "expression": "object.?spec.?volumeName == oldObject.?spec.?volumeName",
        "message": "which storage a claim has is said by the engine alone",
    },
    *(one for one in _AS_MADE if one["expression"] in (_OWNED, _LEFT_SAID, _LEFT)),
]
_NO_TOKEN: Final = [_never("a token of Instar's account is for who may change this policy")]
_OTHER_AGENT: Final = [
    _never(
        "Instar's agent, its account, and what it goes by are changed by Instar's account, or by who may change this "
        "policy, with what instar kubernetes agent or rbac prints"
    )
]
_BY_DIGEST: Final = [
    {"expression": _DIGEST, "message": "an instance runs an image by its digest, and never by a tag"},
    {
        "expression": _ENGINE,
        "message": "a pod with the labels of a release is made by the engine alone, of the release's own Deployment",
    },
]
