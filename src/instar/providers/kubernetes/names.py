"""How objects are called, and the labels by which an environment's own are found: nobody else's are touched.

A group's objects begin with its id, SERVICE-ENVIRONMENT-RELEASE-K; the route and the Service of an environment, and its
volumes, with SERVICE-ENVIRONMENT. The definition keeps both short enough for a host name (63 characters). Further
routes of an environment are called SERVICE-ENVIRONMENT.PART: no name of a service or an environment has a dot in it.
Nor has a Service's, which is a host name: further ones are called SERVICE-ENVIRONMENT--PART.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.frozen import dataclass
from instar.model.occurrence import Occurrence
from instar.model.release import EnvironmentId, Instance

LONGEST: Final = 63  # of a name, and of a label's value
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP: Final = "app.kubernetes.io/name"
SERVICE: Final = "instar/service"
ENVIRONMENT: Final = "instar/environment"
LEDGER: Final = "instar/ledger"
RELEASE: Final = "instar/release"
GROUP: Final = "instar/group"
VOLUME: Final = "instar/volume"
PART: Final = "instar/part"  # what an object is of its group: "anchor"
NETWORK: Final = "instar/network"  # of a pod: the group whose network policy it is under, also when it is of none
SNAPSHOT: Final = "instar/snapshot"  # the number of a snapshot among those of its volume
TURN: Final = "instar/turn"  # of a claim that was restored: its number among those that its volume has had
WHOLE: Final = "instar/whole"  # of a snapshot, or such a claim, that holds all that it is to hold: only then it counts
COPY: Final = "instar/copy"  # of a snapshot that a volume is copied by, and which goes again
TAINTED: Final = "instar/tainted"  # of a tainted pod: the group that it is, or was, of
POD_TEMPLATE: Final = "pod-template-hash"  # the engine's own, by which a ReplicaSet knows its pods

IMAGE: Final = "instar/image"  # annotations
CONFIGURATION: Final = "instar/configuration"
MAINTENANCE: Final = "instar/maintenance"
PLAN: Final = "instar/plan"
EXPOSED: Final = "instar/exposed"
PORTS: Final = "instar/ports"
DOORS: Final = "instar/doors"  # of a route: which further ones the environment has, by their parts
LEASE_NUMBER: Final = "instar/lease"  # of the lease that an object was claimed under last
ASIDE_AT: Final = "instar/aside-at"
OCCURRENCE: Final = "instar/occurrence"  # of a Job: what of a schedule it is, by its entry and its time
TAKEN: Final = "instar/taken"  # of a snapshot: when, of what and why, as JSON
LAST_SNAPSHOT: Final = "instar/last-snapshot"  # of a claim: the highest number that a snapshot of its volume was given
SIGNATURE: Final = "instar/signature"  # of a claim or a snapshot: by the ledger's key, that it is Instar's own
BEGUN: Final = "instar/begun"  # of a claim that is made from a snapshot: by the ledger's key, as it is made
FILLED_FROM: Final = "instar/filled-from"  # of a claim that is made from a snapshot: the uid of that
REPLACED_BY: Final = "instar/replaced-by"  # of a claim with data: the uid of the one that is to have its place

ANCHOR: Final = "anchor"
CONTAINER: Final = "service"  # of a pod, the only one
_FORM: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
REDIRECTS: Final = "0-redirect"  # stands for a role: names whose requests are sent to another one
INSIDE: Final = "0-inside"  # and this for Services of an environment behind a gateway, "0-inside.ROLE" of a role
OWN_PORT: Final = "own"  # of a Service of tcp: that of its pods
_FURTHER: Final = "--"  # parts labels of a Service's name
_DOOR: Final = f"(?:{_FORM.pattern}|0[0-9a-f]{{10}})"  # a label of a part, as _label makes it
_OF_PART: Final = re.compile(
    rf"(?:(?:{_DOOR}|{REDIRECTS})(?:\.{_DOOR})?|0\.{_DOOR})(?:\.[1-9][0-9]{{0,3}})?|[1-9][0-9]{{0,3}}"
)
_PORT: Final = re.compile(r"[a-z]([a-z0-9]|-[a-z0-9])*")
_LONGEST_PORT: Final = 15
GENERATED: Final = 58  # of what a pod is called after, the most that its own name has (SimpleNameGenerator)
_HEAD: Final = 33  # of a name of 57, so that the engine's for its pod has all of it (63)
_ID: Final = re.compile(r"(.+)-[0-9]+-[0-9]+")
_NUMBERS: Final = re.compile(r"-([0-9]{1,18})-([0-9]{1,18})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Of one environment's objects. ``ledger`` marks whose they are, where several share a namespace."""

    environment: EnvironmentId
    ledger: str

    @property
    def labels(self) -> Mapping[str, str]:
        """What all its objects have, and nobody else's."""
        return {SERVICE: self.environment.service, ENVIRONMENT: self.environment.name, LEDGER: self.ledger}

    @property
    def all_labels(self) -> Mapping[str, str]:
        return {APP: self.environment.service, MANAGED_BY: "instar", **self.labels}

    @property
    def route(self) -> str:
        """The name of its HTTPRoute, or of the Service that selects a group."""
        return _checked(f"{self.environment.service}-{self.environment.name}")

    def route_of(self, part: str) -> str:
        """Return the name of an HTTPRoute that is a part of where its requests come in."""
        return f"{self.route}.{part}" if part else self.route

    def service_of(self, part: str) -> str:
        """Return the name of a Service that is such a part: "" and INSIDE are the first one's, of no other part is it
        the same, and none is called as a group is."""
        further = part.removeprefix(INSIDE).removeprefix(".")
        if not further:
            return self.route
        name = f"{self.route}{_FURTHER}{_FURTHER.join(map(_plain, further.split('.')))}"
        if len(name) > LONGEST or environment_part(name) is not None:
            name = f"{self.route}{_FURTHER}{_hashed(further)}"
        return _checked(name)

    def is_route(self, name: str) -> bool:
        """Tell whether a name is one that a part of where its requests come in can have."""
        part = name.removeprefix(f"{self.route}.")
        return name == self.route or (part != name and _OF_PART.fullmatch(part) is not None)

    @property
    def lease(self) -> str:
        return f"{self.route}-lease"

    def claim(self, volume: str) -> str:
        return f"{self.route}-{volume}"

    def of(self, group: Instance) -> Mapping[str, str]:
        """Return the labels of a group's objects."""
        return {**self.all_labels, RELEASE: str(group.release), GROUP: _checked(group.id)}

    def owns(self, found: Mapping[str, Any]) -> bool:
        labels = (found.get("metadata") or {}).get("labels") or {}
        return all(labels.get(name) == value for name, value in self.labels.items())

    def require_own(self, kind: str, found: Mapping[str, Any]) -> None:
        """Raise Refused for an object that is somebody else's."""
        metadata = found.get("metadata") or {}
        labels = metadata.get("labels") or {}
        if not self.owns(found):
            whose = f"it is managed by '{labels[MANAGED_BY]}'" if MANAGED_BY in labels else "nothing says that it is"
            advice = "name the environment otherwise, or move that object away"
            if labels.get(MANAGED_BY) == "instar":
                whose = "it is of another environment, or of another ledger"
                other = f"{labels.get(SERVICE)}/{labels.get(ENVIRONMENT)}"
                advice = f"its labels say that it serves '{other:.130}': name this environment, or its role, otherwise"
            raise Refused(
                f"cannot use the {kind} '{metadata.get('namespace')}/{metadata.get('name')}': it is not Instar's for "
                f"'{self.environment}' ({whose})",
                hint=f"it was left as it is; {advice}",
            )


def group_of(found: Mapping[str, Any]) -> str:
    """Return the group that an object says that it is of."""
    return str((found["metadata"].get("labels") or {}).get(GROUP, ""))


def port_name(name: str) -> str:
    """Return how a further port is called in objects: a name of at most 15 characters, and none of our own."""
    fits = _PORT.fullmatch(name) and len(name) <= _LONGEST_PORT and name not in (CONTAINER, OWN_PORT)
    return name if fits else f"p{hashlib.sha256(name.encode()).hexdigest()[:10]}"


FIRST_PART: Final = ""  # the first route, or Service, of the first door: it names all others


def door_part(door: str, number: int = 1) -> str:
    """Return which part of an environment's routes is the ``number``-th of a ``door`` (FIRST_DOOR, ".PORT", "ROLE",
    "ROLE.PORT"): FIRST_PART is the first of the first one. A label that begins with a digit is nobody's name: "0"
    stands for the first role, "2" is the second route of a door, REDIRECTS those of names that are sent on."""
    role, dot, port = door.partition(".")
    labels = [role if role in (REDIRECTS, INSIDE) else _label(role)] if role else ["0"] if dot else []
    labels += [_label(port)] if dot else []
    labels += [str(number)] if number > 1 else []
    return ".".join(labels)


def inside_key(role: str) -> str:
    """Return of which door the Service of a role is, as it were, behind a gateway; FIRST_DOOR the first role's."""
    return f"{INSIDE}.{role}" if role else INSIDE


def role_keys(doors: Iterable[str]) -> Iterator[str]:
    """Yield the doors among ``doors`` that are of roles' own ports, besides the first: the roles."""
    return (key for key in doors if key and "." not in key)


def role_inside(key: str) -> str | None:
    """Return the role of which a key is that of the Service beside routes; None: it is a door's."""
    before, _, role = key.partition(".")
    return role if before == INSIDE else None


def _label(name: str) -> str:
    return name if _FORM.fullmatch(name) else _hashed(name)


def _plain(label: str) -> str:
    """Return a label in which nothing is what parts labels of a Service's name."""
    return label if _FURTHER not in label else _hashed(label)


def _hashed(name: str) -> str:
    return f"0{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def job_name(group: Instance) -> str:
    """Return how the Job of a task is called: after its group, but of what is due by the clock after its entry and its
    time, so that a second one of them is refused, whoever makes it."""
    task = group.task or ""
    found = Occurrence.of(task) if group.command is not None else None
    if found is None or found.due_at is None:
        return group.id
    whose = f"{group.environment.service}-{group.environment.name}"
    digest = hashlib.sha256(f"{group.environment} {task}".encode()).hexdigest()[:8]
    return f"{_head(f'{whose}-{found.entry}')}-{found.due_at:%Y%m%d%H%M%S}-{digest}"


def job_pattern(environment: str) -> str:
    """Return what the names of such Jobs of SERVICE-ENVIRONMENT are like: a regular expression."""
    return f"{_head(environment)}[a-z0-9-]*-[0-9]{{14}}-[0-9a-f]{{8}}"


def _head(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_HEAD].rstrip("-")


def pod_pattern(environment: str) -> str:
    """Return what the names of pods of SERVICE-ENVIRONMENT are like, of groups and of Jobs: a regular expression.

    The engine takes GENERATED characters of what a pod is made of, and a dash, and adds five: of a long one the dash,
    or more, is gone.
    """
    left = max(GENERATED - len(f"{environment}-"), 0)
    cut = f"{environment}-[0-9-]{{{left}}}[a-z0-9]{{5}}"
    return f"({environment}-[0-9]+-[0-9]+|{job_pattern(environment)})-.*|{cut}"


def environment_part(group_id: str) -> str | None:
    """Return SERVICE-ENVIRONMENT of a group's id; None for what is none."""
    found = _ID.fullmatch(group_id)
    return None if found is None else found[1]


def group_numbers(group_id: str) -> tuple[int, int]:
    """Return the numbers that a group's id ends with, of its release and its own; (0, 0) of what is none."""
    found = _NUMBERS.search(group_id)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _checked(name: str) -> str:
    if len(name) > LONGEST or not _FORM.fullmatch(name):
        raise ProviderError(f"cannot name an object '{name}': it has to be a host name of at most {LONGEST} characters")
    return name
