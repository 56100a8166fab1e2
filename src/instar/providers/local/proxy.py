"""One environment's HAProxy under its holder: found, started, replaced, spoken to, ended.

Whatever was killed at whatever point is found again: the holder by the lock it has on its file, HAProxy by the words
it was started with. Only :meth:`Proxy.replace` starts anything, and always in the same way: gather the listening
sockets from what runs, open those that are missing, and hand them to a new holder, which ends the one before and has
its HAProxy retire the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, RouterError, RouterUnreachable
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.model.release import EnvironmentId, Process
from instar.model.state import StateDirectory
from instar.providers.local.names import Names
from instar.router import admin_socket, config, holder, listener, served, slots, tcp_table, waiting
from instar.router.address import Address
from instar.router.components import confinement_possible, haproxy_user
from instar.router.files import Record, RouterFiles
from instar.router.slots import Live, Slots
from instar.waiting import Deadline

_HAPROXY = "haproxy"
_HOLDER = "holder.py"
_READY_S = 10.0
_ANSWER_S = 3.0
_END_S = 5.0
_POLL_S = 0.005
_TRIES = 5


def label(state_id: str) -> str:
    """Return the word that every router process of a state directory is started with."""
    return f"instar-{state_id}"


def place_of(directory: Path) -> EnvironmentId:
    """Return whose router ``directory`` is of."""
    return EnvironmentId(service=directory.parent.name, name=directory.name)


def running(state: StateDirectory, state_id: str) -> set[EnvironmentId]:
    """Return the environments of this state directory that have a router's process or group, with or without a
    directory."""
    word = label(state_id)
    directories = [_directory(words) for _, words in _find(lambda words: word in words)]
    found = {place_of(path) for path in directories if path and path.parent.parent == state.routers}
    names = Names(state, state_id)
    grouped = {names.place_of_group(child) for child in cgroups.children(names.routers_group)}
    return found | {environment for environment in grouped if environment}


class Proxy:
    """Its calls are made one at a time for an environment: the caller holds the place's router lock."""

    def __init__(self, state: StateDirectory, state_id: str, environment: EnvironmentId) -> None:
        self.files = RouterFiles(state, environment)
        self._label = label(state_id)
        self._group = Names(state, state_id).router_group(environment)

    # -- what runs -------------------------------------------------------------------------------------------------

    def haproxies(self) -> tuple[Process, ...]:
        """Return every HAProxy of the place: the one in force and those that it retired."""
        wanted = {"-db", "-f", str(self.files.config)}
        return tuple(one for one, _ in _find(wanted.issubset))

    def holders(self) -> tuple[Process, ...]:
        """Return every holder of the place, also one whose file was removed under it."""
        wanted = (_HOLDER, str(self.files.directory))
        found = _find(lambda words: wanted in zip(map(_name, words), words[2:], strict=False))
        return tuple(one for one, _ in found)

    def exists(self) -> bool:
        """Tell whether anything runs that serves the place, or will in a moment."""
        return self.files.record() is not None or bool(self.haproxies())

    def current(self) -> bool:
        """Tell whether a holder lives, and its HAProxy answers and is of the program that is installed now."""
        record = self.files.record()
        program = process.find_program(_HAPROXY)
        if record is None or program is None:
            return False
        try:
            self.ask("show info")
            running = Path(f"/proc/{record.haproxy.pid}/exe").stat()
        except RouterUnreachable:
            return False
        except OSError:
            return True  # it died a moment ago, and the one that answered is new
        installed = program.stat()
        return (running.st_dev, running.st_ino) == (installed.st_dev, installed.st_ino)

    def ask(self, *commands: str) -> tuple[str, ...]:
        """Speak to HAProxy, through the moment in which its holder starts it again.

        Raises RouterError when it does not answer or refuses.
        """
        deadline = Deadline.after(_ANSWER_S)
        while True:
            try:
                return admin_socket.ask(self.files.sockets, self.files.socket, commands)
            except RouterUnreachable:
                if deadline.is_over or self.files.record() is None:
                    raise
            time.sleep(_POLL_S)

    def live(self) -> tuple[Live, ...]:
        return slots.read_state(self.ask(f"show servers state {slots.BACKEND}")[0])

    def statistics(self) -> served.Statistics:
        return admin_socket.read_statistics(self.ask("show stat")[0])

    def converge(self, wanted: Slots) -> float:
        """Make HAProxy's slots hold what is ``wanted``; return the seconds that its commands took."""
        seconds = 0.0
        for _ in range(_TRIES):
            live = self.live()
            if len(live) != len(wanted):
                raise RouterError("cannot change the router: it has not the slots that its file says")
            todo = slots.commands(wanted, live)
            if not todo:
                return seconds
            came = slots.arrivals(wanted, live)
            if came:
                statistics, table = self.ask("show stat", served.SHOW)
                self.ask(*served.beginnings(came, admin_socket.read_statistics(statistics), table))
            began = time.monotonic()
            self.ask(*todo)
            seconds += time.monotonic() - began
        raise RouterError(f"cannot change the router: it does not keep what it is told: {todo[0]!r}")

    # -- what retired HAProxies still serve ------------------------------------------------------------------------

    def retired(self, record: Record | None) -> tuple[Process, ...]:
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

    # -- starting, replacing, ending -------------------------------------------------------------------------------

    def render(self, plan: config.Plan, held: Slots) -> str:
        return config.render(plan, held, confined=os.geteuid() == 0 and confinement_possible())

    def replace(self, plan: config.Plan, held: Slots) -> None:
        """Start HAProxy under a new holder with this file, in place of what runs, without losing a request.

        Raises RouterError, and what runs goes on as it was, when the file or an address is refused.
        """
        record = self.files.record()
        with self._listening(plan, record) as sockets:
            self.files.make()
            environment = self._environment(plan, sockets)
            descriptors = [one.fileno() for one in sockets]
            self.write_script(plan)
            self.files.write(self.render(plan, held), self.files.next)
            self._check(environment, descriptors)
            for one in self.holders():
                if record is None or one != record.process:
                    processes.kill(one)
            self._start(record, environment, descriptors)
        self._await_ready()

    def end(self) -> None:
        """End holder and HAProxies and remove their group; return when they are gone."""
        for one in self.holders():
            processes.kill(one)
        for one in self.haproxies():
            processes.send(one, signal.SIGTERM)
        for one in self.haproxies():
            if not processes.wait(one, _END_S) and not processes.kill(one):
                raise RouterError(
                    f"cannot stop the router of '{self.files.environment}': process {one.pid} does not end"
                )
        cgroups.remove_leaf(self._group)

    @contextlib.contextmanager
    def _listening(self, plan: config.Plan, record: Record | None) -> Iterator[list[socket.socket]]:
        """Yield the plan's listening sockets in its order: those that are open now, and new ones."""
        with contextlib.ExitStack() as stack:
            found: dict[Address, socket.socket] = {}
            for one in (record.process,) if record else self.haproxies():
                for address, shared in listener.taken_from(one.pid).items():
                    stack.enter_context(shared)
                    found.setdefault(address, shared)
            for address in plan.addresses:
                if address not in found:
                    found[address] = stack.enter_context(listener.opened(address, found, self.describe))
            wanted = [found[address] for address in plan.addresses]
            for each in wanted:
                listener.prepare(each)
            yield wanted

    def write_script(self, plan: config.Plan) -> None:
        """HAProxy reads it whenever it starts, so it is there before a file names it."""
        if not plan.wait_ms:
            return
        self.files.make()
        with contextlib.suppress(RouterError):  # what cannot be read is written anew
            if self.files.read(self.files.script) == waiting.TEXT:
                return
        self.files.write(waiting.TEXT, self.files.script)

    def _environment(self, plan: config.Plan, sockets: Sequence[socket.socket]) -> dict[str, str]:
        numbers = (str(one.fileno()) for one in sockets)
        named = dict(zip(config.variables(plan), numbers, strict=True))
        return process.clean_environment({config.SOCKET: self.files.socket, **named})

    def _check(self, environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        try:
            process.run(
                [_HAPROXY, "-c", "-q", "-L", self._label, "-f", self.files.next],
                timeout_s=20,
                env=environment,
                pass_fds=descriptors,
            )
        except CommandFailed as error:
            without = "this HAProxy is built without Lua, which 'timeouts.wait' needs; take Debian's package haproxy"
            hint = without if "'lua-load'" in error.output else None
            text = f"cannot configure the router: HAProxy refuses its file: {error.output}"
            raise RouterError(text, hint=hint) from error

    def _start(self, record: Record | None, environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        order = {
            "sockets": str(self.files.sockets),
            "groups": [str(group) for group in cgroups.leaves(self._group)] if os.geteuid() == 0 else [],
            "haproxy": str(process.find_program(_HAPROXY)),
            "environment": environment,
            "socket": str(self.files.sockets / self.files.socket),
            "listening": descriptors,
            "follows": [record.process.pid, record.process.start_time] if record else None,
        }
        argv: list[str | Path] = [
            sys.executable,
            "-I",
            "-S",
            "-B",
            holder.__file__,
            self._label,
            self.files.directory,
            json.dumps(order),
        ]
        try:
            process.run(argv, timeout_s=20, pass_fds=descriptors)
        except CommandFailed as error:
            raise RouterError(
                f"cannot start the router of '{self.files.environment}': {error.output.strip()}"
            ) from error

    def _await_ready(self) -> None:
        """Return when the HAProxy that the living holder has started answers; then it has retired the one before."""
        deadline = Deadline.after(_READY_S)
        while not deadline.is_over:
            record = self.files.record()
            if record is None:
                break
            with contextlib.suppress(RouterUnreachable):
                answers = admin_socket.ask(self.files.sockets, self.files.socket, ["show info"])
                if admin_socket.read_info(answers[0]).get("Pid") == str(record.haproxy.pid):
                    return
            time.sleep(_POLL_S)
        raise RouterError(
            f"cannot start the router of '{self.files.environment}': it does not answer\n{self.files.last_words()}",
            hint=f"its log is {self.files.log}",
        )

    def describe(self, pid: int) -> str | None:
        """Return whose router ``pid`` is, for people; None when it is none."""
        words = processes.command_line(pid)
        directory = _directory(words) if any(word.startswith(label("")) for word in words) else None
        return f"the router of '{place_of(directory)}' (process {pid})" if directory else None


def _find(wanted: Callable[[Sequence[str]], bool]) -> tuple[tuple[Process, tuple[str, ...]], ...]:
    """Find processes as only root and the user that it gives HAProxy can have started them."""
    user = haproxy_user()
    return processes.find(wanted, users=() if user is None else (user,))


def _directory(words: Sequence[str]) -> Path | None:
    """Return the router directory that a HAProxy or a holder was started for."""
    config_file = next((Path(word) for word in words if word.endswith("/haproxy.cfg")), None)
    if config_file:
        return config_file.parent
    return next((Path(there) for word, there in zip(words, words[2:], strict=False) if _name(word) == _HOLDER), None)


def _name(word: str) -> str:
    return word.rpartition("/")[2]
