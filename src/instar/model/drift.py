"""What is not as it was baked: findings, each with what was expected and what is there instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import date
from fnmatch import fnmatchcase
from typing import Final

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.environment import Ignore

KINDS: Final = {
    "root": "the root file system is not that of the image, or not the one that the instance was made with",
    "mount": "something is mounted that is not part of the release, is missing, or has other options",
    "code": "a process runs, or has mapped to run, what is neither the image's nor the base plate's",
    "process": "a process that does not descend from the instance's first, or is not in all of its namespaces",
    "privilege": "a process has another user, group, capability or protection than the release gives it",
    "command": "the first process has another command line or environment than the release gives it",
    "limit": "a limit of the instance's cgroup is not the release's",
    "sysctl": "a kernel setting of the instance's namespaces is not as it was made",
    "network": "an address, route, link, rule or table of an instance's network, inside or out, is not as it was made",
    "listener": "a socket listens on another port than the release's",
    "file": "a file that Instar shows inside (hosts, resolv.conf, hostname) is not as it was made",
    "secret": "a secret is not the release's",
    "bundle": "what runc was told about the instance is not what the release says",
    "runtime": "conmon or runc's own state of the instance is not there, or not as it was",
    "blob": "a layer's bytes are not those that were baked",
    "object": "an object of a cluster that a release is made of is not as it was made, or others have written to it",
    "router": "the router sends traffic elsewhere than the ledger says, or its file does",
    "name": "requests for a name of the environment go elsewhere, by an object of somebody else's",
    "record": "it is not written down what the instance was like when it was made",
    "rule": "a rule that ignores findings has expired",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One difference. ``instance`` is None for what is not an instance's; ``path`` says where in it: a mount point, a
    setting's name, "process 17 (python3)". ``expected`` and ``observed`` are for people, and hold no secret.
    ``member``: of a group that an engine runs, the one that it is about; None: what all of them are made from.
    """

    instance: str | None
    kind: str
    path: str
    expected: str
    observed: str
    member: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenNames:
    """Who else takes requests for an environment's names; ``unseen``: why not all of them are known, None where they
    are."""

    found: tuple[Finding, ...] = ()
    unseen: str | None = None


def find_rule(finding: Finding, rules: Sequence[Ignore], today: date) -> Ignore | None:
    """Return the rule that expects ``finding``, of those that hold ``today``; None where nobody expects it."""
    return next((rule for rule in rules if holds(rule, today) and _covers(rule, finding)), None)


def holds(rule: Ignore, today: date) -> bool:
    """Tell whether the last day of a rule is not over."""
    return date.fromisoformat(rule.until) >= today


def _covers(rule: Ignore, finding: Finding) -> bool:
    return rule.kind == finding.kind and (rule.path is None or fnmatchcase(finding.path, rule.path))
