"""What a rollout will ask of those who stand by, told before it begins: pure."""

from __future__ import annotations

from collections.abc import Iterator

from instar.control.tasks import runs_alone
from instar.model.configuration import Configuration
from instar.model.definition import Service, Volume
from instar.model.environment import Settings
from instar.model.release import Release
from instar.model.sizes import size_text
from instar.providers.traits import Traits


def forecast(
    settings: Settings, active: Release | None, wanted: Configuration, *, tasks: bool = True, steps: bool = True
) -> tuple[str, ...]:
    """Return what is worth knowing of a rollout from ``active`` to a release as it is ``wanted``, a sentence each.
    ``tasks``: it runs those of the release; ``steps``: its strategy moves the traffic, not all of it at once."""
    if active is None:
        return ()
    first = active.of_role(active.role)
    gaps = [*_gap(first, wanted.service, tasks=tasks)]
    for role, service in wanted.roles.items():
        before = active.configuration.roles.get(role)
        if before is not None:
            gaps += (f"role '{role}': {text}" for text in _gap(active.of_role(role), service, tasks=tasks))
    if not steps:
        return tuple(gaps)
    several = any(one.port is not None for one in wanted.roles.values())
    return (*gaps, *_waits(settings, wanted.service, "each role of the new release" if several else "the new release"))


def sizes(traits: Traits, active: Release | None, wanted: Configuration) -> Iterator[str]:
    """Yield how large volumes will be where that is not what a definition says, of those that are to be made, or to
    grow."""
    if traits.volume_bytes is None:
        return
    before = {} if active is None else _volumes(active.configuration)
    for name, volume in _volumes(wanted).items():
        known, size = before.get(name), volume.size_bytes
        if known is None and size is None:
            usual = size_text(traits.volume_bytes)
            yield f"volume '{name}' says no 'size': it is made with {usual}, and whether that can grow is its storage's"
        elif known is not None and size is not None and size > (known.size_bytes or traits.volume_bytes):
            yield f"volume '{name}' does not grow by its 'size' there: have its storage make it larger"


def _volumes(configuration: Configuration) -> dict[str, Volume]:
    return {one.name: one for service in configuration.services.values() for one in service.volumes}


def _gap(active: Release, service: Service, *, tasks: bool) -> Iterator[str]:
    exclusive = [volume.name for one in (service, active.service) for volume in one.volumes if _is_exclusive(volume)]
    if not exclusive:
        return
    text = f"there will be a gap: volume '{exclusive[0]}' is exclusive, so release {active.number} stops first"
    if service.port is not None:
        wait = service.timeouts.wait_ms
        at_once = "requests are answered with 503 meanwhile (service.timeouts.wait has them wait)"
        text += "; " + (f"requests wait for up to {wait / 1000:g} s" if wait else at_once)
    yield text
    inside = [f"before {number}" for number, task in enumerate(service.before, 1) if runs_alone(service, task)]
    if inside and tasks:
        names = f"task{'s' * (len(inside) > 1)} {', '.join(map(repr, inside))}"
        yield f"{names} will run in the gap, which is longer by that; 'volumes: []' has one run before it"


def _waits(settings: Settings, service: Service, who: str) -> Iterator[str]:
    policy = settings.rollout.analysis
    judged = settings.rollout.strategy != "blue-green" and service.port is not None and not service.exclusive
    if policy is None or not judged or not policy.min_requests:
        return
    wait = f"{policy.wait_ms / 1000:g} s"
    text = f"each step waits until {who} has answered {_requests(policy.min_requests)}"
    if policy.quiet == "pass":
        yield f"{text}, at most {wait} beyond its pause; then those that came decide (quiet: pass)"
    else:
        yield (
            f"{text}; without them the rollout is given up {wait} after the step's pause "
            "(where no traffic is fine, say so: rollout.analysis.quiet: pass)"
        )


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _is_exclusive(volume: Volume) -> bool:
    return volume.access == "exclusive"
