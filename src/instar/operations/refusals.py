"""What keeps an environment from a change, whichever verb asks for it: told before anything is written or made."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from instar.control.snapshot import Snapshot
from instar.definition import Loaded
from instar.errors import Refused
from instar.ledger.roles import release_of
from instar.model.definition import Service, Volume
from instar.model.environment import Environment, Settings
from instar.model.release import EnvironmentId, EnvironmentState, Instance, Release
from instar.operations.attendance import is_attended
from instar.operations.converge import known_release, make_loop
from instar.operations.data import refuse_swapped
from instar.operations.declared import planned_configuration
from instar.operations.workspace import Workspace


def refuse_destroying(state: EnvironmentState | None) -> None:
    """Raise Refused when an environment is half destroyed."""
    if state is not None and state.destroying:
        raise Refused(
            f"cannot change '{state.id}': it is being destroyed",
            hint=f"finish that first: instar destroy {state.id}",
        )


def refuse_other_provider(state: EnvironmentState | None, settings: Settings) -> None:
    """Raise Refused where ``settings`` name another provider than the one that runs an environment: the other would
    know nothing of what runs, and nobody would end it."""
    if state is not None and state.settings.provider != settings.provider:
        was, wanted, name = state.settings.provider, settings.provider, state.id.name
        raise Refused(
            f"cannot move '{state.id}' from provider '{was}' to '{wanted}': what runs there is '{was}''s",
            hint=f"deploy an environment of another name to '{wanted}', and move the traffic there; "
            f"or: instar destroy {name}, then deploy",
        )


def refuse_other_protocol(workspace: Workspace, environment: EnvironmentId, service: Service) -> None:
    """Raise Refused where releases would run beside each other of which one is spoken to in HTTP/1.1 and one in HTTP/2:
    a router speaks to all of an environment in the same way."""
    for number in sorted({one.release for one in workspace.ledger.instances(environment)}, reverse=True):
        running = workspace.ledger.get_release(environment, number).service
        for where, was, wanted in _spoken_otherwise(running, service):
            raise Refused(
                f"cannot change '{environment}': release {number}, which runs, speaks {was}{where}, and this one "
                f"speaks {wanted}",
                hint="releases of one environment run beside each other behind one router; make another environment",
            )


def _spoken_otherwise(running: Service, service: Service) -> Iterator[tuple[str, str, str]]:
    """Yield the ports of both that are spoken to in ways that no router can do at once: which, and both ways."""
    if running.port and service.port and {running.protocol, service.protocol} == {"http", "h2"}:
        yield "", running.protocol, service.protocol
    for name in sorted(running.ports.keys() & service.ports.keys()):
        was, wanted = running.ports[name].protocol, service.ports[name].protocol
        if was != wanted:
            yield f" at port '{name}'", was, wanted


def refuse_held_volumes(
    workspace: Workspace, environment: EnvironmentId, *, but: int | None = None, restored: Collection[str] = ()
) -> None:
    """Raise Refused where somebody runs a command, of another release than ``but``, which has a volume that only one
    release may have at a time, or one that is to be ``restored``: the rollout would wait for its end, whenever that is.
    The caller holds the environment, and has nothing else to refuse: one that has ended without anybody who saw it, or
    that nobody has begun, is taken away."""
    if find_held_volume(workspace, environment, but, restored) is None:
        return
    provider = workspace.provider(workspace.ledger.get_environment(environment).settings.provider)
    loop = make_loop(workspace, provider).begin(environment)
    loop.clear()
    held = find_held_volume(workspace, environment, but, restored)
    if held is not None and held[0].started_at is None:
        loop.clear(unbegun=True)
        held = find_held_volume(workspace, environment, but, restored)
    if held is not None:
        one, volume = held
        argv = " ".join(one.command.argv if one.command else ())
        raise Refused(
            f"cannot change '{environment}': {one.task} ('{argv:.60}') has its {volume.access} volume '{volume.name}'",
            hint=f"nothing was changed; end that command ({one.id}), or wait for its end",
        )


def refuse_volumes_changing_hands(snapshot: Snapshot, release: Release) -> None:
    """Raise Refused where a command in ``release`` would have a volume that a rollout takes from one to another, or
    whose data it replaces: it would wait for the command's end, perhaps with neither release running."""
    rollout, own = snapshot.environment.rollout, {one.name: one for one in release.service.volumes}
    for name in own:
        refuse_swapped(snapshot.environment, name)
    if rollout is None:
        return
    ends = (one for one in (snapshot.source, snapshot.target) if one is not None)
    for volume in (volume for one in ends for service in one.services.values() for volume in service.volumes):
        if volume.name in own and "exclusive" in (volume.access, own[volume.name].access):
            raise Refused(
                f"cannot run a command in release {release.number} of '{release.environment}': its volume "
                f"'{volume.name}' is exclusive, and the {rollout.kind} to release {rollout.target} is under way",
                hint=f"wait for its end (instar status {release.environment}), or run it in a role without that volume",
            )


def find_held_volume(
    workspace: Workspace, environment: EnvironmentId, but: int | None, restored: Collection[str] = ()
) -> tuple[Instance, Volume] | None:
    """Return the instance of a command, of another release than ``but``, that has an exclusive volume, or one that is
    to be ``restored``, and which; one that was begun, if there is one."""
    held = _held_volumes(workspace, environment, but, restored)
    return min(held, key=lambda found: found[0].started_at is None, default=None)


def _held_volumes(
    workspace: Workspace, environment: EnvironmentId, but: int | None, restored: Collection[str]
) -> Iterator[tuple[Instance, Volume]]:
    for one in workspace.ledger.instances(environment):
        if one.command is None or one.release == but or (one.attended and not is_attended(workspace, one.id)):
            continue
        if one.ending is not None:  # it is on its way, and a rollout waits for no longer than that
            continue
        service = release_of(one, workspace.ledger.get_release(environment, one.release)).service
        held = (one for one in service.volumes if one.access == "exclusive" or one.name in restored)
        volume = next(held, None)
        if volume is not None:
            yield one, volume


def require_promotion(
    workspace: Workspace, loaded: Loaded, environment: Environment, image: str | None, *, planned: bool = False
) -> None:
    """Keep a deploy out of an environment that takes its releases from another. What is there already, or on its way,
    may be gone on with and put right. Raises Refused."""
    if environment.promote_from is None:
        return
    from instar.operations.planned_image import planned_image

    state = workspace.ledger.find_environment(EnvironmentId(service=loaded.definition.name, name=environment.name))
    digest = planned_image(workspace, loaded, image).digest
    if digest is not None and state is not None and state.settings == Settings.of(environment):
        release = known_release(workspace, state, digest, planned_configuration(workspace, loaded, environment))
        if release is not None:
            return
    raise Refused(
        f"cannot deploy to '{environment.name}': it takes its releases from '{environment.promote_from}'",
        hint=f"instar promote {environment.promote_from} {environment.name}{' --plan' * planned}, also when only its "
        "config or settings changed; in an emergency: --break-promotion, which is recorded",
    )
