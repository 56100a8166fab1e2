"""Which steps can run on this machine, where an image is baked for a platform that is not its own."""

from __future__ import annotations

from typing import Final

from instar.bake.planning import Planned
from instar.errors import ComponentMissing
from instar.host.kernel import emulation
from instar.model.architectures import platform_of
from instar.model.image_spec import STAGES
from instar.model.lock import Lock

_INSTALL: Final = "apt-get install qemu-user-static, where the kernel has binfmt_misc"


def require_runnable(planned: Planned, lock: Lock) -> None:
    """Return when the programs of all that has to run can run here, for their own kind of processor or emulated.

    Raises ComponentMissing, naming the steps that cannot.
    """
    steps = []
    for part in planned.parts:
        architecture = lock.of(part.stage).architecture
        if part.needed and not emulation.runs(architecture):
            steps += [(step, architecture) for step in part.steps if not step.cached and step.work.runs_programs]
    if not steps:
        return
    (first, architecture), more = steps[0], len(steps) - 1
    others = f", and {more} more {'step' if more == 1 else 'steps'}" if more else ""
    raise ComponentMissing(
        f"{first.work.place}: cannot bake '{first.step}'{others} for {platform_of(architecture)}: it runs programs of"
        f" {architecture}, and this machine is {emulation.own_architecture()}; nothing was done",
        hint=f"{_INSTALL}; or bake it on such a machine, and: instar images join; a compiler can run in a stage of this"
        f" machine's platform: '{STAGES}NAME.platform: {platform_of(emulation.own_architecture())}'",
    )


def require_sandbox(lock: Lock, place: str, verb: str, what: str) -> None:
    """Return when programs of what is locked for a stage can run here. Raises ComponentMissing."""
    if not emulation.runs(lock.architecture):
        raise ComponentMissing(
            f"{place}: cannot {verb} '{what}' for {platform_of(lock.architecture)}: it runs programs of"
            f" {lock.architecture}, and this machine is {emulation.own_architecture()}; nothing was done",
            hint=f"{_INSTALL}; or lock on such a machine",
        )
