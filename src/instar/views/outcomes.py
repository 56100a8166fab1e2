"""How rollouts end, as JSON and as the last lines of their progress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from instar.model.outcome import MaintenanceChange, RolloutChange, RolloutOutcome, RunResult
from instar.model.progress import Progress


def outcome_json(outcome: RolloutOutcome) -> dict[str, Any]:
    """Return the keys that others build on, then more."""
    return {
        "environment": outcome.environment.name,
        "release": outcome.release,
        "image": outcome.image,
        "previous": outcome.previous,
        "outcome": outcome.outcome,
        "seconds": round(outcome.seconds, 3),
        "switch_ms": outcome.switch_ms,
        "service": outcome.environment.service,
        "active": outcome.active,
        "gap_ms": outcome.gap_ms,
        "drained": outcome.drained,
        "cut": outcome.cut,
        "requests": outcome.requests,
        "failed": outcome.failed,
        "counted_since": outcome.counted_since,
        "reason": outcome.reason,
        "warning": outcome.warning,
        "given_up": outcome.given_up,
    }


def maintenance_json(change: MaintenanceChange) -> dict[str, Any]:
    return {
        "service": change.environment.service,
        "environment": change.environment.name,
        "maintenance": change.on,
        "changed": change.changed,
    }


def change_json(change: RolloutChange) -> dict[str, Any]:
    """Return what became of a word to a rollout."""
    rollout = change.rollout
    return {
        "service": rollout.environment.service,
        "environment": rollout.environment.name,
        "release": rollout.target,
        "previous": rollout.source,
        "state": rollout.state,
        "paused": rollout.stage.paused,
        "step": rollout.stage.step,
        "carried_on_by": change.pid,
    }


def outcome_lines(outcome: RolloutOutcome) -> Iterator[Progress]:
    """Yield how it ended, what was left as it was, and what to do next."""
    environment = outcome.environment.name
    if outcome.outcome == "failed":
        yield from _failure(outcome)
    elif outcome.outcome == "begun":
        text = f"{environment} is moving to release {outcome.release}: the agent carries the rollout out"
        follow = (
            f"follow with: instar status {outcome.environment}",
            f"give up with: instar rollout abort {outcome.environment}",
        )
        yield Progress(stage="begun", text=text, detail=follow)
    elif outcome.outcome == "unchanged":
        how = (
            "already" if outcome.given_up is None else f"as before; the rollout to release {outcome.given_up} is undone"
        )
        text = f"{environment} runs release {outcome.release} {how} · {outcome.seconds:.2f} s"
        yield Progress(stage="done", text=text)
    else:
        was = f", was {outcome.previous}" if outcome.previous is not None else ""
        served = f" · {outcome.requests:,} requests, {outcome.failed} failed" if outcome.requests else ""
        if outcome.counted_since is not None:
            served = f" · {outcome.requests:,} requests, {outcome.failed} failed since {outcome.counted_since:%H:%M:%S}"
            served += " UTC, when HAProxy was started anew: those before are not known"
        back = (f"back with: {_way_back(outcome)}",) if outcome.previous is not None else ()
        text = f"{environment} runs release {outcome.release}{was} · {outcome.seconds:.2f} s{served}"
        yield Progress(stage="done", text=text, detail=back)


def _failure(outcome: RolloutOutcome) -> Iterator[Progress]:
    lines: tuple[str, ...] = ()
    if outcome.last_lines:
        lines = ("last lines of its log:", *(f"  {printed(line)}" for line in outcome.last_lines))
    stage = "failed" if outcome.touched else "launch"
    yield Progress(stage=stage, text=f"release {outcome.release} · {outcome.reason}", kind="failed", detail=lines)
    environment = outcome.environment.name
    if outcome.active == outcome.release:
        text = f"{environment} keeps serving from its healthy instances; instar status {environment} shows more"
        yield Progress(stage="left", text=text, kind="failed")
        return
    if outcome.active is None:
        left = f"{environment} runs nothing, as before"
    elif not outcome.touched:
        left = f"{environment} still runs release {outcome.active}, traffic was never touched"
    else:
        left = f"{environment} runs release {outcome.active} again"
    yield (
        Progress(
            stage="undone",
            text=f"release {outcome.release} has no traffic; {left}",
            kind="failed",
            detail=(f"all it printed: instar logs {outcome.environment} {outcome.culprit}",)
            if outcome.last_lines
            else (),
        )
    )


def _way_back(outcome: RolloutOutcome) -> str:
    to = f" --to {outcome.previous}" if outcome.previous is not None and outcome.previous > outcome.release else ""
    data = " --with-data" if outcome.replaced else ""
    return f"instar rollback {outcome.environment.name}{to}{data}"


def printed(line: str) -> str:
    """Return what the instance printed, of a log line ``TIME STREAM TEXT``."""
    return line.split(" ", 2)[-1]


def run_line(result: RunResult) -> Progress:
    """Return how a command ended that was run in an instance of its own."""
    text = f"{result.task} · release {result.release} · exit status {result.exit_status} · {result.seconds:.1f} s"
    return Progress(stage="run", text=text, kind="failed" if result.exit_status else "done")
