"""Why a group is not well, in the engine's own words, and what of its settings these are about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.model.release import Instance

Object = Mapping[str, Any]
_BAD_PULL: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_SAYS_NO_CAUSE: Final = ("Error: ErrImagePull", "Error: ImagePullBackOff")
_NOT_BEGUN: Final = ("StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError")


def cause(owner: Object, pods: Sequence[Object]) -> str | None:
    """Say why a group is not well yet, in the engine's own words: it cannot make pods, place them, or begin them."""
    for condition in conditions(owner):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"pods cannot be made: {condition.get('message')}"
    found = [told for pod in pods if (told := _pod_cause(pod)) is not None]
    return found[0] if found else None


def scaled(deployment: Object, group: Instance) -> str | None:
    """Say that somebody else has fewer pods kept than the group is to have, and who."""
    wanted = (deployment.get("spec") or {}).get("replicas")
    if not isinstance(wanted, int) or wanted >= group.members:
        return None
    entries = deployment["metadata"].get("managedFields") or ()
    who = [str(one.get("manager")) for one in entries if one.get("subresource") == "scale"]
    by = f" by '{who[-1]}'" if who else ""
    namespace = deployment["metadata"].get("namespace")
    back = f"kubectl scale deployment {group.id} -n {namespace} --replicas={group.members}"
    return f"its Deployment was scaled to {wanted}{by}, and is to have {group.members}: {back}"


def last_warnings(events: Iterable[Object]) -> Mapping[str, str]:
    """Return what was said last of each object that something is wrong with: more than that a pull failed, where its
    cause was said before."""
    found = sorted(events, key=lambda one: (one.get("message") not in _SAYS_NO_CAUSE, said_at(one)))
    return {str((one.get("involvedObject") or {}).get("name")): str(one.get("message")) for one in found}


def said_at(event: Object) -> str:
    """Return when an event was told last, as the cluster says; "" where it does not. A later one is the greater."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def warned(pods: Sequence[Object], warnings: Mapping[str, str]) -> str | None:
    """Say what was warned of last, of one of ``pods`` or of a claim that it waits for."""
    for pod in pods:
        if told := warnings.get(name := str(pod["metadata"]["name"])):
            return f"{name}: {' '.join(told.split())[:300]}{_of_settings(pod, told)}"
        for claim in awaited(pod):
            if told := warnings.get(claim):
                return f"{name} waits for the volume claim '{claim}': {' '.join(told.split())[:300]}"
    return None


def _of_settings(pod: Object, said: str) -> str:
    """Say what of the settings an event is about, where its words have that in them."""
    if "pull" in said.lower():
        return _login(pod)
    return _needed(pod) if "node selector" in said or "affinity/selector" in said else ""


def awaited(pod: Object) -> Iterator[str]:
    """Yield the names of the volume claims of a pod, as long as no node has it."""
    spec = pod.get("spec") or {}
    for volume in spec.get("volumes") or () if not spec.get("nodeName") else ():
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield str(name)


def _pod_cause(pod: Object) -> str | None:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in conditions(pod):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{name} cannot be placed on a node: {condition.get('message')}{_needed(pod)}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        last = (container.get("lastState") or {}).get("terminated") or {}
        if waiting.get("reason") in _BAD_PULL:
            return f"{name} cannot pull its image: {waiting.get('message') or waiting.get('reason')}{_login(pod)}"
        if waiting.get("reason") == "CrashLoopBackOff":
            return f"{name} ends again and again, the last time with {_told(last)}"
        if waiting.get("message"):
            return f"{name} cannot begin: {waiting.get('reason')}: {waiting['message']}"
        if last:
            return f"{name} was begun anew {container.get('restartCount')} times, the last time after {_told(last)}"
    return None


def _needed(pod: Object) -> str:
    """Say which labels of a node a pod needs: of its image's architecture, and those of its release's settings."""
    wanted = (pod.get("spec") or {}).get("nodeSelector") or {}
    return f" (it needs a node with {', '.join(f'{name}={wanted[name]}' for name in sorted(wanted))})" if wanted else ""


def _login(pod: Object) -> str:
    """Say by which Secret a pod pulls its image, or that it has none: a registry may want one, or another."""
    metadata = pod["metadata"]
    secrets = [str(one.get("name")) for one in (pod.get("spec") or {}).get("imagePullSecrets") or ()]
    if not secrets:
        return " (without a password: 'kubernetes.pull_secret' names a Secret where the registry wants one)"
    shown = f"kubectl get secret {secrets[0]} -n {metadata.get('namespace')} -o yaml"
    return f" (with the password of the Secret '{secrets[0]}', which 'kubernetes.pull_secret' names: {shown})"


def _told(terminated: Object) -> str:
    if terminated.get("reason") == "OOMKilled":
        return "no memory left"
    if terminated.get("reason") in _NOT_BEGUN and terminated.get("message"):
        return f"a start that failed: {str(terminated['message']).strip().splitlines()[-1][-300:]}"
    return f"exit status {terminated.get('exitCode')}"


def failure(job: Object, terminated: Object) -> str | None:
    """Say what a task failed of where its exit status does not: its pod is gone, or never began."""
    if terminated:
        return "killed: out of memory" if terminated.get("reason") == "OOMKilled" else None
    told = [one.get("message") for one in conditions(job) if one.get("type") in ("Failed", "FailureTarget")]
    return f"its Job failed: {told[0]}" if told and told[0] else "its Job failed"


def conditions(found: Object) -> Sequence[Object]:
    return (found.get("status") or {}).get("conditions") or ()
