"""Where a rollout is, as it follows from what happened: for who writes it down, and for who checks what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from instar.model.events import detail_of
from instar.model.release import Stage
from instar.model.rollout_happenings import (
    DataBegun,
    DataKept,
    DataRestored,
    RolloutAborted,
    RolloutPaused,
    RolloutResumed,
    SmokePassed,
    StageChanged,
    StepJudged,
    StepTaken,
)


def stage_after(stage: Stage, what: StageChanged, at: datetime) -> Stage:
    """Return where a rollout is after ``what`` has happened to it ``at`` some time."""
    match what:
        case SmokePassed():
            return replace(stage, smoked=(*stage.smoked, *what.instances))
        case StepTaken():
            begun = replace(stage, step=what.step, percent=what.percent, step_at=at, counted=what.counted or {})
            return replace(begun, judged=False, resumed=False)
        case StepJudged():
            return replace(stage, judged=bool(what.passed), verdict=detail_of(what))
        case RolloutPaused():
            return replace(stage, paused=True)
        case RolloutResumed():
            return replace(stage, paused=False) if stage.paused else replace(stage, resumed=True)
        case RolloutAborted():
            return replace(stage, abort=what.reason)
        case DataKept():
            return replace(stage, kept={**stage.kept, what.volume: what.snapshot})
        case DataBegun():
            return replace(stage, begun=(*_without(stage.begun, what.volume), what.volume))
        case DataRestored():
            others = _without(stage.restored, what.volume)
            restored = others if what.back else (*others, what.volume)
            return replace(stage, begun=_without(stage.begun, what.volume), restored=restored)
    raise ValueError(f"nothing of a rollout's stage follows from {type(what).__name__}")


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(one for one in names if one != name)
