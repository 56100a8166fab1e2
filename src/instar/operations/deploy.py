"""``instar deploy``: an image and a configuration become a release, and the release gets the traffic."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from instar.control.forecast import sizes
from instar.control.steps import waits_for_somebody
from instar.definition.changes import settings_changes
from instar.errors import Refused
from instar.ledger.names import OthersNames
from instar.model.configuration import Configuration
from instar.model.environment import Environment, Settings
from instar.model.image import Image
from instar.model.origin import Origin
from instar.model.outcome import RolloutOutcome
from instar.model.plan import PlannedChange, without_roles
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState, Release, RolloutKind
from instar.operations.converge import (
    clear_orphans,
    converge,
    gone_on_with,
    known_release,
    leave,
    rollout_half_way,
    start_rollout,
)
from instar.operations.data import keeping, refuse_unfinished_data
from instar.operations.declared import configure, get_declared, planned_configuration, with_left_roles
from instar.operations.doors import planned_roles, refuse_doors_without_ports, refuse_other_first, shut_port_warnings
from instar.operations.leading import leader_elsewhere
from instar.operations.locks import agent_pid, give_way, hold_environment, hold_store, keep_from_gc
from instar.operations.names import require_names
from instar.operations.old_secrets import remove_old_secrets_if_free
from instar.operations.origin import origin_of
from instar.operations.preflight import preflight, refuse_beforehand
from instar.operations.privilege import require_root_for
from instar.operations.refusals import (
    refuse_destroying,
    refuse_held_volumes,
    refuse_other_protocol,
    refuse_other_provider,
    require_promotion,
)
from instar.operations.secret_values import encrypted_values
from instar.operations.under_way import tell_given_up
from instar.operations.unfit import require_fit
from instar.operations.uses import circle_warnings, lost_use_warnings, missing_warnings, require_found
from instar.operations.watch import require_watch
from instar.operations.workspace import Workspace
from instar.providers.unfit import refuse_lacking

if TYPE_CHECKING:
    from instar.certificates.pem import Pair
    from instar.definition import Loaded

_SHOWN: Final = 12  # changes of settings


def deploy(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    *,
    image: str | None = None,
    take_over: bool = False,
    detach: bool = False,
    adopt_name: bool = False,
    break_promotion: bool = False,
    take_names: bool = False,
    watch: bool = False,
    message: str | None = None,
) -> RolloutOutcome:
    """Bake if needed, or take ``image`` from the store or the definition's registry; roll it out to ``name``.

    ``detach``: leave the rollout to the agent once it is written down. ``adopt_name``: also where the environment is
    another project's. ``break_promotion``: also where it takes its releases from another environment; both are
    written down. ``take_names``: names that other environments have come here, as soon as they can be served.
    ``watch``: return when the release has stayed well for as long as its environment asks for. ``message``: what a
    person says of the release.
    """
    from instar.operations.certificates import read_files
    from instar.operations.project import require_own

    began, environment = time.monotonic(), get_declared(loaded, name)
    require_root_for(workspace, environment.provider, "deploy")
    require_fit(workspace, loaded, environment)
    if detach:
        require_agent(workspace, environment.provider)
    if watch:
        require_watch(Settings.of(environment), name)
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    with hold_environment(workspace, environment_id, take_over=take_over):
        require_own(workspace, environment_id, loaded, adopt=adopt_name)
        require_names(workspace, environment_id, environment, take=take_names)
        if not break_promotion:
            require_promotion(workspace, loaded, environment, image)
        configuration = planned_configuration(workspace, loaded, environment)
        tuple(require_found(workspace, environment_id, configuration.uses))
        certificate = read_files(loaded, environment)
        clear_orphans(workspace, workspace.provider(environment.provider))
        refuse_beforehand(workspace, environment_id, Settings.of(environment), configuration)
        detail = {"break_promotion": True} if break_promotion else None
        origin = origin_of(workspace, message, loaded if image is None else None)
        release = _begun(workspace, loaded, environment, image, origin, detail=detail, take_names=take_names)
        return carry_out(workspace, release, certificate, began, detach=detach, watch=watch)


def _begun(
    workspace: Workspace,
    loaded: Loaded,
    environment: Environment,
    image: str | None,
    origin: Origin,
    *,
    detail: Mapping[str, Any] | None,
    take_names: bool,
) -> Release:
    """Return the release that is deployed, with its rollout begun. No gc comes between what it needs and it."""
    from instar.operations.project import project_of

    environment_id = EnvironmentId(service=loaded.definition.name, name=environment.name)
    with keep_from_gc(workspace):
        with give_way(workspace, environment_id):  # a bake may take minutes
            found = _image(workspace, loaded, image)
        require_platform(workspace, environment.provider, found)
        return begin(
            workspace,
            environment_id,
            Settings.of(environment),
            found,
            configure(workspace, loaded, environment),
            "deploy",
            project=project_of(workspace, environment_id, loaded),
            origin=origin,
            detail=detail,
            take_names=take_names,
        )


def carry_out(
    workspace: Workspace,
    release: Release,
    certificate: Pair | None,
    began: float,
    *,
    detach: bool,
    watch: bool = False,
) -> RolloutOutcome:
    """Bring the rollout to ``release``, which has begun, to its end, or (``detach``) leave it to the agent. The caller
    holds the environment."""
    from instar.operations.certificates import bring_certificates

    with rollout_half_way(workspace, release):
        bring_certificates(workspace, release.environment, certificate)
    if detach:
        return leave(workspace, release, began)
    outcome = converge(workspace, release, began, watch=watch)
    remove_old_secrets_if_free(workspace)
    return outcome


def _image(workspace: Workspace, loaded: Loaded, word: str | None) -> Image:
    """Return the image that is asked for by ``word``, pulled where it must be; else the definition's."""
    if word is None:
        return _baked(workspace, loaded)
    from instar.operations.transfers import image_for_release

    return image_for_release(workspace, loaded, word)


def _baked(workspace: Workspace, loaded: Loaded) -> Image:
    """Return the image of the definition, baked where it must be: only then somebody else's bake is waited for."""
    from instar.operations.bake import bake, find_baked

    found = find_baked(workspace, loaded)
    if found is not None:
        return found
    with hold_store(workspace):
        return bake(workspace, loaded, to_deploy=True).image


def require_agent(workspace: Workspace, provider: str) -> None:
    """Raise Refused when no agent acts on environments of ``provider`` that would carry a rollout on, with what only
    this machine has of it: its image, and its secrets."""
    if agent_pid(workspace) is None:
        raise Refused(
            "cannot leave the rollout to the agent: none runs here", hint="instar agent, or leave --detach away"
        )
    of_one_machine = workspace.provider_package(provider).traits.of_one_machine
    elsewhere = None if of_one_machine else leader_elsewhere(workspace)
    if elsewhere is not None:
        raise Refused(
            f"cannot leave the rollout to the agent: {elsewhere} leads, which has neither this machine's images nor "
            "its secrets",
            hint="leave --detach away, or deploy from there",
        )


def begin(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    image: Image,
    configuration: Configuration,
    kind: RolloutKind,
    *,
    project: str | None,
    origin: Origin,
    detail: Mapping[str, Any] | None = None,
    take_names: bool = False,
) -> Release:
    """Make a release of ``image`` and ``configuration`` (or go on with the one that is), begin its rollout, return it.

    ``project``: whose the environment is from now on; that this may be, was asked before. ``origin`` is that of a new
    release. ``detail`` is for the event that tells of the rollout.

    The caller holds the environment, and the store, so that the image can't go before a release needs it; and has
    cleared orphans away, which may have an address. Nothing is written before all that can be refused has been.
    """
    settings = with_left_roles(workspace.ledger.find_environment(environment), settings)
    _require_and_tell(workspace, environment, settings, image, configuration, back=kind == "rollback")
    values = encrypted_values(workspace, workspace.ledger, environment, configuration.secrets)

    def written() -> Release:
        with workspace.ledger.transaction():
            state = workspace.ledger.find_environment(environment)
            release = known_release(workspace, state, image.digest, configuration)
            if release is None:
                _give_up_running(workspace, state)
            _write_environment(workspace, environment, settings, project, take_names=take_names)
            if release is None:
                release = workspace.ledger.add_release(environment, image.digest, configuration, origin)
            workspace.ledger.put_secrets(values)
            before = state.settings if state else None
            start_rollout(workspace, environment, release, kind, detail, settings_before=before)
            return release

    return gone_on_with(workspace, written)


def require_platform(workspace: Workspace, provider: str, image: Image) -> None:
    """Raise Refused for an image whose programs are for another kind of machine than its instances would run on."""
    platform = f"linux/{image.config.architecture}"
    if workspace.machine_of(provider) is not None and platform != workspace.store.platform:
        raise Refused(
            f"cannot run image '{image.digest.short}' here: it is for {platform:.50}, and this machine is"
            f" {workspace.store.platform}; nothing was begun",
            hint="instar bake --all-platforms makes one image for several, if the definition has 'image.platforms'; or"
            " join two that are there: instar images join",
        )


def _require_and_tell(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    image: Image,
    configuration: Configuration,
    *,
    back: bool,
) -> None:
    """Refuse what must not be, and tell what a release of ``image`` and ``configuration`` changes besides. What that
    uses, and is not there, keeps nobody from going ``back``."""
    provider = workspace.provider(settings.provider)
    state = workspace.ledger.find_environment(environment)
    refuse_destroying(state)
    refuse_other_provider(state, settings)
    refuse_other_protocol(workspace, environment, configuration.service)
    refuse_lacking(provider, environment, settings)
    active = workspace.ledger.get_release(environment, state.active) if state and state.active is not None else None
    refuse_other_first(environment, active.configuration if active else None, configuration)
    refuse_doors_without_ports(environment, settings, configuration)
    release = known_release(workspace, state, image.digest, configuration)
    launching = release is None or state is None or state.active != release.number
    refuse_unfinished_data(state, None)
    kept = keeping(provider, environment, active, configuration) if launching else ()
    warnings = preflight(provider, environment, settings, configuration, launching=launching)
    if launching:
        refuse_held_volumes(workspace, environment)
    shut = shut_port_warnings(settings, configuration)
    if back:
        untold = tuple(missing_warnings(workspace, settings.provider, configuration))
    else:
        untold = tuple(require_found(workspace, environment, configuration.uses))
    lost = lost_use_warnings(workspace, environment, settings, configuration)
    circles = circle_warnings(workspace, environment, configuration.uses)
    sized = sizes(provider.traits, active, configuration) if launching else ()
    _tell(workspace, state, settings, (*warnings, *sized, *shut, *untold, *circles, *lost))
    if state is not None:
        roles = planned_roles(active.configuration, configuration, state.settings, settings) if active else ()
        changes = settings_changes(state.settings, settings, configuration.first_role)
        _tell_settings(workspace, without_roles(changes, roles))
    for text in kept:
        workspace.report(Progress(stage="snapshot", text=text))
    if release is None and active is not None:
        names = ", ".join(configuration.other_secrets(active.configuration))
        if names:
            workspace.report(Progress(stage="secrets", text=f"other values than before: {names}"))


def _write_environment(
    workspace: Workspace, environment: EnvironmentId, settings: Settings, project: str | None, *, take_names: bool
) -> None:
    """Write what an environment is from now on: its settings, where it is, which names it has, and whose it is."""
    workspace.ledger.save_settings(environment, settings)
    machine = workspace.machine_of(settings.provider) if workspace.ledger.shared else None
    if machine is not None:
        workspace.ledger.set_machine(environment, machine)
    others: OthersNames = "expect" if take_names else "refuse"
    workspace.ledger.names.claim(environment, settings.names.sites, of_others=others)
    if project is not None:
        workspace.ledger.set_project(environment, project, adopt=True)


def _tell(workspace: Workspace, state: EnvironmentState | None, settings: Settings, warnings: Sequence[str]) -> None:
    """Tell what the provider warns of, which connections are cut, and which rules about drift are over."""
    from instar.operations.connections import cut_connections

    for text in (*warnings, *cut_connections(workspace, state, settings)):
        workspace.report(Progress(stage="note", text=text, kind="warning"))
    today = workspace.ledger.now().date()
    for rule in settings.drift.ignore:
        if date.fromisoformat(rule.until) < today:
            text = f"drift.ignore: the rule for '{rule.kind}' ended on {rule.until}; remove it, or give it a later day"
            workspace.report(Progress(stage="note", text=text, kind="warning"))


def _tell_settings(workspace: Workspace, changes: Sequence[PlannedChange]) -> None:
    if changes:
        keys = dict.fromkeys(one.what.partition(".")[0] for one in changes)
        lines = [f"{one.what}: {one.before or '—'} → {one.after or '—'}" for one in changes[:_SHOWN]]
        lines += [f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
        workspace.report(Progress(stage="settings", text=f"changed: {', '.join(keys)}", detail=tuple(lines)))


def _give_up_running(workspace: Workspace, state: EnvironmentState | None) -> None:
    """End the rollout that a dead command left. Raises Refused for one that waits for a person."""
    if state is None or state.rollout is None:
        return
    rollout, environment = state.rollout, state.id
    if waits_for_somebody(state):
        raise Refused(
            f"cannot deploy to '{environment}': the {rollout.kind} to release {rollout.target} is paused",
            hint=f"continue it or give it up first: "
            f"instar rollout resume {environment}, instar rollout abort {environment}",
        )
    tell_given_up(workspace, state, rollout)
    workspace.ledger.end_rollout(rollout, "failed", {"reason": "another rollout took its place"})
