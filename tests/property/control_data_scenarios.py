"""What becomes of data in volumes: kept before a release that may change it, brought back, restored by hand."""

from __future__ import annotations

import dataclasses

from control_machine import Machine
from control_scenarios import ALONE, BESIDE, HELD, KEPT, ONE_ALONE, SHARED, Act, first

from instar.model.definition import Data, Task
from simulated import Behaviour
from simulated.values import ENV

OWN = dataclasses.replace(ALONE, volumes=(dataclasses.replace(ALONE.volumes[0], name="data"),))
OF_WORKER: dict[str, object] = {"exclusive": False, "roles": {"worker": OWN}}
MIGRATES: dict[str, object] = {**HELD, "before": (Task(command=("migrate",)),)}


def kept(machine: Machine) -> None:
    """What the volume holds is kept in the gap, before a task writes it."""
    machine.fields |= {"volumes": (KEPT,), "before": (Task(command=("migrate",)),)}
    machine.want("deploy", version="2")


def kept_beside(machine: Machine) -> None:
    """What a volume holds that several releases have is kept before anything of the next one begins."""
    machine.fields |= {"exclusive": False, "volumes": (BESIDE,), "before": (Task(command=("migrate",)),)}
    machine.want("deploy", version="2")


def not_kept(machine: Machine) -> None:
    """The task fails for which the volume was kept."""
    machine.world.runtime.behave((2, "before 1"), Behaviour(task_exit_status=3))
    kept(machine)


def kept_for_form(machine: Machine) -> None:
    """The next release's data is of another version."""
    machine.fields |= {"volumes": (KEPT,), "data": Data(version=2, reads=(1, 2))}
    machine.want("deploy", version="2")


def kept_of_worker(machine: Machine) -> None:
    """A role's volume is kept when its old instance has stopped, for a task of the other role."""
    volumes = (dataclasses.replace(ALONE.volumes[0], snapshot=True),)
    machine.fields |= {"roles": {"worker": dataclasses.replace(ALONE, volumes=volumes)}}
    machine.fields |= {"before": (Task(command=("migrate",)),)}
    machine.want("deploy", version="2")


def back_with_data(machine: Machine) -> None:
    machine.served = False
    volumes = sorted({name for _, name in machine.world.runtime.data.kept})
    machine.want("rollback", target=1, data=dict.fromkeys(volumes, 1))


def back_in_vain(machine: Machine) -> None:
    machine.world.runtime.behave(1, Behaviour(answers=500))
    back_with_data(machine)


def back_and_forth(machine: Machine) -> None:
    """The same way again, with what the first one has replaced."""
    machine.want("rollback", target=2, data={"data": 2})


def restored(machine: Machine) -> None:
    """A snapshot that somebody took is restored under what runs."""
    machine.served = False
    machine.restore("data", 1)


def restored_in_vain(machine: Machine) -> None:
    machine.world.runtime.behave(2, Behaviour(answers=500))
    restored(machine)


def restored_with_task(machine: Machine) -> None:
    """What the release changes of the data is changed again, and that fails."""
    machine.world.runtime.behave((2, "before 1"), Behaviour(task_exit_status=3))
    restored(machine)


def taken(machine: Machine) -> None:
    """Somebody takes a snapshot, and more is written afterwards."""
    data = machine.world.runtime.data
    data.take_snapshot(ENV, "data", running=True)
    data.wrote(ENV, "data", "later")


DATA: dict[str, tuple[dict[str, object], tuple[Act, ...], Act]] = {
    "a volume that is kept": (HELD, (first,), kept),
    "a shared volume that is kept": (SHARED, (first,), kept_beside),
    "a volume that is kept for a task that fails": (HELD, (first,), not_kept),
    "a volume that is kept for its data's version": (HELD, (first,), kept_for_form),
    "a volume of a role that is kept": (ONE_ALONE, (first,), kept_of_worker),
    "back with its data": (HELD, (first, kept), back_with_data),
    "back with its data, shared": (SHARED, (first, kept_beside), back_with_data),
    "back with its data, of a role": ({"exclusive": False, **ONE_ALONE}, (first, kept_of_worker), back_with_data),
    "back with its data in vain": (HELD, (first, kept), back_in_vain),
    "back with its data in vain, shared": (SHARED, (first, kept_beside), back_in_vain),
    "back with its data, and forth": (HELD, (first, kept, back_with_data), back_and_forth),
    "a snapshot that is restored": (HELD, (first, taken), restored),
    "a snapshot that is restored, shared": (SHARED, (first, taken), restored),
    "a snapshot that is restored, with its tasks": (MIGRATES, (first, taken), restored),
    "a snapshot that is restored, of a role": (OF_WORKER, (first, taken), restored),
    "a snapshot that is restored in vain": (HELD, (first, taken), restored_in_vain),
    "a snapshot that is restored in vain, for its task": (MIGRATES, (first, taken), restored_with_task),
}
