"""``instar promote``: the very digest that is active in one environment, into another. Nothing is baked."""

from __future__ import annotations

import time

from instar.definition import Loaded
from instar.errors import Refused, UsageError
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Environment, Settings
from instar.model.outcome import RolloutOutcome
from instar.model.reference import Repository
from instar.model.release import EnvironmentId, Release
from instar.operations.certificates import read_files
from instar.operations.converge import clear_orphans
from instar.operations.declared import configure, get_declared
from instar.operations.deploy import begin, carry_out, require_agent, require_platform
from instar.operations.doors import refuse_first_not_defined
from instar.operations.ledger import require_in_ledger
from instar.operations.locks import give_way, hold_environment, is_here, keep_from_gc
from instar.operations.names import require_names
from instar.operations.origin import origin_of_promoted
from instar.operations.preflight import refuse_beforehand
from instar.operations.privilege import require_root_for
from instar.operations.project import project_of, require_own, require_own_source
from instar.operations.transfers import digest_for_release, image_for_release
from instar.operations.unfit import require_fit
from instar.operations.workspace import Workspace


def promote(
    workspace: Workspace,
    loaded: Loaded,
    source: str,
    name: str,
    *,
    message: str | None = None,
    take_over: bool = False,
    detach: bool = False,
    adopt_name: bool = False,
    take_names: bool = False,
) -> RolloutOutcome:
    """Roll out to environment ``name`` what runs in ``source``: its image and how its instances run, as tried
    there, with ``name``'s own configuration, and what is run otherwise there, from the definition."""
    provider = get_declared(loaded, name).provider
    require_root_for(workspace, provider, "promote")
    if detach:
        require_agent(workspace, provider)
    began = time.monotonic()
    environment, release = promoted(workspace, loaded, source, name)
    tried = release.configuration.run_in(name, loaded.definition, release.environment.name)
    require_fit(workspace, loaded, environment, tried.services)
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    with hold_environment(workspace, environment_id, take_over=take_over):
        require_own(workspace, environment_id, loaded, adopt=adopt_name)
        require_names(workspace, environment_id, environment, take=take_names)
        certificate = read_files(loaded, environment)
        with keep_from_gc(workspace):  # from here on no gc comes between a secret and its release
            configuration = given_as(environment_id, tried, configure(workspace, loaded, environment))
            clear_orphans(workspace, workspace.provider(environment.provider))
            refuse_beforehand(workspace, environment_id, Settings.of(environment), configuration)
            with give_way(workspace, environment_id):  # it may have to be pulled
                image = image_for_release(workspace, loaded, release.image, made_on=_machine_of(workspace, release))
            require_platform(workspace, environment.provider, image)
            begun = begin(
                workspace,
                environment_id,
                Settings.of(environment),
                image,
                configuration,
                "promote",
                project=project_of(workspace, environment_id, loaded),
                origin=origin_of_promoted(workspace, message, release),
                take_names=take_names,
            )
        return carry_out(workspace, begun, certificate, began, detach=detach)


def promoted(workspace: Workspace, loaded: Loaded, source: str, name: str) -> tuple[Environment, Release]:
    """Return the environment ``name``, and the release of ``source`` that it would be given. Raises UsageError
    where that is ``source`` itself, Refused."""
    get_declared(loaded, source)
    environment = get_declared(loaded, name)
    if source == name:
        raise UsageError(f"cannot promote '{source}' to itself", hint="instar promote FROM TO names two environments")
    if environment.promote_from not in (None, source):
        raise Refused(
            f"cannot promote '{source}' to '{name}': {name} takes releases from '{environment.promote_from}' only",
            hint=f"instar promote {environment.promote_from} {name}",
        )
    source_id = EnvironmentId(service=loaded.definition.name, name=source)
    require_in_ledger(workspace, source_id)
    origin = workspace.ledger.get_environment(source_id)
    require_own_source(workspace, origin.id, loaded)
    if origin.active is None:
        raise Refused(f"cannot promote '{source}': no release is active there", hint=f"instar deploy {source}")
    return environment, workspace.ledger.get_release(origin.id, origin.active)


def given_as(environment: EnvironmentId, tried: Configuration, defined: Configuration) -> Configuration:
    """Return what is promoted: instances run as they were ``tried``, and are given what is ``defined`` there. Raises
    Refused where the two don't go together."""
    refuse_first_not_defined(environment, defined, tried)
    for entry, one in sorted(defined.schedule.items()):
        if one.role is not None and one.role not in tried.services:
            raise Refused(
                f"cannot run that in '{environment}': it has no role '{one.role}', in which '{entry}' of its schedule "
                "runs",
                hint=f"promote a release that has it, or take '{entry}' out of the schedule of '{environment.name}'",
            )
    return tried.given_as(defined)


def image_of(workspace: Workspace, loaded: Loaded, release: Release) -> tuple[Digest, Repository | None]:
    """Return the image of a release that is promoted, and where it would be pulled from, None: it is here. Raises
    ImageNotFound where neither has it."""
    return digest_for_release(workspace, loaded, release.image, made_on=_machine_of(workspace, release))


def _machine_of(workspace: Workspace, release: Release) -> str | None:
    """Return the machine that a release runs on, if that is another one."""
    origin = workspace.ledger.get_environment(release.environment)
    return None if is_here(workspace, origin) else origin.machine
