"""What is done to the machine: each scenario is what comes before, and the act that is killed in its middle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from control_machine import Machine

from instar.model.definition import Health, Service, Task, Volume
from instar.model.environment import Analysis, Check, Replace, RolloutRules, RolloutStep
from instar.model.rollout_happenings import RolloutPaused
from simulated import Behaviour
from simulated.values import ENV

WORKER = Service(command=("work",), health=Health(kind="none"))
ALONE = dataclasses.replace(WORKER, volumes=(Volume(name="queue", path="/queue", access="exclusive"),))
KEPT = Volume(name="data", path="/data", access="exclusive", snapshot=True)
BESIDE = dataclasses.replace(KEPT, access="shared")
HELD: dict[str, object] = {"exclusive": True, "volumes": (KEPT,)}
SHARED: dict[str, object] = {"exclusive": False, "volumes": (BESIDE,)}
ROLES: dict[str, object] = {"roles": {"worker": WORKER}}
ONE_ALONE: dict[str, object] = {"roles": {"worker": ALONE}}

Act = Callable[[Machine], None]


def first(machine: Machine) -> None:
    machine.want("deploy", version="1")


def slow(machine: Machine) -> None:
    """Whatever is launched takes its time to end."""
    for release in (1, 2):
        machine.world.runtime.behave(release, Behaviour(ends_after_s=3))
    first(machine)


def stubborn(machine: Machine) -> None:
    """Whatever is launched ends only when it is killed."""
    for release in (1, 2):
        machine.world.runtime.behave(release, Behaviour(ends_after_s=1e6))
    first(machine)


def second(machine: Machine) -> None:
    machine.want("deploy", version="2")


def with_worker(machine: Machine) -> None:
    """The next release has a role more than the one before."""
    machine.fields["roles"] = {"worker": WORKER}
    machine.want("deploy", version="2")


def without_worker(machine: Machine) -> None:
    """The next release has a role less than the one before."""
    machine.fields.pop("roles", None)
    machine.want("deploy", version="2")


def volume_handed_over(machine: Machine) -> None:
    """The role with the volume is called otherwise in the next release."""
    machine.fields["roles"] = {"jobs": ALONE}
    machine.want("deploy", version="2")


def before_the_traffic(machine: Machine) -> None:
    machine.when = "before"
    canary(machine)


def worker_falls(machine: Machine) -> None:
    """The new release serves, and a worker of it ends at once."""
    machine.world.runtime.behave("guestbook-dev-2-3", Behaviour(dies_after_s=0.5))
    machine.want("deploy", version="2")


def worker_falls_before(machine: Machine) -> None:
    machine.when = "before"
    worker_falls(machine)


def migrated_by_worker(machine: Machine) -> None:
    """A task of the role with the volume runs when its old instance has stopped, and before the traffic moves."""
    worker = dataclasses.replace(ALONE, before=(Task(command=("migrate",)),), after=(Task(command=("tidy",)),))
    machine.fields["roles"] = {"worker": worker}
    machine.want("deploy", version="2")


def dead_worker(machine: Machine) -> None:
    """Instances of both roles end, and the agent looks."""
    machine.agent = True
    for one in machine.ledger.instances(ENV):
        if one.id.endswith(("-1-1", "-1-3")) and one.id in machine.world.runtime.traces():
            machine.world.runtime.kill(one.id)


def third(machine: Machine) -> None:
    machine.want("deploy", version="3")


def back(machine: Machine) -> None:
    machine.want("rollback", target=1)


def broken(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(answers=500, says=("Traceback",)))
    machine.want("deploy", version="2")


def falling(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(dies_after_s=0))
    machine.want("deploy", version="2")


def fewer(machine: Machine) -> None:
    machine.instances = 1
    machine.want("deploy", version="1")


def more(machine: Machine) -> None:
    """Somebody wants more of them, without another release."""
    machine.instances = 4
    machine.want("deploy", version="1")


def migrated(machine: Machine) -> None:
    """A task that needs none of the volumes runs beside the old release, one that does in the gap."""
    machine.fields["before"] = (Task(command=("look",), volumes=()), Task(command=("migrate",)))
    machine.want("deploy", version="2")


def revived(machine: Machine) -> None:
    machine.world.reboot()
    machine.served = False
    machine.want("deploy", version="1")


def gone(machine: Machine) -> None:
    machine.served = False
    machine.fields["exclusive"] = machine.fields.get("exclusive", False)  # traffic may end now
    if machine.ledger.find_environment(ENV) is not None:
        machine.ledger.set_destroying(ENV)


def unsteady(machine: Machine) -> None:
    """A release of which an instance ends after its rollout, while it is watched."""
    machine.agent, machine.policy = True, RolloutRules(watch_ms=60_000)
    machine.world.runtime.behave("guestbook-dev-2-1", Behaviour(dies_after_s=6))
    machine.want("deploy", version="2")


def unsteady_with_data(machine: Machine) -> None:
    """The same, but a task may have changed the data: nobody goes back by himself."""
    machine.fields["before"] = (Task(command=("migrate",)),)
    machine.world.runtime.behave("guestbook-dev-2-2", Behaviour(dies_after_s=6))
    unsteady(machine)


def unsteady_before(machine: Machine) -> None:
    """A candidate that answers well at first, and ends in the time in which it has to stay well."""
    machine.fields["health"] = Health(kind="http", path="/healthz", steady_ms=5_000)
    machine.world.runtime.behave(2, Behaviour(dies_after_s=2))
    machine.want("deploy", version="2")


def careful(machine: Machine) -> None:
    """The next deploy is a canary with everything that there is."""
    counted = Analysis(min_requests=1, checks=(Check(kind="url", url="http://example.test/"),))
    analysis = counted if machine.world.provider.counts is not None else None
    steps = (RolloutStep(weight_percent=20, pause_ms=400), RolloutStep(weight_percent=60, pause_ms=400))
    machine.policy, machine.preview = RolloutRules(strategy="canary", steps=steps, analysis=analysis), None
    if machine.world.provider.previews is not None:
        machine.preview = "header"
    machine.fields |= {
        "before": (Task(command=("migrate",)), Task(command=("migrate", "more"))),
        "after": (Task(command=("tidy",)),),
        "smoke": (Check(kind="http", path="/healthz"),),
    }


def canary(machine: Machine) -> None:
    careful(machine)
    machine.want("deploy", version="2")


def bad_canary(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(fails_share=1.0))
    canary(machine)


def smoking_canary(machine: Machine) -> None:
    careful(machine)
    machine.world.runtime.behave(2, Behaviour(fails_checks=frozenset({"/healthz"})))
    machine.want("deploy", version="2")


def failing_task(machine: Machine) -> None:
    careful(machine)
    machine.world.runtime.behave(2, Behaviour(task_exit_status=3))
    machine.want("deploy", version="2")


def aborted(machine: Machine) -> None:
    """Somebody says so, at the second step."""
    machine.says = "abort"
    canary(machine)


def aborted_batches(machine: Machine) -> None:
    machine.says, machine.instances = "abort", 3
    machine.world.runtime.behave(2, Behaviour(healthy_after_probes=2))
    batches(machine)


def paused(machine: Machine) -> None:
    """Somebody pauses it before its first step, and has to say too when its last one is over."""
    machine.says = "resume"
    careful(machine)
    steps = (*machine.policy.steps[:1], dataclasses.replace(machine.policy.steps[1], pause_ms=None))
    machine.policy = dataclasses.replace(machine.policy, steps=steps)
    machine.want("deploy", version="2")
    rollout = machine.ledger.get_environment(ENV).rollout
    if rollout is not None and rollout.stage.step == 0:
        machine.ledger.change_stage(RolloutPaused(rollout=rollout.id, reason=""))


def batches(machine: Machine) -> None:
    machine.policy = RolloutRules(strategy="rolling", batch=1)
    machine.want("deploy", version="2")


def bad_batches(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(answers=500))
    batches(machine)


def batches_back(machine: Machine) -> None:
    machine.policy = RolloutRules(strategy="rolling", batch=1)
    machine.want("rollback", target=1)


def dead_one(machine: Machine) -> None:
    """An instance ends, and the agent looks."""
    machine.agent = True
    for one in machine.ledger.instances(ENV)[:1]:
        if one.id.endswith("-1-1") and one.id in machine.world.runtime.traces():
            machine.world.runtime.kill(one.id)


def deaf_one(machine: Machine) -> None:
    """An instance no longer answers."""
    machine.agent = True
    for one in machine.ledger.instances(ENV)[:1]:
        if one.id.endswith("-1-1") and one.id in machine.world.runtime.traces():
            machine.world.runtime.change(one.id, answers=500)


def old_ones(machine: Machine) -> None:
    """All instances have become too old."""
    machine.agent, machine.replace = True, Replace(max_age_ms=60_000)
    machine.want("deploy", version="1")
    if not machine.waited:
        machine.world.clock.sleep(61)
        machine.waited = True


def left_canary(machine: Machine) -> None:
    machine.agent = True
    canary(machine)


def left_batches(machine: Machine) -> None:
    machine.agent = True
    batches(machine)


SCENARIOS: dict[str, tuple[dict[str, object], tuple[Act, ...], Act]] = {
    "canary": ({}, (first,), canary),
    "canary that is left to the agent": ({}, (first,), left_canary),
    "canary that fails its analysis": ({}, (first,), bad_canary),
    "canary that fails its smoke check": ({}, (first,), smoking_canary),
    "canary whose task fails": ({}, (first,), failing_task),
    "canary that is aborted": ({}, (first,), aborted),
    "rollback after a canary": ({}, (first, canary), back),
    "rolling": ({}, (first,), batches),
    "rolling that is left to the agent": ({}, (first,), left_batches),
    "rolling that fails": ({}, (first,), bad_batches),
    "rolling that is aborted": ({}, (first,), aborted_batches),
    "rolling back": ({}, (first, batches), batches_back),
    "rolling worker": ({"port": None}, (first,), batches),
    "canary that is paused and resumed": ({}, (first,), paused),
    "an instance that died": ({}, (first,), dead_one),
    "an instance that no longer answers": ({}, (first,), deaf_one),
    "instances that are too old": ({}, (first,), old_ones),
    "an old instance, exclusive": ({"exclusive": True}, (first,), old_ones),
    "first deploy": ({}, (), first),
    "second deploy": ({}, (first,), second),
    "third deploy": ({}, (first, second), third),
    "rollback to the hot release": ({}, (first, second), back),
    "rollback to a retired release": ({}, (first, second, third), back),
    "a candidate that answers 500": ({}, (first,), broken),
    "a candidate that dies": ({}, (first,), falling),
    "a first deploy that dies": ({}, (), falling),
    "fewer instances": ({}, (first,), fewer),
    "more instances": ({}, (first,), more),
    "after a reboot": ({}, (first,), revived),
    "a release that does not stay well": ({}, (first,), unsteady),
    "a release that does not stay well after a task": ({}, (first,), unsteady_with_data),
    "a candidate that does not stay well": ({}, (first,), unsteady_before),
    "destroy": ({}, (first, second), gone),
    "first deploy, exclusive": ({"exclusive": True}, (), first),
    "second deploy, exclusive": ({"exclusive": True}, (first,), second),
    "tasks beside and in the gap, exclusive": ({"exclusive": True}, (first,), migrated),
    "rollback, exclusive": ({"exclusive": True}, (first, second), back),
    "a broken candidate, exclusive": ({"exclusive": True}, (first,), broken),
    "third deploy, of what takes its time to end": ({}, (slow, second), third),
    "third deploy, of what has to be killed": ({}, (stubborn, second), third),
    "second deploy, exclusive, of what takes its time to end": ({"exclusive": True}, (slow,), second),
    "second deploy, exclusive, of what has to be killed": ({"exclusive": True}, (stubborn,), second),
    "an old instance, exclusive, that takes its time to end": ({"exclusive": True}, (slow,), old_ones),
    "rolling back what has to be killed": ({}, (stubborn, batches), batches_back),
    "destroy what has to be killed": ({}, (stubborn, second), gone),
    "worker": ({"port": None}, (first,), second),
    "rollback of a worker": ({"port": None}, (first, second), back),
    "destroy a worker": ({"port": None}, (first,), gone),
    "roles": (ROLES, (first,), second),
    "first deploy of roles": (ROLES, (), first),
    "third deploy of roles": (ROLES, (first, second), third),
    "rollback of roles": (ROLES, (first, second), back),
    "rollback of roles to a retired release": (ROLES, (first, second, third), back),
    "roles by a canary": (ROLES, (first,), canary),
    "roles of which the worker starts before": (ROLES, (first,), before_the_traffic),
    "roles, rolling": (ROLES, (first,), batches),
    "roles that have no traffic": ({"port": None, **ROLES}, (first,), second),
    "roles whose worker falls": (ROLES, (first,), worker_falls),
    "roles whose worker falls before the traffic moves": (ROLES, (first,), worker_falls_before),
    "a role more": ({}, (first,), with_worker),
    "a role less": (ROLES, (first,), without_worker),
    "back to a role less": ({}, (first, with_worker), back),
    "back to a role more": (ROLES, (first, without_worker), back),
    "roles of which one is exclusive": (ONE_ALONE, (first,), second),
    "back of roles of which one is exclusive": (ONE_ALONE, (first, second), back),
    "roles whose volume is another role's from now on": (ONE_ALONE, (first,), volume_handed_over),
    "roles with a task in the gap of one": (ONE_ALONE, (first,), migrated_by_worker),
    "instances of roles that died": (ROLES, (first,), dead_worker),
    "roles after a reboot": (ROLES, (first,), revived),
    "destroy roles": (ROLES, (first, second), gone),
}

# those that an engine can be asked for too: it heals itself, counts nothing, and has no preview
ON_AN_ENGINE = (
    "canary",
    "rolling",
    "rollback to the hot release",
    "second deploy, exclusive",
    "a candidate that answers 500",
    "destroy",
    "more instances",
    "canary that fails its smoke check",
    "canary whose task fails",
    "canary that is aborted",
    "canary that is left to the agent",
    "canary that is paused and resumed",
    "rolling that fails",
    "rolling back",
    "rollback to a retired release",
    "a candidate that dies",
    "first deploy",
    "fewer instances",
    "tasks beside and in the gap, exclusive",
    "rollback, exclusive",
    "worker",
    "rollback of a worker",
    "roles",
    "rollback of roles",
    "roles of which one is exclusive",
    "roles with a task in the gap of one",
)
SHORTLY = 4  # so many of them in the normal run
