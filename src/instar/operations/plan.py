"""``instar deploy --plan``, ``promote --plan``: what one would do, without doing any of it."""

from __future__ import annotations

from collections.abc import Iterator

from instar.control.forecast import forecast, sizes
from instar.definition import Loaded
from instar.definition.changes import configuration_changes, first_changes, settings_changes
from instar.model.configuration import Configuration
from instar.model.environment import Environment, Settings
from instar.model.image_diff import ImageDiff
from instar.model.plan import DeployPlan, PlannedChange
from instar.model.release import EnvironmentId, EnvironmentState, Release
from instar.operations.certificates import planned_change, read_files
from instar.operations.connections import cut_connections
from instar.operations.converge import known_release
from instar.operations.data import keeping, keeps
from instar.operations.declared import get_declared, planned_configuration, with_left_roles
from instar.operations.doors import planned_roles, shut_port_warnings
from instar.operations.image_diff import image_diff, planned_diff
from instar.operations.locks import require_here
from instar.operations.names import require_names
from instar.operations.planned_image import PlannedImage, planned_image
from instar.operations.preflight import refuse_beforehand
from instar.operations.project import require_own
from instar.operations.promote import given_as, promoted
from instar.operations.promote import image_of as promoted_image
from instar.operations.refusals import require_promotion
from instar.operations.under_way import planned_rollout
from instar.operations.unfit import require_fit
from instar.operations.uses import circle_warnings, lost_use_warnings
from instar.operations.workspace import Workspace


def plan(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    *,
    image: str | None = None,
    adopt_name: bool = False,
    break_promotion: bool = False,
    take_names: bool = False,
) -> DeployPlan:
    """Compare what the definition asks for with what is active in ``name``. Raises what a deploy would refuse."""
    environment = get_declared(loaded, name)
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    require_fit(workspace, loaded, environment)
    require_here(workspace, environment_id)
    require_own(workspace, environment_id, loaded, adopt=adopt_name)
    require_names(workspace, environment_id, environment, take=take_names)
    if not break_promotion:
        require_promotion(workspace, loaded, environment, image, planned=True)
    found = planned_image(workspace, loaded, image)
    return _compared(workspace, loaded, environment, found, planned_configuration(workspace, loaded, environment))


def plan_promotion(
    workspace: Workspace,
    loaded: Loaded,
    source: str,
    name: str,
    *,
    adopt_name: bool = False,
    take_names: bool = False,
) -> DeployPlan:
    """Compare what a promotion of ``source`` would bring with what is active in ``name``. Raises what one would."""
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    require_here(workspace, environment_id)
    require_own(workspace, environment_id, loaded, adopt=adopt_name)
    environment, release = promoted(workspace, loaded, source, name)
    require_names(workspace, environment_id, environment, take=take_names)
    tried = release.configuration.run_in(name, loaded.definition, release.environment.name)
    require_fit(workspace, loaded, environment, tried.services)
    configuration = given_as(environment_id, tried, planned_configuration(workspace, loaded, environment))
    digest, repository = promoted_image(workspace, loaded, release)
    image = PlannedImage(digest=digest, pulled_from=repository)
    return _compared(workspace, loaded, environment, image, configuration)


def _compared(
    workspace: Workspace, loaded: Loaded, environment: Environment, image: PlannedImage, configuration: Configuration
) -> DeployPlan:
    environment_id = EnvironmentId(service=loaded.definition.name, name=environment.name)
    state = workspace.ledger.find_environment(environment_id)
    settings = with_left_roles(state, Settings.of(environment))
    refuse_beforehand(workspace, environment_id, settings, configuration)
    active = workspace.ledger.get_release(environment_id, state.active) if state and state.active is not None else None
    released = _other_image(active, image)
    released += (
        configuration_changes(active.configuration, configuration, settings.provider)
        if active is not None
        else first_changes(configuration, settings.provider)
    )
    known = None if image.digest is None else known_release(workspace, state, image.digest, configuration)
    rollout = planned_rollout(workspace, state, goes_on=known is not None)
    release = known is None if rollout is not None else bool(released)
    changes = released + (_dead(workspace, state) if state is not None and not release and rollout is None else [])
    before = state.settings if state else None
    changes += settings_changes(before, settings, configuration.first_role, released=released)
    certificate = planned_change(workspace, environment_id, read_files(loaded, environment))
    changes += [certificate] if certificate is not None else []
    return DeployPlan(
        environment=environment_id,
        active=active.number if active else None,
        steps=image.steps,
        reasons=image.reasons,
        image=image.digest,
        release=release,
        changes=tuple(changes),
        warnings=tuple(_warnings(workspace, environment_id, settings, active, configuration, image, release=release)),
        locked=image.locked,
        rollout=rollout,
        roles=planned_roles(active.configuration, configuration, state.settings, settings) if state and active else (),
        inside=_inside(workspace, loaded, active, image),
    )


def _warnings(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    active: Release | None,
    configuration: Configuration,
    image: PlannedImage,
    *,
    release: bool,
) -> Iterator[str]:
    """Yield what is worth knowing before it begins. ``release``: a new one would be made."""
    if image.pulled_from:
        yield f"the image is not here: it is pulled from {image.pulled_from} first"
    if release:
        yield from forecast(settings, active, configuration)
        yield from sizes(workspace.provider_package(settings.provider).traits, active, configuration)
        yield from _kept(workspace, environment, settings, active, configuration)
        yield from _unasked(workspace, settings.provider)
    yield from cut_connections(workspace, workspace.ledger.find_environment(environment), settings)
    yield from shut_port_warnings(settings, configuration)
    yield from circle_warnings(workspace, environment, configuration.uses)
    yield from lost_use_warnings(workspace, environment, settings, configuration)


def _other_image(active: Release | None, image: PlannedImage) -> list[PlannedChange]:
    if active is not None and image.digest == active.image:
        return []
    after = image.digest.short if image.digest else "(to be baked)"
    return [PlannedChange(kind="image", what="image", before=active.image.short if active else None, after=after)]


def _kept(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    active: Release | None,
    configuration: Configuration,
) -> tuple[str, ...]:
    """Return which volumes are kept first. Nobody is asked where no volume is to be."""
    if not keeps(configuration):
        return ()
    return keeping(workspace.provider(settings.provider), environment, active, configuration)


def _inside(workspace: Workspace, loaded: Loaded, active: Release | None, image: PlannedImage) -> ImageDiff | None:
    """Compare the image with that of the active release; before it is baked, what the lock says of it."""
    if active is None or image.pulled_from is not None or not image.locked:
        return None
    if image.digest is None:
        return planned_diff(workspace, active.image, loaded)
    return image_diff(workspace, active.image, image.digest)


def _unasked(workspace: Workspace, provider: str) -> Iterator[str]:
    """Say that nobody has asked what is not this machine whether it could do it."""
    if not workspace.provider_package(provider).traits.of_one_machine:
        yield (
            f"what '{provider}' runs it on was not asked: whether it is reached, and has all that this takes, a deploy "
            "asks before anything is made"
        )


def _dead(workspace: Workspace, state: EnvironmentState) -> list[PlannedChange]:
    """Return what a deploy of the very same would put right."""
    found = (one for one in workspace.ledger.instances(state.id) if one.task is None)  # a command ends when it is done
    instances = [one for one in found if one.release == state.active]
    observed = workspace.provider(state.settings.provider).observe(state.id, instances).groups
    dead = sum(1 for one in observed if one.state not in ("running", "ending"))
    repair = PlannedChange(kind="repair", what="instances", before=f"{dead} ended", after="replaced")
    return [repair] if dead else []
