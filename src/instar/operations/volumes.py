"""``instar volumes``: the data that outlives releases, and environments: which there is, and removing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from instar.errors import NotFound, Refused
from instar.ledger.roles import release_of
from instar.model.environment import Settings
from instar.model.happenings import EnvironmentMade, VolumeRemoved
from instar.model.release import EnvironmentId, Instance
from instar.model.volume import KeptVolume
from instar.operations.data import refuse_swapped
from instar.operations.locks import hold_environment
from instar.operations.privilege import may_use
from instar.operations.workspace import Workspace
from instar.providers.facets import Volumes, require


def volumes(workspace: Workspace, environment: EnvironmentId | None = None) -> tuple[KeptVolume, ...]:
    """Return every volume that is kept, or those of ``environment``."""
    return tuple(
        KeptVolume(
            environment=one.environment,
            environment_exists=workspace.ledger.find_environment(one.environment) is not None,
            name=one.name,
            where=one.where,
            used_bytes=one.used_bytes,
            instances=users(workspace, one.environment, one.name),
        )
        for keeper in keepers(workspace, environment)
        for one in keeper.volumes()
        if environment in (None, one.environment)
    )


def remove_volume(workspace: Workspace, environment: EnvironmentId, name: str, *, take_over: bool = False) -> None:
    """Remove a volume for ever, and write that down. Raises NotFound, and Refused while an instance has it, or a
    rollout brings back what it held."""
    with hold_environment(workspace, environment, take_over=take_over):
        refuse_swapped(workspace.ledger.find_environment(environment), name)
        having = users(workspace, environment, name)
        if having:
            raise Refused(
                f"cannot remove the volume '{name}' of '{environment}': {have(having)} it",
                hint=f"deploy a release without it, or instar destroy {environment} --volumes",
            )
        with where_looked(workspace, environment):
            _remove(workspace, environment, name)
        workspace.ledger.record(VolumeRemoved(volume=name), environment)


def _was_elsewhere(workspace: Workspace, environment: EnvironmentId) -> bool:
    """Tell whether an environment that is gone was, or may have been, anywhere but on this machine."""
    there = {one.settings.provider for one in workspace.ledger.readable_environments()[0]}
    made = (one.what for one in workspace.ledger.newest_first(environment))
    was = {one.settings.get("provider") for one in made if isinstance(one, EnvironmentMade)}
    return not there | was <= {Settings().provider}


def _remove(workspace: Workspace, environment: EnvironmentId, name: str) -> None:
    """Have whoever keeps a volume remove it. Raises the NotFound of the last one that has it not."""
    asked = keepers(workspace, environment)
    for keeper in asked[:-1]:
        with contextlib.suppress(NotFound):
            keeper.remove_volume(environment, name)
            return
    asked[-1].remove_volume(environment, name)


@contextlib.contextmanager
def where_looked(workspace: Workspace, environment: EnvironmentId) -> Iterator[None]:
    """Have a NotFound inside say, of an environment that is gone, and may have been in a cluster, where not."""
    try:
        yield
    except NotFound as error:
        if workspace.ledger.find_environment(environment) is not None or not _was_elsewhere(workspace, environment):
            raise
        raise NotFound(
            error.message,
            hint=f"{error.hint or 'those that there are: instar volumes'}; of clusters, only namespaces of "
            f"environments that there are were looked in: if {environment} was in another, deploy one there again, or: "
            "kubectl -n NAMESPACE delete pvc NAME",
        ) from error


def keepers(workspace: Workspace, environment: EnvironmentId | None) -> list[Volumes]:
    """Return who keeps volumes: of an environment that is there its provider, else the providers of all environments,
    and this machine, unless it takes root, and others are asked too. Raises Refused where nobody does."""
    state = workspace.ledger.find_environment(environment) if environment else None
    usual = Settings().provider
    if state is not None:
        names = [state.settings.provider]
    else:
        names = sorted({one.settings.provider for one in workspace.ledger.readable_environments()[0]})
        if not names or (usual not in names and may_use(workspace, usual)):
            names.append(usual)
    found = [workspace.provider(name).volumes for name in names]
    return [one for one in found if one is not None] or [require(None, "work on volumes")]


def have(instances: tuple[str, ...]) -> str:
    return f"{', '.join(instances)} {'has' if len(instances) == 1 else 'have'}"


def users(workspace: Workspace, environment: EnvironmentId, name: str) -> tuple[str, ...]:
    def has_it(one: Instance) -> bool:
        release = release_of(one, workspace.ledger.get_release(environment, one.release))
        return any(volume.name == name for volume in release.service.volumes)

    return tuple(one.id for one in workspace.ledger.instances(environment) if has_it(one))
