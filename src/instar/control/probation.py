"""The time after a rollout in which its release is watched (``rollout.watch``): does it stay well? Pure.

An instance of it that ends by itself, or no longer answers, is enough: the traffic goes back to the release before, as
a rollback of somebody's would take it. Never by itself where more than traffic has changed hands: there an alarm is
raised, and what ended is replaced meanwhile, within its budget.
"""

from __future__ import annotations

from instar.control.actions import Action, Alarm, GoBack
from instar.control.endings import has_fallen, why_ended
from instar.control.snapshot import Probation, Snapshot, alone, routed
from instar.model.release import Release


def go_back(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what follows from how the active release did since its rollout; () while it is well, or nobody asked."""
    active, watched = snapshot.active, snapshot.probation
    if watched is None or active is None:
        return ()
    trouble = _trouble(snapshot, active, watched)
    if not trouble:
        return ()
    source = snapshot.releases[watched.source]
    obstacle = _obstacle(snapshot, source, active, watched)
    if obstacle is None:
        return (GoBack(source.number, trouble),)
    if snapshot.environment.alarm is not None:
        return ()
    text = f"{trouble}; it is not rolled back to release {source.number} automatically, because {obstacle}"
    return (Alarm(f"{text}: look at it, or say: instar rollback {snapshot.environment.id}", holds=False),)


def _trouble(snapshot: Snapshot, active: Release, watched: Probation) -> str:
    ended = [(one.role, one.why) for one in watched.endings]
    ended += [(group.role, why_ended(group)) for group in snapshot.of(active) if has_fallen(group)]
    if ended:
        role, why = ended[0]
        return f"release {active.number} did not stay well: an instance of {_whose(role)} ended: {why}"
    unwell = [group for group in snapshot.of(active) if group.id in snapshot.unwell]
    if unwell:
        cause = f": {unwell[0].probe.cause}" if unwell[0].probe and unwell[0].probe.cause else ""
        return f"release {active.number} did not stay well: {unwell[0].instance.shown} no longer answers{cause}"
    return ""


def _whose(role: str) -> str:
    return f"its role '{role}'" if role else "it"


def _obstacle(snapshot: Snapshot, source: Release, active: Release, watched: Probation) -> str | None:
    """Return why a person has to decide whether to go back, None when nothing but the traffic has changed hands."""
    if alone(source) or alone(active):
        return "one of the two holds a volume for itself"
    if any(service.before for service in active.services.values()):
        return "a task ran before its rollout, and may have changed the data"
    if watched.restored:
        return f"its rollout restored the volume '{watched.restored[0]}', and the two are the same but for that"
    if source.data != active.data:
        return "the two write different versions of the data, or say different things of them"
    if not source.ran_well:
        return "that one never ran well"
    if routed(source) and not snapshot.environment.settings.is_reached:
        return "nothing says where its port is to listen"
    return None
