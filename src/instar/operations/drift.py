"""``instar drift``: is what runs what was baked? Changes nothing, and waits for nobody."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from instar import locks
from instar.drift.check import check
from instar.drift.report import DriftReport
from instar.errors import InstarError, NotFound
from instar.model.drift import Finding
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.layers import guarantee
from instar.operations.locks import environment_lock, who_acts_on
from instar.operations.privilege import require_root_for
from instar.operations.release_images import prepare_check
from instar.operations.workspace import Workspace


def drift(
    workspace: Workspace, state: EnvironmentState, instance: str | None = None, *, deep: bool = False
) -> DriftReport:
    """Check an environment, or one ``instance`` of it. Raises NotFound, NotRoot.

    The router's traffic is held against the ledger only where nobody acts on the environment just then.
    """
    require_root_for(workspace, state.settings.provider, "drift")
    if instance is not None and instance not in {one.id for one in workspace.ledger.instances(state.id)}:
        raise NotFound(
            f"cannot find '{instance}' in '{state.id}': there is no such instance now",
            hint=f"instar status {state.id} shows those that are there",
        )
    began = time.monotonic()
    provider = workspace.provider(state.settings.provider)
    before = resting(workspace, state.id)
    where = (workspace.ledger, workspace.store, workspace.hashed_files, provider, state)
    find_image = prepare_check(workspace, state)
    checked = check(*where, instance=instance, deep=deep, at_rest=before is not None, find_image=find_image)
    if before is not None and before != resting(workspace, state.id):  # somebody came: what it saw of traffic is stale
        checked = check(*where, instance=instance, deep=deep, at_rest=False, find_image=find_image)
    if before is None and (foreign := _foreign_holder(workspace, state.id)) is not None:
        checked = replace(checked, findings=(*checked.findings, foreign))
    instances = workspace.ledger.instances(state.id)
    looked_at = [one for one in instances if one.id in checked.instances]
    dead: tuple[str, ...] = ()
    with contextlib.suppress(InstarError):  # a router that cannot be asked is a finding already
        observed = provider.observe(state.id, looked_at).groups
        commands = {one.id for one in looked_at if one.task is not None}  # those end when they are done
        dead = tuple(one.id for one in observed if one.state in ("stopped", "absent") and one.id not in commands)
    seconds = time.monotonic() - began
    return DriftReport(
        checked=checked,
        seconds=seconds,
        layers=guarantee(workspace, state.id, provider.traits),
        releases={one.id: one.release for one in instances},
        dead=dead,
        nothing_runs=bool(dead) and all(one.id in dead or one.task is not None for one in looked_at),
    )


def _foreign_holder(workspace: Workspace, environment: EnvironmentId) -> Finding | None:
    """Return that somebody else than a command of Instar's keeps the environment: nobody can change it, and its
    traffic is not held against the ledger for as long as that is so."""
    path = environment_lock(workspace, environment)
    pid = locks.find_unsaid_holder(path)
    if pid is None:
        return None
    expected = "held by nobody but commands of Instar's"
    return Finding(instance=None, kind="router", path=str(path), expected=expected, observed=f"process {pid} holds it")


def resting(workspace: Workspace, environment: EnvironmentId) -> int | None:
    """Return the number of the last event if nobody acts on ``environment`` now, from any machine, else None. Takes no
    lock: a deploy that comes meanwhile is not to be told that somebody is there."""
    return None if who_acts_on(workspace, environment) else last_event(workspace, environment)


def last_event(workspace: Workspace, environment: EnvironmentId) -> int:
    """Return the number of the last event of ``environment``, 0 where there is none."""
    (last,) = workspace.ledger.history(environment, last=1) or (None,)
    return last.seq if last is not None else 0
