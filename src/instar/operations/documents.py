"""What a provider prints of an environment as its definition has it. Nothing is changed, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from instar.control.tasks import task_name
from instar.definition import Loaded
from instar.errors import Refused, UsageError
from instar.model.environment import Settings
from instar.model.image import Image
from instar.model.reference import Reference, reference
from instar.model.release import EnvironmentId, EnvironmentState, Instance, Release
from instar.operations.declared import get_declared, planned_configuration
from instar.operations.planned_image import planned_image
from instar.operations.unfit import require_fit
from instar.operations.workspace import Workspace
from instar.providers.package import Document, PlannedEnvironment, Site


def document(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    provider: str,
    wanted: Document,
    *,
    image: str | None = None,
) -> Mapping[str, str]:
    """Return the texts of a document, by the names of their files. Raises UsageError where the environment is another
    provider's, DefinitionError where it cannot be released there, Refused where its image is not baked yet."""
    declared = get_declared(loaded, name)
    if declared.provider != provider:
        raise UsageError(
            f"cannot print that of '{name}': its provider is '{declared.provider}', not '{provider}'",
            hint=f"environments.{name}.provider in {loaded.file}",
        )
    environment, settings = EnvironmentId(service=loaded.definition.name, name=name), Settings.of(declared)
    planned = PlannedEnvironment(environment=environment, settings=settings)
    if wanted.of_given:
        planned = replace(planned, given=_given(image))
    if wanted.of_release:
        require_fit(workspace, loaded, declared)
        found = _image(workspace, loaded, image)
        state = workspace.ledger.find_environment(environment) if workspace.has_ledger else None
        release = _release(workspace, loaded, name, state, found)
        planned = PlannedEnvironment(
            environment=environment,
            settings=settings,
            release=release,
            image=found,
            groups=_groups(workspace, settings, state, release),
        )
    site: Site = workspace  # type: ignore[assignment]  # what puts the parts together is both
    return wanted.make(site, planned)


def _given(word: str | None) -> Reference:
    """Return the image, in a registry, that was named. Raises UsageError."""
    try:
        return reference(word or "")
    except ValueError:
        raise UsageError(
            f"cannot print that of '{word}': it is no image by its digest" if word else "no image is named",
            hint="--image registry.example.org/team/name@sha256:…, as instar push prints it",
        ) from None


def _image(workspace: Workspace, loaded: Loaded, word: str | None) -> Image:
    planned = planned_image(workspace, loaded, word)
    if planned.digest is None or planned.pulled_from is not None:
        raise Refused(
            "cannot print what a release would be made of: its image is not here yet",
            hint="instar bake, or instar pull, then ask again",
        )
    return workspace.store.image(planned.digest)


def _release(workspace: Workspace, loaded: Loaded, name: str, state: EnvironmentState | None, image: Image) -> Release:
    """Return the release that a deploy would come to: the active one where it is the same, else the next."""
    configuration = planned_configuration(workspace, loaded, get_declared(loaded, name))
    environment = EnvironmentId(service=loaded.definition.name, name=name)
    newest = workspace.ledger.releases(environment, last=1) if state is not None else ()
    if state is not None and state.active is not None:
        active = workspace.ledger.get_release(environment, state.active)
        if (active.image, active.configuration.digest) == (image.digest, configuration.digest):
            return active
    return Release(
        environment=environment,
        number=newest[0].number + 1 if newest else 1,
        image=image.digest,
        configuration=configuration,
        created_at=workspace.ledger.now(),
    )


def _groups(
    workspace: Workspace, settings: Settings, state: EnvironmentState | None, release: Release
) -> tuple[Instance, ...]:
    """Return the groups of a release: those that it has, else those that it would have, after the tasks before it."""
    known = workspace.ledger.instances(release.environment) if state is not None else ()
    if found := tuple(one for one in known if one.release == release.number and one.task is None):
        return found
    provider, environment = workspace.provider(settings.provider), release.environment
    stem = f"{environment.service}-{environment.name}-{release.number}"
    wanted: list[tuple[str, int, str | None]] = [
        (role, 1, task_name("before", position, role))
        for role, service in sorted(release.services.items(), key=lambda one: (one[0] != release.role, one[0]))
        for position, _ in enumerate(service.before, 1)
    ]
    wanted += [
        (role, members, None)
        for role, service in release.services.items()
        for members in provider.layout(settings.of_role(role), service)
    ]
    return tuple(
        Instance(
            id=f"{stem}-{k}",
            serial=k,
            environment=environment,
            release=release.number,
            created_at=release.created_at,
            members=members,
            role=role,
            task=task,
        )
        for k, (role, members, task) in enumerate(wanted, 1)
    )
