"""What the agent found when it last checked that what runs is what was baked. Whoever may only look has no check made:
one reads every byte that a process has, and they could ask for it all day."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar import durable
from instar.drift.report import DriftReport
from instar.errors import InstarError, NotFound
from instar.frozen import dataclass
from instar.model.codec import from_json, parse
from instar.model.state import StateDirectory
from instar.operations.layers import guarantee
from instar.views.encoding import json_text
from instar.views.findings import drift_json, drift_page

if TYPE_CHECKING:
    from instar.drift.check import Checked
    from instar.model.release import EnvironmentId
    from instar.operations.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class LastDrift:
    """A check that was made at ``at``, as JSON (text) and as lines."""

    at: datetime
    clean: bool
    json: str
    lines: tuple[str, ...]


def keep_last(workspace: Workspace, checked: Checked) -> None:
    """Keep what a check found. What can't be kept now is after the next one."""
    state, now = checked.state, workspace.ledger.now()
    with contextlib.suppress(InstarError, OSError):
        report = DriftReport(
            checked=checked,
            seconds=None,
            layers=guarantee(workspace, state.id, workspace.provider_package(state.settings.provider).traits),
            releases={one.id: one.release for one in workspace.ledger.instances(state.id)},
        )
        told: dict[str, Any] = dataclasses.asdict(
            LastDrift(
                at=now,
                clean=checked.clean,
                json=json_text({**drift_json(report), "at": now}),
                lines=(f"checked by the agent at {now:%Y-%m-%d %H:%M:%S} UTC", *map(str, drift_page(report))),
            )
        )
        path = _path(workspace.state, state.id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(path, json_text(told).encode())


def read_last(state: StateDirectory, environment: EnvironmentId) -> LastDrift:
    """Return what was kept last. Raises NotFound where there is none."""
    try:
        return from_json(LastDrift, parse(durable.read(_path(state, environment))))
    except (FileNotFoundError, ValueError):
        raise NotFound(
            f"cannot tell what drifted in '{environment}': the agent has not checked it since it began",
            hint="it does as often as 'drift.check' of the environment says; now: sudo instar drift",
        ) from None


def _path(state: StateDirectory, environment: EnvironmentId) -> Path:
    return state.last_drift / f"{environment.service}.{environment.name}.json"  # neither has a dot in it
