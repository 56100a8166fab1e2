"""``instar taint``: an instance is to be replaced. Nothing is repaired in place, and nothing happens to it here."""

from __future__ import annotations

from instar.control.snapshot import alone
from instar.errors import NotFound, Refused, UsageError
from instar.model.break_glass import Tainted
from instar.model.release import EnvironmentState, Instance, Taint
from instar.operations.leading import agent_in_charge
from instar.operations.locks import agent_pid
from instar.operations.members import find_member, taint_member
from instar.operations.workspace import Workspace


def taint(workspace: Workspace, environment: EnvironmentState, name: str, *, why: str) -> Tainted:
    """Write that instance ``name``, or a member of one, is to be replaced, from now on. Raises UsageError,
    NotFound, Refused."""
    reason = get_reason(why)
    if (found := find_member(workspace, environment, name)) is not None:
        group, member = found
        if not alone(workspace.ledger.get_release(environment.id, group.release)):
            of_it = taint_member(workspace, group, member, "person", reason)
            written = Taint(kind=of_it.kind, why=of_it.why, actor=of_it.actor, at=of_it.at, due_at=of_it.due_at)
            return _tainted(workspace, environment, group, written, member.name)
        name = group.id
    instance = get_instance(workspace, environment, name)
    return _tainted(workspace, environment, instance, workspace.ledger.taint(instance.id, "person", reason))


def _tainted(
    workspace: Workspace, environment: EnvironmentState, instance: Instance, written: Taint, member: str | None = None
) -> Tainted:
    """Return it with who replaces it now."""
    in_charge = agent_in_charge(workspace, workspace.provider_package(environment.settings.provider).traits)
    return Tainted(instance=instance, taint=written, agent=agent_pid(workspace), in_charge=in_charge, member=member)


def get_reason(why: str) -> str:
    """Return the reason as it is written down: one line. Raises UsageError when there is none."""
    reason = " ".join(why.split())
    if not reason:
        raise UsageError("cannot do that without a reason", hint="say it for the history: --why 'what it is for'")
    return reason


def get_instance(workspace: Workspace, environment: EnvironmentState, name: str) -> Instance:
    """Return the instance ``name`` of ``environment``. Raises NotFound, and Refused for one that runs a task."""
    environment_id = environment.id
    present = {one.id: one for one in workspace.ledger.instances()}
    found = present.get(name)
    if found is not None and found.environment == environment_id:
        if found.task is not None:
            raise Refused(
                f"cannot taint '{name}': it runs the task '{found.task}' once, and nothing comes in its place",
                hint=f"to give the rollout up: instar rollout abort {environment_id}",
            )
        return found
    own = ", ".join(one.id for one in present.values() if one.environment == environment_id and one.task is None)
    hint = f"there are: {own}" if own else f"nothing runs there: instar status {environment_id}"
    if found is not None:
        raise NotFound(
            f"cannot find '{name}' in '{environment_id}': it is an instance of '{found.environment}'", hint=hint
        )
    if name in workspace.ledger.instance_names(environment_id):
        raise NotFound(f"cannot find '{name}': it was destroyed", hint=hint)
    raise NotFound(f"cannot find '{name}': '{environment_id}' never had such an instance", hint=hint)
