"""How an instance is ended and removed, from its names alone.

Each step finds for itself whether there is anything to do, so it doesn't matter how far making it, or an earlier
removal, had come. The instance's folder goes last: as long as anything is left, it says so.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from instar.errors import HostError
from instar.host.filesystems import base_plate, trees
from instar.host.isolation import conmon, runc
from instar.host.kernel import cgroups, mounts, namespaces
from instar.host.network import guests, network
from instar.host.processes import processes
from instar.model.definition import Stop
from instar.model.release import Instance
from instar.process import Process
from instar.providers.local import allocations, logs, record
from instar.providers.local.names import INSTANCE_NAME, NO_INSTANCES, InstanceNames, Names
from instar.waiting import Deadline, until

_KEEPER_PATIENCE_S = 2.0
_PATIENCE_S = 10.0
_POLL_S = 0.005
_MOMENT_S = 0.5  # that an instance is waited for; most end in less


def stop(names: InstanceNames, how: Stop) -> bool:
    """Ask a running instance to end; return whether it has by now, or its grace is over.

    It is waited for a moment, however long its grace is. Asked again it is told nothing again: its grace is written
    down as soon as its signal is sent. Who is killed between the two sends it once more, and the grace begins anew.
    """
    process = allocations.process_of(names)
    if process is None or not processes.lives(process) or runc.waits(names.of.state.runc, names.name):
        return True
    if cgroups.is_frozen(names.group):
        cgroups.thaw(names.group)
    stopping = record.find_stopping(names, process)
    if stopping is None or not stopping.told:
        stopping = _signalled(process, how) or stopping or record.Stopping.within(process, how.grace_ms, told=False)
        try:
            record.write_stopping(names, stopping)
        except OSError:  # nobody else could know how long it has
            processes.wait(process, stopping.left_s)
            return True
    return processes.wait(process, min(_MOMENT_S, stopping.left_s)) or not stopping.left_s


def remove(names: InstanceNames) -> None:
    """End every process of the instance at once and remove every trace of it but its log. Raises HostError."""
    from instar.providers.local import root

    _end(names)
    runc.delete(names.of.state.runc, names.name)
    intent = record.find_intent(names.folder)
    address = intent.guest.address if intent and intent.guest else None
    network.disconnect(names.of.table, names.of.bridge, names.link, address)
    namespaces.drop_network(names.network)
    root.unmount(names)
    cgroups.remove(names.group)
    _remove_folder(names.folder)
    record.remove_begun(names)


def clear_orphans(names: Names, known: Callable[[], Sequence[Instance]]) -> Iterator[str]:
    """Remove what carries the state directory's id and belongs to none of ``known()``; yield the names.

    The machine is looked at first: what is made is known before, so what is found and unknown after is an orphan.
    """
    found, allocated, instances = _found(names), allocations.all_allocations(names), known()
    intents = record.all_intents(names)
    spared = {intent.serial for intent in intents.values() if intent and record.in_the_making(intent)}
    kept = {instance.serial for instance in instances} | spared
    kept_names = {instance.id for instance in instances}
    kept_names |= {name for name, intent in intents.items() if intent and intent.serial in spared}
    for name, serial in sorted(found):
        if serial not in kept and name not in kept_names:
            remove(names.instance(name, serial))
            yield name
    for name in allocated.keys() - kept_names:
        allocations.release(names.instance(name, -1))


def remove_shared(names: Names) -> None:
    """Remove what instances share, when there are none; routers may go on. Raises HostError."""
    from instar.providers.local import root

    logs.end_keeper(names)
    for folder in names.state.volumes.glob("*/*"):
        root.unmount_volumes(folder)
    cgroups.remove(names.keepers_group)
    cgroups.remove_if_empty(names.group)
    with contextlib.suppress(FileNotFoundError):
        names.roots.rmdir()


def _found(names: Names) -> set[tuple[str, int]]:
    """Return (name, serial) of all that can be seen; what has lost the one or the other gets a stand-in."""
    intents = record.all_intents(names)
    found = {(name, intent.serial if intent else -1) for name, intent in intents.items()}
    folders = {str(names.state.instances / name): name for name in intents}
    named = {name for name, _ in found}
    loose = {*runc.names(names.state.runc), *cgroups.children(names.group)} - NO_INSTANCES
    loose |= {Path(folder).name for folder in _kept_folders(names) if folder not in folders}
    found |= {(name, -1) for name in loose - named}
    serials = {names.serial_of_link(link) for link in network.link_names(names.link_prefix)}
    serials |= {names.serial_of_link(link) for link in guests.links(names.table)}
    serials |= {names.serial_of_network(name) for name in namespaces.names(names.network_prefix)}
    serials |= {int(room.name) for room in _rooms(names)}
    with_folder = {serial for _, serial in found}
    found |= {(f".serial-{serial}", serial) for serial in serials - with_folder if serial is not None}
    return found


def _kept_folders(names: Names) -> set[str]:
    """Return the bundles of this state directory that processes work for, whether they still exist or not."""
    prefix = f"{names.state.instances}/"
    working = processes.find(lambda words: any(word.startswith(prefix) for word in words))
    words = [word for _, line in working for word in line if word.startswith(prefix)]
    found = {word.removeprefix(prefix).split("/")[0] for word in words}
    return {prefix + name for name in found if INSTANCE_NAME.fullmatch(name)}


def _rooms(names: Names) -> list[Path]:
    return [room for room in names.roots.iterdir() if room.name.isdigit()] if names.roots.is_dir() else []


def _signalled(process: Process, how: Stop) -> record.Stopping | None:
    """Send its stop signal to an instance; return until when it may end, None where it does not hear signals yet."""
    number, moment = signal.Signals[how.signal], Deadline.after(min(_MOMENT_S, how.grace_ms / 1000))
    until(lambda: _forwards(process, number) or not processes.lives(process), moment, every_s=_POLL_S)
    if not _forwards(process, number):
        return None
    processes.send(process, number)
    return record.Stopping.within(process, how.grace_ms, told=True)


def _forwards(process: Process, number: int) -> bool:
    """Tell whether the first process is the init already (it is runc's before) and takes signals to forward them."""
    return processes.command_line(process.pid)[:1] == (base_plate.INIT,) and processes.hears(process, number)


def _end(names: InstanceNames) -> None:
    """End the instance's processes, then conmon, which writes down how they ended; whoever is making it goes first."""
    keeping = names.keeping
    deadline = Deadline.after(_PATIENCE_S)
    if record.find_process(names) is None:
        _kill_all(conmon.find(keeping))
    cgroups.kill(names.group)
    if keeper := conmon.find_keeper(keeping):
        processes.wait(keeper, _KEEPER_PATIENCE_S)
    while workers := conmon.find(keeping):
        _kill_all(workers)
        cgroups.kill(names.group)
        if deadline.is_over:
            raise HostError(f"cannot end '{names.name}': process {workers[0].pid} does not die")


def _kill_all(found: Sequence[Process]) -> None:
    for process in found:
        processes.kill(process)


def _remove_folder(folder: Path) -> None:
    if mounts.mounts_below(folder):
        raise HostError(f"cannot remove '{folder}': something is still mounted in it")
    trees.remove(folder)
