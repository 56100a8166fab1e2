"""What is done to the machine where several roles have traffic, each by its own door: scenarios as the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from control_machine import Machine
from control_scenarios import ALONE, WORKER, Act, back, batches, canary, first, gone, revived, second, third

from simulated.values import service

API = service(port=9000)
BOTH: dict[str, object] = {"roles": {"api": API, "worker": WORKER}}


def doors(act: Callable[[Machine], None]) -> Act:
    """The role behind the other door loses no request either."""

    def acted(machine: Machine) -> None:
        machine.lasting = ("api",)
        act(machine)

    return acted


def with_api(machine: Machine) -> None:
    """The next release has a role more that requests go to."""
    machine.fields["roles"] = {"api": API}
    machine.want("deploy", version="2")


def without_api(machine: Machine) -> None:
    """The next release has one less: nobody answers at its door in the end."""
    machine.fields["roles"] = {"worker": WORKER}
    machine.want("deploy", version="2")


DOORS: dict[str, tuple[dict[str, object], tuple[Act, ...], Act]] = {
    "two doors": (BOTH, (doors(first),), doors(second)),
    "two doors, first deploy": (BOTH, (), first),
    "two doors, third deploy": (BOTH, (doors(first), second), third),
    "two doors, back": (BOTH, (doors(first), second), back),
    "two doors, back to a retired release": (BOTH, (doors(first), second, third), back),
    "two doors by a canary": (BOTH, (doors(first),), canary),
    "two doors, rolling": (BOTH, (doors(first),), batches),
    "two doors, after a reboot": (BOTH, (first,), revived),
    "a door more": ({}, (first,), with_api),
    "a door less": (BOTH, (first,), without_api),
    "back to a door less": ({}, (first, with_api), back),
    "two doors of which one is exclusive": (
        {"roles": {"api": dataclasses.replace(API, volumes=ALONE.volumes)}},
        (first,),
        second,
    ),
    "destroy two doors": (BOTH, (first, second), gone),
}
