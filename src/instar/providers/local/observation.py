"""How instances are, read from files alone: no program is started, so that a hundred take a few milliseconds."""

from __future__ import annotations

import signal

from instar.host.isolation import conmon, runc
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.process import Process
from instar.providers.base import RESTARTED, Observed
from instar.providers.local import allocations, record
from instar.providers.local.names import InstanceNames
from instar.syscalls import boot_id
from instar.waiting import Deadline, until

_STATUS_PATIENCE_S = 2.0
_STATUS_POLL_S = 0.005
_SIGNAL_BASE = 128
_KILLED = _SIGNAL_BASE + signal.SIGKILL


def observe(names: InstanceNames, address: str | None = None) -> Observed:
    """Return how the instance, which has that address, is now. One that was never made to the end is absent."""
    process = allocations.process_of(names)
    if process is None:
        return Observed(id=names.name, state="absent", address=address)
    if not processes.lives(process):
        return _stopped(names, process, address)
    if runc.waits(names.of.state.runc, names.name):
        return Observed(id=names.name, state="created", address=address)
    return Observed(id=names.name, state="ending" if _is_ending(names, process) else "running", address=address)


def _is_ending(names: InstanceNames, process: Process) -> bool:
    """It was told to end, and has time to. Once that is over it runs, and is to be ended."""
    stopping = record.find_stopping(names, process)
    return stopping is not None and stopping.told and stopping.left_s > 0


def _stopped(names: InstanceNames, process: Process, address: str | None) -> Observed:
    if process.boot_id != boot_id():
        return Observed(id=names.name, state="stopped", address=address, reason=RESTARTED)
    status = _exit_status(names)
    by_signal, starved = _signal(status), status != 0 and bool(cgroups.out_of_memory_kills(names.group))
    return Observed(
        id=names.name,
        state="stopped",
        address=address,
        exit_status=status,
        reason=_reason(status, by_signal, starved),
        signal=by_signal,
        out_of_memory=starved,
    )


def _exit_status(names: InstanceNames) -> int | None:
    """conmon writes the status down a moment after the process has ended; it doesn't when it was killed itself."""

    def written_or_never() -> tuple[int | None] | None:
        keeper = conmon.find_keeper(names.keeping)  # asked first: it writes, then goes
        status = conmon.exit_status(names.keeping)
        return (status,) if status is not None or keeper is None else None

    found = until(written_or_never, Deadline.after(_STATUS_PATIENCE_S), every_s=_STATUS_POLL_S)
    return found[0] if found else None


def _signal(status: int | None) -> str | None:
    number = (status or 0) - _SIGNAL_BASE
    return signal.Signals(number).name if number > 0 and number in signal.valid_signals() else None


def _reason(status: int | None, by_signal: str | None, starved: bool) -> str | None:
    if starved:
        return "killed: out of memory" if status in (None, _KILLED) else "a process of it was killed: out of memory"
    if status is None:
        return "it ended, and nobody saw how"
    return f"killed: {by_signal}" if by_signal else None
