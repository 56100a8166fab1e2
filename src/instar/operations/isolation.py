"""Taking an instance out of the traffic while somebody looks at it: another serves in its place first."""

from __future__ import annotations

import time

from instar.errors import ProviderError, Refused
from instar.ledger.roles import release_of
from instar.model.progress import Progress
from instar.model.release import EnvironmentState, Instance, Release
from instar.operations.converge import make_loop
from instar.operations.workspace import Workspace

_AT_LEAST_S = 20.0
_WITHOUT = "look into it as it serves: leave --isolate away"


def require_another(environment: EnvironmentState, release: Release) -> None:
    """Raise Refused where no other instance could serve meanwhile, or where it has no traffic to be taken."""
    environment_id = environment.id
    if release.service.exclusive:
        raise Refused(
            f"cannot isolate an instance of '{environment_id}': "
            "no other instance can serve, because it has an exclusive volume",
            hint=_WITHOUT,
        )
    if release.service.port is None:
        raise Refused(
            f"cannot isolate an instance of '{environment_id}': it has no port, and so no traffic", hint=_WITHOUT
        )
    if environment.rollout is not None:
        target = environment.rollout.target
        raise Refused(
            f"cannot isolate an instance of '{environment_id}': "
            f"the {environment.rollout.kind} to release {target} is under way",
            hint=f"wait until it has ended (instar status {environment_id}), or {_WITHOUT}",
        )


def patience_s(release: Release) -> float:
    """Return for how long another instance of ``release`` is waited for, that serves in the place of one."""
    return _AT_LEAST_S + release.service.health.deadline_ms / 1000


def isolate(workspace: Workspace, instance: Instance) -> None:
    """Run the loop until ``instance``, which the ledger says is isolated, has no weight. The caller holds its place.

    Raises ProviderError when that did not come about: then nobody could serve in its place.
    """
    environment_id = instance.environment
    environment = workspace.ledger.get_environment(environment_id)
    provider = workspace.provider(environment.settings.provider)
    release = release_of(instance, workspace.ledger.get_release(environment_id, instance.release))
    loop = make_loop(workspace, provider)
    run, until = loop.begin(environment_id), time.monotonic() + patience_s(release)
    workspace.report(Progress(stage="isolate", text="another takes its place", kind="running"))
    while True:
        seconds = run.advance()
        if not _weight(workspace, instance):
            return
        if seconds is None or run.only_ends or time.monotonic() > until:
            raise ProviderError(
                f"cannot isolate '{instance.id}': no other instance could serve in its place",
                hint="it serves on, tainted, and no shell was opened; "
                f"instar status {environment_id} says more; or {_WITHOUT}",
            )
        loop.pause(seconds)


def _weight(workspace: Workspace, instance: Instance) -> int:
    environment = workspace.ledger.get_environment(instance.environment)
    traffic = workspace.provider(environment.settings.provider).observe(instance.environment, ()).traffic
    return traffic.groups[instance.id].weight if instance.id in traffic.groups else 0
