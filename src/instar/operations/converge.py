"""A rollout from its beginning to its end: how it is written down, and carried out."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from instar.control.loop import Loop
from instar.control.outage import riding_out
from instar.control.report import RolloutReport
from instar.errors import LeaseLost, LedgerDamaged, LedgerError, MachineDoubled, NotFound
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.outcome import RolloutOutcome
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState, Release, Rollout, RolloutKind
from instar.operations.attendance import is_attended
from instar.operations.leading import agent_in_charge
from instar.operations.locks import agent_pid, give_way, is_here
from instar.operations.maintenance import tell_maintenance
from instar.operations.secret_values import bring_values
from instar.operations.watch import warn_unwatched, watch_release
from instar.operations.workspace import Workspace
from instar.providers.base import Provider
from instar.providers.router_state import Counters

T = TypeVar("T")


def known_release(
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


def start_rollout(
    workspace: Workspace,
    environment: EnvironmentId,
    release: Release,
    kind: RolloutKind,
    detail: Mapping[str, Any] | None = None,
    *,
    settings_before: Settings | None = None,
    data: Mapping[str, int] | None = None,
) -> None:
    """Begin the rollout to ``release`` unless it is active, or its rollout runs, already. An alarm is over: somebody
    came. ``data``: the snapshots that volumes are to hold again."""
    state = workspace.ledger.get_environment(environment)
    workspace.ledger.set_alarm(environment, None)
    if state.rollout is None and state.active != release.number:
        workspace.ledger.begin_rollout(
            environment, kind, release.number, detail, settings_before=settings_before, data=data
        )


def gone_on_with(workspace: Workspace, act: Callable[[], T]) -> T:
    """Do ``act``, which reads, or decides by what it reads anew, also where a shared ledger is away for a while."""
    return riding_out(act, workspace.report, workspace.cancellation)


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
        is_attended=functools.partial(is_attended, workspace),
        report=workspace.report,
        leaves_ends=lambda: agent_in_charge(workspace, provider.traits) is not None,
        give_way=functools.partial(give_way, workspace),
        pause=workspace.cancellation.pause,
        cancellation=workspace.cancellation,
    )


@contextlib.contextmanager
def half_way(workspace: Workspace, what: str, *, give_up: str = "") -> Iterator[None]:
    """Say, where the ledger fails inside, that ``what``, which is written there, is half done, and what goes on.

    Raises LedgerError, of the kind that it is.
    """
    try:
        yield
    except (LeaseLost, MachineDoubled, NotFound):
        raise
    except LedgerError as error:
        agent = agent_pid(workspace)
        who = f"the agent (process {agent})" if agent is not None else "the same command"
        waits = "nothing is moved or removed until the ledger can be read and written again"
        hint = "; ".join(filter(None, (error.hint, waits, f"then {who} goes on with it", give_up)))
        raise type(error)(f"{error.message}; {what} is half done", hint=hint) from error


def rollout_half_way(workspace: Workspace, release: Release) -> contextlib.AbstractContextManager[None]:
    """The same of the rollout to ``release``."""
    what = f"the rollout to release {release.number} of '{release.environment}'"
    return half_way(workspace, what, give_up=f"to give it up: instar rollout abort {release.environment}")


def converge(workspace: Workspace, release: Release, began: float, *, watch: bool = False) -> RolloutOutcome:
    """Run the loop until the release's environment is as wanted, and say how the rollout to it ended.

    ``watch``: and until it has stayed well for as long as it is watched.
    """
    environment = release.environment
    before = gone_on_with(workspace, lambda: workspace.ledger.get_environment(environment))
    provider = workspace.provider(before.settings.provider)
    counted = _counted(provider, environment)
    with rollout_half_way(workspace, release):
        report, back = _carried_out(workspace, make_loop(workspace, provider), before, watch=watch)
    tell_maintenance(workspace, provider, environment)
    served = _counted(provider, environment)
    after, ended = gone_on_with(workspace, lambda: _came_of_it(workspace, before))
    detail = {**report.measured, **(ended.detail if ended else {})}
    culprit, last_lines = next(iter(detail.get("last_lines", {}).items()), (None, []))
    missing = _missing(report)
    failed = (ended.state == "failed" if ended else missing is not None) or back is not None
    requests, failures, since = answered_between(counted, served)
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
        touched=report.touched or "gap_ms" in detail or "steps" in detail or _had_begun(ended),
        requests=requests,
        failed=failures,
        counted_since=since if before.active is not None else None,
        culprit=culprit,
        last_lines=tuple(last_lines),
        replaced=ended.stage.changed if ended is not None and not failed else (),
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
        _warn_unscheduled(workspace, before)
    return report, back


def _warn_unscheduled(workspace: Workspace, before: EnvironmentState) -> None:
    """Say that nobody begins what the release that was brought has by the clock, where no agent runs."""
    release = workspace.ledger.get_release(before.id, before.rollout.target) if before.rollout else None
    if release is None or not release.configuration.schedule:
        return
    if agent_in_charge(workspace, workspace.provider_package(before.settings.provider).traits) is None:
        text = "no agent runs here, so nothing begins what its schedule says: instar agent"
        workspace.report(Progress(stage="note", text=text, kind="warning"))


def _had_begun(ended: Rollout | None) -> bool:
    """Tell whether a rollout has had a share of the traffic, or stopped what had it for its data, whoever did that."""
    return ended is not None and bool(ended.stage.percent or (ended.stage.data and ended.stage.kept))


def _came_of_it(workspace: Workspace, before: EnvironmentState) -> tuple[EnvironmentState, Rollout | None]:
    """Return the environment as it is now, and the rollout that was under way."""
    ledger, rollout = workspace.ledger, before.rollout
    return ledger.get_environment(before.id), ledger.get_rollout(rollout.id) if rollout else None


def _counted(provider: Provider, environment: EnvironmentId) -> Counters | None:
    return None if provider.counts is None else provider.counts.counters(environment)


def answered_between(before: Counters | None, after: Counters | None) -> tuple[int | None, int | None, datetime | None]:
    """Return how many requests came, how many of them failed, and since when, where nobody knows of those before that;
    None where nobody counted them."""
    if before is None or after is None:
        return None, None, None
    if before.since != after.since:
        return (after.requests, after.failed, after.since) if after.since is not None else (None, None, None)
    requests, failed = after.requests - before.requests, after.failed - before.failed
    return (requests, failed, None) if requests >= 0 and failed >= 0 else (None, None, None)


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
    """Remove what a killed process left behind and no record knows; nothing where a record can't be read.

    Raises Refused where another ledger knows more.
    """
    from instar.operations.ledger import require_none_unread

    if provider.sweeps is None:
        return
    require_none_unread(workspace)
    ledger = workspace.ledger

    def here() -> list[EnvironmentId]:
        """Return all but those that were given up here, and made on another machine."""
        left = ledger.left(workspace.machine) if ledger.shared else ()
        return [one.id for one in ledger.environments() if one.id not in left or is_here(workspace, one)]

    try:
        names = provider.sweeps.sweep(ledger.instances, here)
    except LedgerDamaged as error:
        text = f"what may be left of earlier runs is not cleared away: {error}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
        return
    if names:
        text = f"cleared away what was left there of: {', '.join(names)}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
