"""What a rollout will ask of those who stand by, told before it begins: pure."""

from __future__ import annotations

from collections.abc import Iterator

from instar.model.definition import Service
from instar.model.release import Release, Settings


def forecast(settings: Settings, active: Release | None, service: Service) -> tuple[str, ...]:
    """Return what is worth knowing of a rollout from ``active`` to a new release of ``service``, a sentence each."""
    return () if active is None else tuple(_waits(settings, service))


def _waits(settings: Settings, service: Service) -> Iterator[str]:
    policy = settings.rollout.analysis
    judged = settings.rollout.strategy != "blue-green" and service.port is not None and not service.exclusive
    if policy is None or not judged or not policy.min_requests:
        return
    wait = f"{policy.wait_ms / 1000:g} s"
    text = f"each step waits until the new release has answered {policy.min_requests} requests"
    if policy.quiet == "pass":
        yield f"{text}, at most {wait} beyond its pause; then those that came decide (quiet: pass)"
    else:
        yield (
            f"{text}; without them the rollout is given up {wait} after the step's pause "
            "(where no traffic is fine, say so: rollout.analysis.quiet: pass, or min_requests: 0)"
        )
