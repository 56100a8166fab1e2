"""``instar deploy``: an image and a configuration become a release, and the release gets the traffic."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from instar.control.loop import Loop
from instar.control.report import RolloutReport
from instar.control.steps import waits_for_somebody
from instar.errors import Refused, UsageError
from instar.ledger.names import OthersNames
from instar.model.codec import to_json
from instar.model.definition import Service
from instar.model.digest import Digest
from instar.model.environment import Environment, Settings
from instar.model.image import Image
from instar.model.outcome import RolloutOutcome
from instar.model.progress import Progress
from instar.model.release import Configuration, EnvironmentId, EnvironmentState, Release, RolloutKind
from instar.operations.locks import agent_pid, hold_environment, hold_store, keep_from_gc
from instar.operations.maintenance import tell_maintenance
from instar.operations.names import require_names
from instar.operations.old_secrets import remove_old_secrets_if_free
from instar.operations.privilege import require_root_for
from instar.operations.secret_values import bring_values, encrypted_values
from instar.operations.watch import require_watch, warn_unwatched, watch_release
from instar.operations.workspace import Workspace
from instar.providers.base import Counters, Provider
from instar.providers.facets import refuse_what_is_missing

if TYPE_CHECKING:
    from instar.definition import Loaded


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
) -> RolloutOutcome:
    """Bake if needed (or take ``image`` from the store) and roll it out to environment ``name``.

    ``detach``: leave the rollout to the agent once it is written down. ``adopt_name``: also where the environment is
    another project's. ``break_promotion``: also where it takes its releases from another environment; both are
    written down. ``take_names``: names that other environments have come here, as soon as they can be served.
    ``watch``: return when the release has stayed well for as long as its environment asks for.
    """
    from instar.operations.certificates import bring_certificates, read_files
    from instar.operations.project import project_of, require_own
    from instar.operations.secret_values import digests_of

    require_root_for(workspace, get_declared(loaded, name).provider, "deploy")
    if detach:
        require_agent(workspace)
    began = time.monotonic()
    environment = get_declared(loaded, name)
    if watch:
        require_watch(Settings.of(environment), name)
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    with hold_environment(workspace, environment_id, take_over=take_over):
        require_own(workspace, environment_id, loaded, adopt=adopt_name)
        require_names(workspace, environment_id, environment, take=take_names)
        if not break_promotion:
            require_promotion(workspace, loaded, environment, image)
        digests_of(workspace, loaded.folder, environment)  # a missing one is found before the bake
        certificate = read_files(loaded, environment)
        with keep_from_gc(workspace):
            found = workspace.store.find(image) if image else _baked(workspace, loaded)
            configuration = configure(workspace, loaded, environment)
            release = begin(
                workspace,
                environment_id,
                Settings.of(environment),
                found,
                configuration,
                "deploy",
                project=project_of(workspace, environment_id, loaded),
                detail={"break_promotion": True} if break_promotion else None,
                take_names=take_names,
            )
        bring_certificates(workspace, environment_id, environment, certificate)
        if detach:
            return leave(workspace, release, began)
        outcome = converge(workspace, release, began, watch=watch)
    remove_old_secrets_if_free(workspace)
    return outcome


def require_promotion(
    workspace: Workspace, loaded: Loaded, environment: Environment, image: str | None, *, planned: bool = False
) -> None:
    """Keep a deploy out of an environment that takes its releases from another. What is there already, or on its way,
    may be gone on with and put right. Raises Refused."""
    if environment.promote_from is None:
        return
    from instar.operations.plan import configuration_of, image_of

    state = workspace.ledger.find_environment(EnvironmentId(service=loaded.definition.name, name=environment.name))
    digest = image_of(workspace, loaded, image).digest
    if digest is not None and state is not None and state.settings == Settings.of(environment):
        release = _known_release(workspace, state, digest, configuration_of(workspace, loaded, environment))
        if release is not None:
            return
    raise Refused(
        f"cannot deploy to '{environment.name}': it takes its releases from '{environment.promote_from}'",
        hint=f"instar promote {environment.promote_from} {environment.name}{' --plan' * planned}, also when only its "
        "config or settings changed; in an emergency: --break-promotion, which is recorded",
    )


def _baked(workspace: Workspace, loaded: Loaded) -> Image:
    """Return the image of the definition, baked where it must be: only then somebody else's bake is waited for."""
    from instar.operations.bake import bake, find_baked

    found = find_baked(workspace, loaded)
    if found is not None:
        return found
    with hold_store(workspace):
        return bake(workspace, loaded, to_deploy=True).image


def require_agent(workspace: Workspace) -> None:
    """Raise Refused when no agent runs that would carry a rollout on."""
    if agent_pid(workspace) is None:
        raise Refused(
            "cannot leave the rollout to the agent: none runs here", hint="instar agent, or leave --detach away"
        )


def get_declared(loaded: Loaded, name: str) -> Environment:
    """Return environment ``name`` of the definition. Raises UsageError, naming those there are."""
    environments = loaded.definition.environments
    if name not in environments:
        from difflib import get_close_matches

        known = ", ".join(environments) or "it declares none"
        near = get_close_matches(name, environments, n=1)
        ask = f"did you mean '{near[0]}'? else " if near else ""
        raise UsageError(
            f"cannot find environment '{name}' in {loaded.file}: {known}",
            hint=f"{ask}add it under 'environments:' there",
        )
    return environments[name]


def configure(workspace: Workspace, loaded: Loaded, environment: Environment) -> Configuration:
    """Return what an instance of the definition's service starts from in ``environment``, besides its image."""
    from instar.operations.secret_values import keep_values

    secrets = keep_values(workspace, loaded.folder, environment)
    return Configuration(service=loaded.definition.service, config=environment.config, secrets=secrets)


def begin(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    image: Image,
    configuration: Configuration,
    kind: RolloutKind,
    *,
    project: str | None,
    detail: Mapping[str, Any] | None = None,
    take_names: bool = False,
) -> Release:
    """Make a release of ``image`` and ``configuration`` (or go on with the one that is), begin its rollout, return it.

    ``project``: whose the environment is from now on; that this may be, was asked before. ``detail`` is for the event
    that tells of it.

    The caller holds the environment, and the store, so that the image can't go before a release needs it. Nothing is
    written before all that can be refused has been.
    """
    provider = workspace.provider(settings.provider)
    state = workspace.ledger.find_environment(environment)
    refuse_destroying(state)
    refuse_other_protocol(workspace, environment, configuration.service)
    refuse_what_is_missing(provider, environment, settings)
    clear_orphans(workspace, provider)
    release = _known_release(workspace, state, image.digest, configuration)
    launching = release is None or state is None or state.active != release.number
    warnings = provider.preflight(environment, settings, configuration.service, launching=launching)
    _tell(workspace, state, settings, warnings)
    values = encrypted_values(workspace, workspace.ledger, environment, configuration.secrets)
    with workspace.ledger.transaction():
        if release is None:
            _give_up_running(workspace, state)
        _write_environment(workspace, environment, settings, project, take_names=take_names)
        if release is None:
            release = workspace.ledger.add_release(environment, image.digest, configuration)
        workspace.ledger.put_secrets(values)
        start_rollout(workspace, environment, release, kind, detail, settings_before=state.settings if state else None)
    return release


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
    """Tell what the provider warns of, which connections are cut, and what becomes of the settings."""
    from instar.operations.connections import cut_connections

    for text in (*warnings, *cut_connections(workspace, state, settings)):
        workspace.report(Progress(stage="note", text=text, kind="warning"))
    before, after = to_json(state.settings) if state else {}, to_json(settings)
    changed = [name for name in sorted({*before, *after}) if before and before.get(name) != after.get(name)]
    if changed:
        workspace.report(Progress(stage="settings", text=f"changed: {', '.join(changed)}"))
    today = workspace.ledger.now().date()
    for rule in settings.drift.ignore:
        if date.fromisoformat(rule.until) < today:
            text = f"drift.ignore: the rule for '{rule.kind}' ended on {rule.until}; remove it, or give it a later day"
            workspace.report(Progress(stage="note", text=text, kind="warning"))


def refuse_destroying(state: EnvironmentState | None) -> None:
    """Raise Refused when an environment is half destroyed."""
    if state is not None and state.destroying:
        raise Refused(
            f"cannot change '{state.id}': it is being destroyed",
            hint=f"finish that first: instar destroy {state.id}",
        )


def refuse_other_protocol(workspace: Workspace, environment: EnvironmentId, service: Service) -> None:
    """Raise Refused where releases would run beside each other of which one is spoken to in HTTP/1.1 and one in HTTP/2:
    a router speaks to all of an environment in the same way."""
    for number in sorted({one.release for one in workspace.ledger.instances(environment)}, reverse=True):
        running = workspace.ledger.get_release(environment, number).service
        if running.port and service.port and {running.protocol, service.protocol} == {"http", "h2"}:
            raise Refused(
                f"cannot change '{environment}': release {number}, which runs, speaks {running.protocol}, and this one "
                f"speaks {service.protocol}",
                hint="releases of one environment run beside each other behind one router; make another environment",
            )


def start_rollout(
    workspace: Workspace,
    environment: EnvironmentId,
    release: Release,
    kind: RolloutKind,
    detail: Mapping[str, Any] | None = None,
    *,
    settings_before: Settings | None = None,
) -> None:
    """Begin the rollout to ``release`` unless it is active, or its rollout runs, already. An alarm is over: somebody
    came."""
    state = workspace.ledger.get_environment(environment)
    workspace.ledger.set_alarm(environment, None)
    if state.rollout is None and state.active != release.number:
        workspace.ledger.begin_rollout(environment, kind, release.number, detail, settings_before=settings_before)


def leave(workspace: Workspace, release: Release, began: float) -> RolloutOutcome:
    """Say that the rollout to ``release`` is written down, for the agent. The caller made sure that one runs."""
    state = workspace.ledger.get_environment(release.environment)
    return RolloutOutcome(
        environment=release.environment,
        release=release.number,
        image=release.image,
        previous=state.rollout.source if state.rollout else state.active,
        outcome="begun" if state.rollout else "unchanged",
        seconds=time.monotonic() - began,
        active=state.active,
    )


def make_loop(workspace: Workspace, provider: Provider) -> Loop:
    """Return the loop over what ``provider`` runs, which ends when the verb is cancelled. What has a long time to end
    is left to an agent, where one runs."""
    return Loop(
        ledger=workspace.ledger,
        provider=provider,
        find_image=workspace.store.image,
        bring_secrets=functools.partial(bring_values, workspace),
        report=workspace.report,
        leaves_ends=lambda: agent_pid(workspace) is not None,
        pause=workspace.cancellation.pause,
        cancellation=workspace.cancellation,
    )


def converge(workspace: Workspace, release: Release, began: float, *, watch: bool = False) -> RolloutOutcome:
    """Run the loop until the release's environment is as wanted, and say how the rollout to it ended.

    ``watch``: and until it has stayed well for as long as it is watched.
    """
    environment = release.environment
    before = workspace.ledger.get_environment(environment)
    provider = workspace.provider(before.settings.provider)
    counted = _counted(provider, environment)
    report, back = _carried_out(workspace, make_loop(workspace, provider), before, watch=watch)
    tell_maintenance(workspace, provider, environment)
    served = _counted(provider, environment)
    ended = workspace.ledger.get_rollout(before.rollout.id) if before.rollout else None
    detail = {**report.measured, **(ended.detail if ended else {})}
    culprit, last_lines = next(iter(detail.get("last_lines", {}).items()), (None, []))
    missing = _missing(report)
    failed = (ended.state == "failed" if ended else missing is not None) or back is not None
    after = workspace.ledger.get_environment(environment)
    requests, failures = _answered_between(counted, served)
    return RolloutOutcome(
        environment=environment,
        release=release.number,
        image=release.image,
        previous=before.rollout.source if before.rollout else before.active,
        outcome="failed" if failed else "done" if ended else "unchanged",
        seconds=time.monotonic() - began,
        switch_ms=detail.get("switch_ms"),
        gap_ms=detail.get("gap_ms"),
        drained=detail.get("drained"),
        cut=detail.get("cut"),
        reason=back or detail.get("reason", missing),
        warning=detail.get("warning") or (after.alarm if watch else None),
        active=after.active,
        touched=report.shifted_at is not None or "gap_ms" in detail or "steps" in detail,
        requests=requests,
        failed=failures,
        culprit=culprit,
        last_lines=tuple(last_lines),
    )


def _carried_out(
    workspace: Workspace, loop: Loop, before: EnvironmentState, *, watch: bool
) -> tuple[RolloutReport, str | None]:
    """Run ``loop``, and watch what came of it where that is asked for; return its report, and why the traffic went
    back, where it did."""
    report = loop.run(before.id)
    back = report.went_back
    if watch and back is None:
        back = watch_release(loop, before.id).report.went_back
    elif back is None and before.rollout is not None and before.rollout.kind != "rollback":
        warn_unwatched(workspace, before.settings, before.id)
    return report, back


def _counted(provider: Provider, environment: EnvironmentId) -> Counters | None:
    return None if provider.counts is None else provider.counts.counters(environment)


def _answered_between(before: Counters | None, after: Counters | None) -> tuple[int | None, int | None]:
    """Return how many requests came, and how many of them failed; None where nobody counted them all."""
    if before is None or after is None:
        return None, None
    requests, failed = after.requests - before.requests, after.failed - before.failed
    whole = requests >= 0 and failed >= 0  # a router that was started anew counts from 0 again
    return (requests, failed) if whole else (None, None)


def _missing(report: RolloutReport) -> str | None:
    """Return what the active release lacks at the end, None when it has all its groups."""
    snapshot = report.snapshot
    if snapshot is None or snapshot.active is None:
        return None
    groups = snapshot.of(snapshot.active)
    well, wanted = sum(group.answering for group in groups), sum(snapshot.layout(snapshot.active))
    if well >= wanted:
        return None
    causes = [group.cause for group in groups if group.silent and group.cause]
    return f"{well} of {wanted} healthy" + (f": {causes[0]}" if causes else "")


def clear_orphans(workspace: Workspace, provider: Provider) -> None:
    """Remove what a killed process left behind and no record knows."""
    if provider.sweeps is None:
        return
    ledger = workspace.ledger
    names = provider.sweeps.sweep(ledger.instances, lambda: [state.id for state in ledger.environments()])
    if names:
        text = f"cleaned up after an interrupted run: {', '.join(names)}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))


def _known_release(
    workspace: Workspace, state: EnvironmentState | None, image: Digest, configuration: Configuration
) -> Release | None:
    """Return the active release, or the target of an unfinished rollout, if it is of this image and configuration."""
    if state is None:
        return None
    number = state.rollout.target if state.rollout else state.active
    if number is None:
        return None
    release = workspace.ledger.get_release(state.id, number)
    same = release.image == image and release.configuration.digest == configuration.digest
    return release if same else None


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
    text = f"the {rollout.kind} to release {rollout.target} was unfinished: it is given up for this one"
    workspace.report(Progress(stage="note", text=text, kind="warning"))
    workspace.ledger.end_rollout(rollout, "failed", {"reason": "another rollout took its place"})
