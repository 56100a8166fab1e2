"""Starts a slim image's service where it was made, and holds against one another how it goes with and without what was
left out: it runs and listens, or it goes no worse than it goes with everything."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from instar.bake.scratch import Room
from instar.frozen import dataclass
from instar.host.isolation.sandbox import Outcome
from instar.host.kernel import cgroups, emulation

_RUN_S, _LISTEN_S = 3.0, 20.0
_LOOK_S = 0.05
_LISTENING = "0A"  # Source: proc(5), net/tcp; TCP_LISTEN of the kernel's net/tcp_states.h
_LINES, _SHOWN = 12, 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What is started, and how: ``folders`` are those of its volumes, which are empty here."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    folders: tuple[str, ...]
    port: int | None


def try_service(tried: Tried, room: Room) -> None:
    """Start the service in what is left, and where it does not run, in what was there before.

    Raises StepFailed when it runs only with what was left out.
    """
    if not emulation.runs(room.architecture):
        room.warn(f"whether it starts could not be tried: it is for {room.architecture}, and this machine is not")
        return
    port = tried.port
    slim, listened = _attempt(tried, room, alone=True)
    if listened:
        room.note(f"it starts with what is left, and listens on port {port}")
    elif slim.returncode in (None, 0):
        waited = f", and did not listen on port {port} within {_LISTEN_S:g} s" if port else ""
        room.note(f"it starts with what is left{waited}")
    else:
        whole, listened = _attempt(tried, room, alone=False)
        if listened or whole.returncode in (None, 0):
            lines = "\n".join(slim.output.splitlines()[-_LINES:])
            hint = "name what it misses in 'slim.keep', or its package in 'image.packages'"
            cause = f"the service ends with {slim.failure} where only what it needs is left, and runs with everything"
            raise room.failed(cause, output=f"{lines}\n" if lines else "", hint=hint)
        said = (slim.output.strip().splitlines() or ["nothing"])[-1][:_SHOWN]
        room.warn(f"whether it starts could not be tried: here it ends with everything too, and says: {said}")


def _attempt(tried: Tried, room: Room, *, alone: bool) -> tuple[Outcome, bool]:
    """Return how it ended, and whether it listened on its port before."""
    timeout_s = _LISTEN_S if tried.port else _RUN_S
    with _watching(room.sandbox_cgroup, tried.port) as seen:
        outcome = room.attempt(
            tried.command,
            env=tried.env,
            workdir=tried.workdir,
            folders=tried.folders,
            timeout_s=timeout_s,
            alone=alone,
        )
    return outcome, seen.is_set()


@contextlib.contextmanager
def _watching(cgroup: str, port: int | None) -> Iterator[threading.Event]:
    """End what is in ``cgroup`` as soon as somebody there listens on ``port``."""
    seen, over = threading.Event(), threading.Event()

    def watch() -> None:
        while port and not over.wait(_LOOK_S):
            if any(_listens(pid, port) for pid in cgroups.members(cgroup)):
                seen.set()
                cgroups.kill(cgroup)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _listens(pid: int, port: int) -> bool:
    """Tell whether somebody listens on ``port`` in the network of a process."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
    return False
