"""One environment's router as HAProxy runs it: its slots, its listening sockets, what retired ones still serve."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from instar.errors import RouterError
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.model.release import EnvironmentId
from instar.model.roles import FIRST_DOOR
from instar.model.state import StateDirectory
from instar.process import Process
from instar.providers.local import counting
from instar.providers.local.held_haproxy import HeldHaproxy, directory_of, find_processes, label
from instar.providers.local.names import Names
from instar.providers.router_state import Counters, Target
from instar.router import admin_socket, config, listener, served, slots, tcp_table, waiting
from instar.router.address import Address
from instar.router.components import confinement_possible, haproxy_owner
from instar.router.edge.files import door
from instar.router.files import HolderRecord, RouterFiles
from instar.router.plan import RouterFilePlan
from instar.router.slots import Live, Slots

_TRIES = 5


def environment_of(directory: Path) -> EnvironmentId:
    """Return whose router ``directory`` is of."""
    return EnvironmentId(service=directory.parent.name, name=directory.name)


def server_of(target: Target) -> slots.Server:
    """Return what a slot holds of a target."""
    return slots.Server.of(target.name, target.address, target.port, door=target.door, ports=target.ports)


def running(state: StateDirectory, state_id: str) -> set[EnvironmentId]:
    """Return the environments of this state directory that have a router's process or group, with or without a
    directory."""
    word = label(state_id)
    directories = [directory_of(words) for _, words in find_processes(lambda words: word in words)]
    found = {environment_of(path) for path in directories if path and path.parent.parent == state.routers}
    names = Names(state, state_id)
    grouped = {names.environment_of_group(child) for child in cgroups.children(names.routers_group)}
    return found | {environment for environment in grouped if environment}


class Proxy(HeldHaproxy):
    """Its calls are made one at a time for an environment: the caller holds the place's router lock."""

    def __init__(self, state: StateDirectory, state_id: str, environment: EnvironmentId) -> None:
        self.files = RouterFiles(state, environment)
        self.door = door(state, environment)
        super().__init__(self.files, state_id, Names(state, state_id).router_group(environment))

    def doors(self) -> tuple[str, ...]:
        """Return the keys of the doors that HAProxy has."""
        return slots.doors_of(proxy for proxy, row in self.statistics() if row == "BACKEND")

    def live(self, door: str = FIRST_DOOR) -> tuple[Live, ...]:
        """Return the slots of a door."""
        return slots.read_state(self.ask(f"show servers state {slots.backend(door)}")[0])

    def all_live(self, doors: Sequence[str] | None = None) -> Mapping[str, tuple[Live, ...]]:
        """Return the slots of ``doors``, by their keys; of all that there are (None)."""
        known = self.doors() if doors is None else doors
        shown = self.ask(*(f"show servers state {slots.backend(door)}" for door in known))
        return {door: slots.read_state(text) for door, text in zip(known, shown, strict=True)}

    def converge(self, wanted: Slots) -> float:
        """Make HAProxy's slots hold what is ``wanted``, of all its doors; return the seconds that its commands took."""
        seconds, doors = 0.0, self._doors_in_file()
        for _ in range(_TRIES):
            live = self.all_live(doors)
            if any(len(rows) != len(wanted) for rows in live.values()):
                raise RouterError("cannot change the router: it has not the slots that its file says")
            todo = slots.commands(wanted, live)
            if not todo:
                return seconds
            self._begin_counting(wanted, live)
            began = time.monotonic()
            self.ask(*todo)
            seconds += time.monotonic() - began
        raise RouterError(f"cannot change the router: it does not keep what it is told: {todo[0]!r}")

    def _begin_counting(self, wanted: Slots, live: Mapping[str, Sequence[Live]]) -> None:
        for key, rows in live.items():
            came = slots.arrivals(wanted, rows, key)
            if came and served.is_counted(key):
                statistics, table = self.ask("show stat", served.show(key))
                self.ask(*served.beginnings(came, admin_socket.read_statistics(statistics), table, key))

    def _doors_in_file(self) -> tuple[str, ...]:
        text = self.files.read()
        return self.doors() if text is None else (FIRST_DOOR, *(one.key for one in config.read_plan(text).doors))

    # -- what retired HAProxies still serve ------------------------------------------------------------------------

    def retired(self, record: HolderRecord | None) -> tuple[Process, ...]:
        return tuple(one for one in record.retired if processes.lives(one)) if record else ()

    def leftover(self, retired: Sequence[Process], targets: Sequence[Address]) -> Mapping[Address, int]:
        """Return how many connections to each of ``targets`` retired HAProxies still have."""
        found = dict.fromkeys(targets, 0)
        rows = {row.inode: row for row in tcp_table.connected_to(targets)} if retired else {}
        for one in retired:
            for inode in tcp_table.held_by(one.pid, rows):
                remote = rows[inode].remote
                assert remote is not None
                found[remote] += 1
        return found

    def cut(self, retired: Sequence[Process], targets: Sequence[Address]) -> int:
        """End those connections; return how many there were."""
        count = 0
        rows = {row.inode for row in tcp_table.connected_to(targets)} if retired else set()
        for one in retired:
            for connection in tcp_table.shared(one.pid, rows).values():
                with connection, contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                    count += 1
        return count

    # -- what was answered ---------------------------------------------------------------------------------------

    def counters(self) -> Counters:
        """Return what it has answered, and those that it followed. Raises RouterUnreachable where it does not run."""
        record, own = self._own_counters()
        return counting.so_far(self.files, record.haproxy, own) if record else own

    def _keep_count(self) -> None:
        """Have what was answered so far known to whom follows; where it can't be, the counting begins anew."""
        with contextlib.suppress(RouterError, KeyError, ValueError):
            record, own = self._own_counters()
            if record is not None:
                counting.keep(self.files, record.haproxy, own)

    def _own_counters(self) -> tuple[HolderRecord | None, Counters]:
        info, table = self.ask("show info", "show stat")
        return self.files.record(), counting.total(admin_socket.read_statistics(table), info)

    # -- starting, replacing, ending -------------------------------------------------------------------------------

    def render(self, plan: RouterFilePlan, held: Slots) -> str:
        return config.render(plan, held, confined=os.geteuid() == 0 and confinement_possible())

    def replace(self, plan: RouterFilePlan, held: Slots) -> None:
        """Start HAProxy under a new holder with this file, in place of what runs, without losing a request.

        Raises RouterError, and what runs goes on as it was, when the file or an address is refused.
        """
        record = self.files.record()
        with self._listening(plan, record) as sockets:
            self.files.make()
            self.write_scripts(plan)
            listening = dict(zip(config.variables(plan), sockets, strict=True))
            text = self.render(plan, held)
            self._keep_count()
            self.put(text, listening, record, self._seen(plan), access_log=plan.access_log)

    def _seen(self, plan: RouterFilePlan) -> dict[str, str]:
        """Return what the file of a router with a door leaves to variables: what HAProxy sees of that."""
        inside = "/" if confinement_possible() else f"{self.door}/"
        seen = {config.DOOR_ROOT: str(self.door), waiting.DOOR_PATH: f"{inside}{listener.DOOR}"}
        return seen if plan.door else {}

    @contextlib.contextmanager
    def _listening(self, plan: RouterFilePlan, record: HolderRecord | None) -> Iterator[list[socket.socket]]:
        """Yield the plan's listening sockets in its order: those that are open now, and new ones."""
        with contextlib.ExitStack() as stack:
            found: dict[Address, socket.socket] = {}
            for one in (record.process,) if record else self.haproxies():
                for address, shared in listener.taken_from(one.pid).items():
                    stack.enter_context(shared)
                    found.setdefault(address, shared)
            for address in plan.addresses:
                if address not in found:
                    early = address in plan.all_for_instances
                    found[address] = stack.enter_context(listener.opened(address, found, describe, early=early))
            wanted = [found[address] for address in plan.addresses]
            for each in wanted:
                listener.prepare(each)
            yield [*wanted, *([stack.enter_context(self._door(record))] if plan.door else ())]

    def _door(self, record: HolderRecord | None) -> socket.socket:
        """Return the socket where the edge asks: the one that is listened on now, unless its path is gone."""
        if (self.door / listener.DOOR).is_socket():
            for one in (record.process,) if record else self.haproxies():
                if (found := listener.door_taken_from(one.pid)) is not None:
                    return found
        return listener.door_opened(self.door, *haproxy_owner())

    def write_scripts(self, plan: RouterFilePlan) -> None:
        """HAProxy reads them whenever it starts, so they are there before a file names them."""
        for name, text in config.scripts(plan).items():
            self.files.make()
            there = None
            with contextlib.suppress(RouterError):  # what cannot be read is written anew
                there = self.files.read(self.files.script(name))
            if there != text:
                self.files.write(text, self.files.script(name))


def describe(pid: int) -> str | None:
    """Return whose router ``pid`` is, for people; None when it is none."""
    words = processes.command_line(pid)
    directory = directory_of(words) if any(word.startswith(label("")) for word in words) else None
    if directory is not None and directory.name == "edge":
        return f"the edge, which has the names of '{directory.parent}' (process {pid}),"
    return f"the router of '{environment_of(directory)}' (process {pid})" if directory else None
