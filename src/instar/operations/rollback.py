"""``instar rollback``: the traffic back to a release that ran well. Nothing is baked or pulled."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from instar.errors import InstarError, NotFound, Refused
from instar.model.configuration import Configuration
from instar.model.outcome import RolloutOutcome
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState, Release, Rollout
from instar.model.volume import DataBack
from instar.operations import retention
from instar.operations.converge import clear_orphans, converge, gone_on_with, start_rollout
from instar.operations.data import data_back, kept_before, refuse_unfinished_data
from instar.operations.deploy import begin
from instar.operations.doors import door_warnings, refuse_other_first
from instar.operations.locks import hold_environment, hold_needs, keep_from_gc
from instar.operations.origin import origin_of_again
from instar.operations.privilege import require_root_for
from instar.operations.refusals import refuse_destroying, refuse_held_volumes, refuse_other_protocol
from instar.operations.secret_values import encrypted_values, require_values
from instar.operations.under_way import tell_given_up
from instar.operations.uses import lost_use_warnings, missing_warnings
from instar.operations.workspace import Workspace


def rollback(
    workspace: Workspace,
    environment: EnvironmentState,
    *,
    to: int | None = None,
    take_over: bool = False,
    force: bool = False,
    keep_secrets: bool = False,
    data: Mapping[str, int] | None = None,
) -> RolloutOutcome:
    """Give the traffic to release ``to``, or to the older one that ran well and had the traffic last.

    A copy of it that no longer answers is made anew before any traffic moves. ``force``: also to a release that can't
    read the data there is. ``keep_secrets``: with the secrets of the active release, where these are other ones; that
    is a new release, of ``to``'s image and, but for them, configuration. ``data``: the snapshots of volumes that are
    brought back first, as :func:`data_of_rollback` says; nothing runs that has these volumes meanwhile.

    Raises Refused when there is none or it can't, NotFound when ``to`` never was, ImageNotFound when its image is gone.
    """
    require_root_for(workspace, environment.settings.provider, "rollback")
    began = time.monotonic()
    environment_id = environment.id
    with hold_environment(workspace, environment_id, take_over=take_over):
        environment = workspace.ledger.get_environment(environment_id)
        target = reachable(workspace, environment, to)
        unreadable = unread(workspace, environment, target, force=force, with_data=bool(data))
        but = None if data else target.number
        refuse_held_volumes(workspace, environment_id, but=but, restored=data or ())
        for text in data_hints(workspace, environment, target, data):
            workspace.report(Progress(stage="data", text=text, kind="warning"))
        forced = {"forced": unreadable} if unreadable is not None else None
        others, given_up = other_secrets(workspace, environment, target), None
        if others and keep_secrets:
            target = _begin_anew(workspace, environment, target, forced)
        else:
            _tell_of_secrets(workspace, environment, target, others)
            settings, configuration = environment.settings, target.configuration
            for text in (
                *missing_warnings(workspace, settings.provider, configuration),
                *door_warnings(settings, configuration, target.number),
                *lost_use_warnings(workspace, environment_id, settings, configuration, f"release {target.number}"),
            ):
                workspace.report(Progress(stage="note", text=text, kind="warning"))
            gone_on_with(workspace, lambda: _begin(workspace, environment_id, target, forced, data))
            given_up = _given_up(environment, target)
            if given_up is not None:
                tell_given_up(workspace, environment, given_up)
        outcome = converge(workspace, target, began)
        return outcome if given_up is None else replace(outcome, given_up=given_up.target)


def reachable(workspace: Workspace, environment: EnvironmentState, to: int | None) -> Release:
    """Return the release to go back to. Raises Refused and NotFound where there is none, or nobody may go there."""
    refuse_destroying(environment)
    target = _target(workspace, environment, to)
    refuse_unfinished_data(environment, target.number)
    _require_listen(environment, target)
    _require_same_first(workspace, environment, target)
    refuse_other_protocol(workspace, environment.id, target.service)
    return target


def unread(
    workspace: Workspace, environment: EnvironmentState, target: Release, *, force: bool, with_data: bool
) -> str | None:
    """Return why ``target`` can't read the data there is; None where it can. Raises Refused unless that is forced."""
    gone_back = with_data or (environment.rollout is not None and environment.rollout.stage.data)
    unreadable = None if gone_back else unreadable_data(workspace, environment.id, target)
    if unreadable is not None and not force:
        raise Refused(
            f"cannot roll back '{environment.id}' to release {target.number}: {unreadable}",
            hint=f"{_with_data_hint(workspace, environment, target)}deploy a release that reads it; or, if you "
            "know better, add --force (it is recorded)",
        )
    return unreadable


def data_of_rollback(workspace: Workspace, environment: EnvironmentState, to: int | None) -> DataBack | None:
    """Return what a rollback to release ``to``, or to the usual one, with data brings back; None where one is under way
    already, which is gone on with. Raises Refused, NotFound and HostError as that would."""
    require_root_for(workspace, environment.settings.provider, "rollback --with-data")
    refuse_destroying(environment)
    target = _target(workspace, environment, to)
    refuse_unfinished_data(environment, target.number)
    if environment.rollout is not None and environment.rollout.stage.data:
        return None
    if environment.rollout is not None and environment.rollout.target == target.number:
        raise Refused(
            f"cannot bring data back with the rollout of '{environment.id}' to release {target.number}: "
            "it is under way without that",
            hint=f"nothing was changed; let it end, or: instar rollout abort {environment.id}",
        )
    return data_back(workspace, environment, target.number)


def data_hints(
    workspace: Workspace,
    environment: EnvironmentState,
    target: Release,
    data: Mapping[str, int] | None,
    *,
    planned: bool = False,
) -> Iterator[str]:
    """Yield that what volumes held can be brought back too, where it is not asked for; ``planned``: and nothing is done
    yet. Raises Refused where it is asked for, and that is other data by now."""
    if data is not None:
        found = data_back(workspace, environment, target.number).numbers
        if found != dict(data):
            raise Refused(
                f"cannot roll back '{environment.id}' with its data: other snapshots are there by now",
                hint="nothing was changed; ask again: it says what it brings back",
            )
        return
    if environment.rollout is None and (text := _kept_text(workspace, environment, target)):
        name = environment.id
        first = "" if planned else f"instar rollback {name} --to {environment.active}, and then "
        yield (
            f"{text}; the volumes stay as they are now. To have what they held then too: {first}"
            f"{_with_data(environment, target)}"
        )


def _kept_text(workspace: Workspace, environment: EnvironmentState, target: Release) -> str:
    """Return which snapshots of ``target``'s data there are, for people: "" where there are none, or none can be read,
    which keeps nobody from going back. Of a release without volumes nobody is asked."""
    if not any(service.volumes for service in target.services.values()):
        return ""
    try:
        found = kept_before(workspace.provider(environment.settings.provider), environment, target.number)
    except (InstarError, OSError):
        return ""
    of = " and ".join(f"'{one.volume}' (snapshot {one.number}, {one.at:%Y-%m-%d %H:%M} UTC)" for one in found)
    return f"what release {target.number} left in {of} is kept" if found else ""


def _with_data_hint(workspace: Workspace, environment: EnvironmentState, target: Release) -> str:
    text = _kept_text(workspace, environment, target)
    return f"{text}: {_with_data(environment, target)}; or " if text else ""


def _with_data(environment: EnvironmentState, target: Release) -> str:
    return f"instar rollback {environment.id} --to {target.number} --with-data"


def other_secrets(workspace: Workspace, environment: EnvironmentState, target: Release) -> tuple[str, ...]:
    """Return the names of ``target``'s secrets that the active release has with other values."""
    if environment.active is None or environment.active == target.number:
        return ()
    active = workspace.ledger.get_release(environment.id, environment.active).configuration
    others = target.configuration.other_secrets(active)
    return tuple(name for name in others if name in active.secrets and name in target.configuration.secrets)


def _tell_of_secrets(
    workspace: Workspace, environment: EnvironmentState, target: Release, others: tuple[str, ...]
) -> None:
    """Say, before anything is done, which secrets go back to what they were."""
    if others:
        text = secrets_text(environment, target, others)
        workspace.report(Progress(stage="secrets", text=text, kind="warning"))


def secrets_text(environment: EnvironmentState, target: Release, others: tuple[str, ...]) -> str:
    """Return that secrets go back to what they were, for people."""
    return (
        f"{', '.join(others)}: as release {target.number} was made with, not as release {environment.active} has"
        " it; where that was revoked since: instar rollback --keep-secrets"
    )


def with_todays_secrets(active: Release, target: Release) -> Configuration:
    """Return ``target``'s configuration with the secrets of the active release, where that has them."""
    todays = {**target.configuration.secrets, **active.configuration.secrets}
    return replace(target.configuration, secrets={name: todays[name] for name in target.configuration.secrets})


def _begin_anew(
    workspace: Workspace, environment: EnvironmentState, target: Release, detail: Mapping[str, str] | None
) -> Release:
    """Begin the rollout to a new release: ``target``'s image and configuration, with the active release's secrets."""
    active = workspace.ledger.get_release(environment.id, environment.active or 0)
    wanted = with_todays_secrets(active, target)
    clear_orphans(workspace, workspace.provider(environment.settings.provider))
    with keep_from_gc(workspace):
        image = workspace.store.image(target.image)
        require_values(workspace, active)
        only_there = [name for name in wanted.secrets if name not in active.configuration.secrets]
        if only_there:
            require_values(workspace, target)
        text = f"release {target.number} with the secrets of release {active.number}"
        return begin(
            workspace,
            environment.id,
            environment.settings,
            image,
            wanted,
            "rollback",
            project=None,
            origin=origin_of_again(workspace, text, target),
            detail=detail,
        )


def _begin(
    workspace: Workspace,
    environment: EnvironmentId,
    target: Release,
    forced: Mapping[str, str] | None,
    data: Mapping[str, int] | None,
) -> None:
    """Begin the rollout to ``target``. Raises ImageNotFound and Refused where what it needs is gone."""
    ledger = workspace.ledger
    with hold_needs(workspace):
        if not any(one.release == target.number for one in ledger.instances(environment)):
            workspace.store.image(target.image)
            require_values(workspace, target)
        values = encrypted_values(workspace, ledger, environment, target.configuration.secrets)
        with ledger.transaction():
            rollout = ledger.get_environment(environment).rollout
            if rollout is not None and rollout.target != target.number:
                ledger.end_rollout(rollout, "failed", {"reason": "rolled back before it had finished"})
            ledger.put_secrets(values)  # gc on another machine may have taken them out meanwhile
            start_rollout(workspace, environment, target, "rollback", forced, data=data)


def _given_up(environment: EnvironmentState, target: Release) -> Rollout | None:
    rollout = environment.rollout
    return None if rollout is None or rollout.target == target.number else rollout


def _require_same_first(workspace: Workspace, environment: EnvironmentState, target: Release) -> None:
    if environment.active is not None:
        active = workspace.ledger.get_release(environment.id, environment.active)
        refuse_other_first(environment.id, active.configuration, target.configuration)


def _require_listen(environment: EnvironmentState, target: Release) -> None:
    if target.service.port is not None and not environment.settings.is_reached:
        raise Refused(
            f"cannot roll back '{environment.id}' to release {target.number}: nothing says where its port is to listen",
            hint="deploy a definition with 'listen' for it",
        )


def unreadable_data(workspace: Workspace, environment: EnvironmentId, target: Release) -> str | None:
    """Return why ``target`` can't work with the data that is there now; None when it can, or nothing is known.

    The data is of the form of the newest release that had traffic or ran a task: later rollbacks don't change it back,
    unless they brought older data.
    """
    wrote = (one for one in workspace.ledger.releases(environment) if one.data is not None)
    taken_away = _taken_away(workspace, environment)
    newest = next(
        (
            one
            for one in wrote
            if one.number not in taken_away and workspace.ledger.may_have_written(environment, one.number)
        ),
        None,
    )
    if newest is None or newest.data is None or newest.number <= target.number:
        return None
    version, known = newest.data.version, target.data
    if known is not None and version in known.reads:
        return None
    reads = f"reads {', '.join(map(str, known.reads))} only" if known else "does not say what it reads"
    return f"the data has version {version} since release {newest.number}, and release {target.number} {reads}"


def _taken_away(workspace: Workspace, environment: EnvironmentId) -> set[int]:
    """Return the releases whose data is not there since the last rollback that brought back what was before them."""
    back = workspace.ledger.last_data_back(environment)
    if back is None or back.ended_at is None:
        return set()
    return {
        one.number
        for one in workspace.ledger.releases(environment)
        if one.number > back.target and (one.last_active_at or one.created_at) <= back.ended_at
    }


def _target(workspace: Workspace, environment: EnvironmentState, to: int | None) -> Release:
    environment_id = environment.id
    if to is not None:
        try:
            return workspace.ledger.get_release(environment_id, to)
        except NotFound as error:
            raise NotFound(
                error.message, hint=_others(environment, workspace.ledger.releases(environment_id))
            ) from error
    if environment.active is None:
        raise Refused(
            f"cannot roll back '{environment_id}': no release of it is active",
            hint=f"instar deploy {environment_id.name}",
        )
    rollout = environment.rollout
    if rollout is not None and rollout.kind == "rollback":  # it was stopped in the middle: to the end first
        return workspace.ledger.get_release(environment_id, rollout.target)
    if rollout is not None and rollout.target != environment.active:
        return workspace.ledger.get_release(environment_id, environment.active)
    releases = workspace.ledger.releases(environment_id)
    back = retention.way_back(environment, releases)
    if back is not None:
        return back
    raise Refused(
        f"cannot roll back '{environment_id}': release {environment.active} is the oldest that ran well",
        hint=_others(environment, releases),
    )


def _others(environment: EnvironmentState, releases: Sequence[Release]) -> str:
    """Say which releases one may want to go to besides the active one."""
    numbers = sorted(one.number for one in releases if one.ran_well and one.number != environment.active)
    if not numbers:
        name = environment.id.name
        given = f"instar deploy {name}, or instar promote FROM {name}"
        return f"no other release of it ran well; give it what is to run: {given}"
    return f"others ran well: {', '.join(map(str, numbers))}; --to N goes to one of them"
