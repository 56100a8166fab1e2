"""Questions that are asked of a candidate by doing something: smoke checks, and an analysis' own checks."""

from __future__ import annotations

import dataclasses

from instar.control.analysis import Verdict
from instar.control.snapshot import Snapshot
from instar.model.release import Instance, Release
from instar.providers.base import Provider


def smoke(provider: Provider, instance: Instance, release: Release) -> tuple[str, str] | None:
    """Ask one instance all smoke checks of its release; return its id and the first cause, None when all passed."""
    for check in release.service.smoke:
        probe = provider.ask(instance, release, check)
        if not probe.healthy:
            return instance.id, probe.cause
    return None


def checked(provider: Provider, snapshot: Snapshot, verdict: Verdict) -> Verdict:
    """Ask the analysis' own checks, of one group of the candidate; return the verdict with what they found."""
    policy, target = snapshot.environment.settings.rollout.analysis, snapshot.target
    if policy is None or target is None:
        return verdict
    first = target.of_role(target.role)
    group = next((one for one in snapshot.of(target) if one.state == "running" and one.role == first.role), None)
    if group is None:
        return verdict
    for check in policy.checks:
        probe = provider.ask(group.instance, first, check)
        if not probe.healthy:
            return dataclasses.replace(verdict, passed=False, cause=probe.cause)
    return verdict
