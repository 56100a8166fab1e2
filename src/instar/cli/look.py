"""Commands that look and change nothing: status, history, logs, doctor."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instar.cli.options import (
    DEFAULT_FILE,
    environment_argument,
    file_option,
    find_environment,
    json_option,
    open_workspace,
    service_beside,
    service_name,
)
from instar.cli.screen import age, moment, say, say_json, table, warn
from instar.cli.told import brief
from instar.errors import ComponentMissing
from instar.model.progress import Progress
from instar.operations.privilege import require_root

if TYPE_CHECKING:
    from instar.model.release import Event
    from instar.operations.status import EnvironmentStatus, InstanceStatus, ReleaseStatus, RolloutStatus

_READS = "the state directory belongs to root"


@click.command()
@click.argument("environment", metavar="[ENV]", required=False)
@file_option
@json_option
def status(environment: str | None, file: Path, as_json: bool) -> None:
    """Show what runs: ENV with all its releases.

    Without ENV: at a glance, the environments of the definition here, or all where there is none.
    """
    require_root("status", _READS)
    from instar.model.progress import Progress
    from instar.operations.locks import is_here
    from instar.operations.status import status as look

    workspace = open_workspace()
    if environment is not None:
        found = look(workspace, find_environment(workspace, environment, file))
        if as_json:
            say_json(_as_json(found))
        else:
            _show_one(found)
        return
    service = service_name(file)
    states = workspace.ledger.environments(service)
    everything = [look(workspace, state) for state in states if is_here(workspace, state)]
    if workspace.ledger.shared:
        workspace.report(Progress(stage="ledger", text=workspace.ledger.address))
        for state in (state for state in states if not is_here(workspace, state)):
            workspace.report(Progress(stage="elsewhere", text=f"{state.id} is on {state.machine}: ask there"))
    if as_json:
        say_json([_as_json(one) for one in everything])
    elif everything:
        _show_all(everything)
    else:
        before = "; what was: instar history" if workspace.ledger.history(None, last=1) else ""
        say(f"nothing is deployed{f' of {service!r}' if service else ''} now: instar deploy ENV{before}")


@click.command()
@click.argument("environment", metavar="[ENV]", required=False)
@file_option
@json_option
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N events.")
@click.option("--verify", is_flag=True, help="Check the whole ledger's chain of hashes.")
def history(environment: str | None, file: Path, as_json: bool, last: int | None, verify: bool) -> None:
    """Show what happened to ENV (or to all), oldest first: who did what, when. ENV may be gone."""
    require_root("history", _READS)
    from instar.operations.environments import find_environment_id

    workspace = open_workspace()
    if verify:
        verified = workspace.ledger.verify()
        if as_json:
            say_json(verified)
        else:
            say(f"the chain holds: {verified.events} events, head {verified.head}")
        return
    environment_id = (
        find_environment_id(workspace.ledger, environment, service_beside(environment, file)) if environment else None
    )
    events = workspace.ledger.history(environment_id, last=last)
    if as_json:
        say_json([_event(event) for event in events])
        return
    rows = [
        (
            event.at.strftime("%Y-%m-%d %H:%M:%S"),
            event.actor,
            str(event.environment or ""),
            event.kind,
            str(event.release or ""),
            brief(event.kind, event.detail),
        )
        for event in events
    ]
    table(rows, header=("AT (UTC)", "ACTOR", "ENVIRONMENT", "WHAT", "RELEASE", "DETAIL"))


@click.command()
@environment_argument
@click.argument("instance", required=False)
@click.option("--file", type=click.Path(path_type=Path), default=DEFAULT_FILE, help="The definition.")
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only from then on: 10m, 2h, 1d ago, or 2026-11-28T14:05 (here's time).")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until ^C.")
def logs(environment: str, instance: str | None, file: Path, last: int | None, since: str | None, follow: bool) -> None:
    """Show what the instances of ENV printed, in the order of time; of one INSTANCE also when it is gone."""
    require_root("logs", _READS)
    from instar.operations.logs import endings
    from instar.operations.logs import logs as read

    workspace = open_workspace()
    found = find_environment(workspace, environment, file)
    begin = moment(since, datetime.now(UTC)) if since else None
    for name, line in read(workspace, found, instance, last=last, since=begin, follow=follow):
        say(line if instance else f"{name}  {line}")
    for name, how in endings(workspace, found, instance):
        workspace.report(Progress(stage="ended", text=f"{name}: {how}"))


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look for every component that instar stands on; exit 69 when a needed one is missing."""
    from instar.operations.doctor import doctor as look

    diagnosis = look(open_workspace())
    if as_json:
        say_json({"complete": diagnosis.complete, **_fields(diagnosis)})
    else:
        rows = [
            (
                one.name,
                one.found or ("MISSING" if one.required else "not here"),
                one.purpose,
                "" if one.found else one.get,
            )
            for one in diagnosis.components
        ]
        table(rows, header=("COMPONENT", "FOUND", "WHAT FOR", "HOW TO GET IT"))
        for text in diagnosis.warnings:
            warn(text)
    if not diagnosis.complete:
        missing = ", ".join(one.name for one in diagnosis.components if one.required and not one.found)
        raise ComponentMissing(f"cannot bake and deploy here: missing {missing}", hint="see HOW TO GET IT above")


def _fields(value: Any) -> dict[str, Any]:
    from instar.model.codec import to_json

    fields: dict[str, Any] = to_json(value)
    return fields


def _as_json(status: EnvironmentStatus) -> dict[str, Any]:
    return {
        "environment": status.environment.name,
        "listen": status.listen,
        "active": status.active,
        "releases": status.releases,
        "service": status.environment.service,
        "unfinished": status.unfinished,
        "rollout": status.rollout,
        "alarm": status.alarm,
        "agent": status.agent,
        "layers": status.layers,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor,
        "kind": event.kind,
        "release": event.release,
        "image": event.image,
        "detail": event.detail,
        "hash": event.hash,
        "environment": str(event.environment) if event.environment else None,
    }


def _active(status: EnvironmentStatus) -> ReleaseStatus | None:
    return next((release for release in status.releases if release.number == status.active), None)


def _show_all(everything: list[EnvironmentStatus]) -> None:
    rows = []
    for one in everything:
        active = _active(one)
        hot = ", ".join(str(release.number) for release in one.releases if release.state == "hot")
        rows.append(
            (
                str(one.environment),
                f"{active.number} · {active.image.short}" if active else "—",
                _healthy(active) if active else "—",
                age(min((item.started_at for item in active.instances if item.started_at), default=None))
                if active
                else "—",
                hot or "—",
                ", ".join(one.listen) or "—",
            )
        )
    table(rows, header=("ENVIRONMENT", "RELEASE", "INSTANCES", "OLDEST", "HOT", "LISTENS ON"))
    for one in everything:
        _advise(one)
        _tell_taints(one)
        if one.rollout is not None:
            say(f"\n{one.environment}: {_under_way(one.rollout)}")


def _advise(status: EnvironmentStatus) -> None:
    """Say what isn't as wanted, and what to do."""
    if status.destroying:
        say(f"\n{status.environment} is being destroyed; go on with: instar destroy {status.environment}")
        return
    active = _active(status)
    troubles = [f"{one.id}: {one.reason}" for one in active.instances if one.reason] if active else []
    if active and status.listen and not status.router:
        troubles.append("its router does not run as it should")
    if active and not active.instances:
        troubles.append("no instance of the active release runs")
    if status.alarm:
        troubles.append(f"alarm: {status.alarm}")
    if troubles:
        say("\n" + "\n".join(f"{status.environment}: {trouble}" for trouble in troubles))
        own = f" (the agent, process {status.agent}, does so by itself)" if status.agent and not status.alarm else ""
        say(f"put it right with: instar agent --once, or instar deploy {status.environment.name}{own}")


def _tell_taints(status: EnvironmentStatus) -> None:
    """Say which instances are to be replaced, why, when, and by whom."""
    tainted = [item for one in status.releases for item in one.instances if item.taint]
    if tainted:
        say("\n" + "\n".join(f"{status.environment}: {_tainted(item)}" for item in tainted))
        who = (
            f"the agent (process {status.agent}) replaces"
            if status.agent
            else "no agent runs; instar agent --once replaces"
        )
        if status.alarm:
            say("nothing is replaced as long as the alarm stands")
        elif status.rollout is not None:
            say(f"{who} what is due when the rollout is over")
        else:
            say(f"{who} what is due")


def _tainted(item: InstanceStatus) -> str:
    taint = item.taint
    assert taint is not None
    due = "as soon as may be" if taint.due_at <= datetime.now(UTC) else f"at {taint.due_at:%Y-%m-%d %H:%M:%S} UTC"
    aside = ", without traffic until then" if taint.isolated else ""
    return f"{item.id} is tainted ({taint.kind}: {taint.why}), to be replaced {due}{aside}"


def _healthy(release: ReleaseStatus) -> str:
    ready = sum(1 for instance in release.instances if instance.state == "created")
    if ready and ready == len(release.instances):
        return f"{ready} ready to start"
    healthy = sum(1 for instance in release.instances if instance.healthy)
    unwell = f" of {len(release.instances)}" if healthy != len(release.instances) else ""
    return f"{healthy}{unwell} healthy" if release.instances else "none runs"


def _show_one(status: EnvironmentStatus) -> None:
    layers = f" · layers {status.layers}" if status.layers else ""
    say(f"{status.environment} listens on {', '.join(status.listen) or 'nothing'}{layers}")
    rows = [
        (
            str(one.number),
            f"{one.state}, pinned" if one.pinned else one.state,
            f"{one.weight} %" if status.listen else "—",
            one.image.short,
            _healthy(one) if one.instances else "—",
        )
        for one in status.releases
    ]
    table(rows, header=("RELEASE", "STATE", "TRAFFIC", "IMAGE", "INSTANCES"))
    instances = [
        (
            item.id,
            f"{item.state}, tainted" if item.taint else item.state,
            {True: "healthy", False: "not healthy", None: "—"}[item.healthy],
            item.address,
            age(item.started_at),
        )
        for one in status.releases
        for item in one.instances
    ]
    if instances:
        say()
        table(instances, header=("INSTANCE", "STATE", "HEALTH", "ADDRESS", "FOR"))
    _advise(status)
    _tell_taints(status)
    if status.rollout is not None:
        say(f"\n{_under_way(status.rollout)}")
        say(_next_word(status))


def _under_way(rollout: RolloutStatus) -> str:
    """Return "canary to release 8 by ann · 25 % (step 2 of 3) · paused · failed 0.00 % …"."""
    words = [f"{rollout.strategy} {rollout.kind} to release {rollout.release} by {rollout.actor}"]
    words.append(f"{rollout.percent} %" + (f" (step {rollout.step} of {rollout.steps})" if rollout.steps else ""))
    words += ["paused"] if rollout.paused else []
    if rollout.awaited is not None:
        until = f", until {rollout.awaited.until:%H:%M:%S} UTC" if rollout.awaited.until else ""
        words.append(f"{rollout.awaited.requests} of {rollout.awaited.wanted} requests{until}")
    if rollout.verdict is not None:
        candidate, stable = rollout.verdict["candidate"], rollout.verdict["stable"]
        word = "passed" if rollout.verdict["passed"] else "failed"
        figures = ", ".join(
            f"{name} {one['failed']} of {one['requests']} failed, {one['mean_ms']:.1f} ms"
            for name, one in (("candidate", candidate), ("stable", stable))
        )
        words.append(f"last verdict {word}: {figures}")
    return " · ".join(words)


def _next_word(status: EnvironmentStatus) -> str:
    environment, rollout = status.environment, status.rollout
    if rollout is not None and rollout.paused:
        return f"go on with: instar rollout resume {environment}    give up with: instar rollout abort {environment}"
    if status.agent is not None:
        who = f"the agent (process {status.agent})"
        return f"{who} or a command carries it on; give up with: instar rollout abort {environment}"
    return f"it is carried on now, or its command was killed; then go on with: instar deploy {environment.name}"
