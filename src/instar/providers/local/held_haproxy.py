"""An HAProxy under its holder: found, started, replaced, spoken to, ended. The router of an environment is one, the
machine's edge another.

Whatever was killed at whatever point is found again: the holder by the lock it has on its file, HAProxy by the words
it was started with. Only :meth:`HeldHaproxy.put` starts anything, and always in the same way: the listening sockets,
those that are open now and those that are missing, are handed to a new holder, which ends the one before and has its
HAProxy retire the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, HostError, RouterError, RouterUnreachable
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.process import Process
from instar.router import access_log as access
from instar.router import access_writer, admin_socket, config, holder
from instar.router.admin_socket import Statistics
from instar.router.components import haproxy_user
from instar.router.files import HaproxyFiles, HolderRecord
from instar.waiting import Deadline

_HAPROXY = "haproxy"
_HOLDER = "holder.py"
_WRITER = "access_writer.py"
_READY_S = 10.0
_ANSWER_S = 3.0
_END_S = 5.0
_WRITTEN_S = 0.5
_POLL_S = 0.005


def label(state_id: str) -> str:
    """Return the word that every HAProxy of a state directory, and every holder, is started with."""
    return f"instar-{state_id}"


class HeldHaproxy:
    """Its calls are made one at a time: the caller holds the lock of what it serves. ``group`` is the cgroup of holder
    and HAProxy."""

    def __init__(self, files: HaproxyFiles, state_id: str, group: str) -> None:
        self._files = files
        self._label = label(state_id)
        self._group = group

    def haproxies(self) -> tuple[Process, ...]:
        """Return every HAProxy of the place: the one in force and those that it retired."""
        wanted = {"-db", "-f", str(self._files.config)}
        return tuple(one for one, _ in find_processes(wanted.issubset))

    def holders(self) -> tuple[Process, ...]:
        """Return every holder of the place, also one whose file was removed under it."""
        return self._programs(_HOLDER)

    def _writers(self) -> tuple[Process, ...]:
        """Return every process that writes the place's access log."""
        return self._programs(_WRITER)

    def exists(self) -> bool:
        """Tell whether anything runs that serves the place, or will in a moment."""
        return self._files.record() is not None or bool(self.haproxies())

    def _programs(self, name: str) -> tuple[Process, ...]:
        wanted = (name, str(self._files.directory))
        found = find_processes(lambda words: wanted in zip(map(_name, words), words[2:], strict=False))
        return tuple(one for one, _ in found)

    def current(self) -> bool:
        """Tell whether a holder lives, and its HAProxy answers and is of the program that is installed now."""
        record = self._files.record()
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
                return admin_socket.ask(self._files.sockets, self._files.socket, commands)
            except RouterUnreachable:
                if deadline.is_over or self._files.record() is None:
                    raise
            time.sleep(_POLL_S)

    def statistics(self) -> Statistics:
        return admin_socket.read_statistics(self.ask("show stat")[0])

    def put(
        self,
        text: str,
        listening: Mapping[str, socket.socket],
        record: HolderRecord | None,
        variables: Mapping[str, str] | None = None,
        *,
        access_log: bool = False,
    ) -> None:
        """Start HAProxy under a new holder with the file ``text``, in place of what runs, without losing a request.

        ``listening`` are its sockets, by the variable that names each in the file; ``record`` is what the holder says
        that lives now; ``variables`` are what else the file needs; ``access_log``: HAProxy logs into a
        pipe. Raises RouterError, and what runs goes on as it was, when the file is refused.
        """
        environment = self._environment(listening) | dict(variables or {})
        if access_log:
            environment[access.PIPE] = "2"  # its holder makes the pipe
        descriptors = [one.fileno() for one in listening.values()]
        self._files.write(text, self._files.next)
        self._check(environment, descriptors)
        for one in self.holders():
            if record is None or one != record.process:
                processes.kill(one)
        self._start(record, environment, descriptors, access_log=access_log)
        self._await_ready()

    def end(self) -> None:
        """End holder and HAProxies and remove their group; return when they are gone."""
        for one in self.holders():
            processes.kill(one)
        for one in self.haproxies():
            processes.send(one, signal.SIGTERM)
        for one in self.haproxies():
            if not processes.wait(one, _END_S) and not processes.kill(one):
                raise RouterError(f"cannot stop {self._files.whose}: process {one.pid} does not end")
        for one in self._writers():  # nobody can write to them any more, so they end when they have written all
            if not processes.wait(one, _WRITTEN_S):
                processes.kill(one)
        try:
            cgroups.remove_leaf(self._group)
        except HostError as error:
            raise self._in_use(error) from error

    def _in_use(self, error: HostError) -> HostError:
        """Say of a group that is in use whose processes those are: a copy of the state directory has its id."""
        found = {pid: directory_of(processes.command_line(pid)) for pid in sorted(cgroups.members(self._group))}
        others = {pid: where for pid, where in found.items() if where not in (None, self._files.directory)}
        if not others:
            return error
        pids, where = " ".join(map(str, others)), next(iter(others.values()))
        return HostError(
            f"cannot remove {self._files.whose}: '{where}', of another state directory with this one's id, has an "
            f"HAProxy in its group (processes {pids})",
            hint=f"one of the two directories is a copy of the other, and only one may act here: end what the copy has "
            f"(kill {pids}, if nobody needs it), move the copy away, then ask again",
        )

    def _environment(self, listening: Mapping[str, socket.socket]) -> dict[str, str]:
        numbers = {name: str(one.fileno()) for name, one in listening.items()}
        return process.clean_environment(
            {**numbers, config.SOCKET: self._files.socket, config.FOLDER: str(self._files.directory)}
        )

    def _check(self, environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        try:
            process.run(
                [_HAPROXY, "-c", "-L", self._label, "-f", self._files.next],
                timeout_s=20,
                env=environment,
                pass_fds=descriptors,
            )
        except CommandFailed as error:
            without = "this HAProxy is built without Lua, which 'timeouts.wait' needs; take Debian's package haproxy"
            hint = without if "'lua-load" in error.output else None
            text = f"cannot configure {self._files.whose}: HAProxy refuses its file: {error.output}"
            raise RouterError(text, hint=hint) from error

    def _start(
        self,
        record: HolderRecord | None,
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        *,
        access_log: bool,
    ) -> None:
        order = {
            "sockets": str(self._files.sockets),
            "groups": [str(group) for group in cgroups.leaves(self._group)] if os.geteuid() == 0 else [],
            "haproxy": str(process.find_program(_HAPROXY)),
            "environment": environment,
            "socket": str(self._files.sockets / self._files.socket),
            "listening": descriptors,
            "access": [access_writer.__file__, access.PIPE] if access_log else None,
            "answered": self._files.answered.name if self._files.answered else None,
            "follows": [record.process.pid, record.process.start_time] if record else None,
        }
        argv: list[str | Path] = [
            sys.executable,
            "-I",
            "-S",
            "-B",
            holder.__file__,
            self._label,
            self._files.directory,
            json.dumps(order),
        ]
        try:
            process.run(argv, timeout_s=20, pass_fds=descriptors)
        except CommandFailed as error:
            raise RouterError(f"cannot start {self._files.whose}: {error.output.strip()}") from error

    def _await_ready(self) -> None:
        """Return when the HAProxy that the living holder has started answers; then it has retired the one before."""
        deadline = Deadline.after(_READY_S)
        while not deadline.is_over:
            record = self._files.record()
            if record is None:
                break
            with contextlib.suppress(RouterUnreachable):
                answers = admin_socket.ask(self._files.sockets, self._files.socket, ["show info"])
                if admin_socket.read_info(answers[0]).get("Pid") == str(record.haproxy.pid):
                    return
            time.sleep(_POLL_S)
        raise RouterError(
            f"cannot start {self._files.whose}: it does not answer\n{self._files.last_words()}",
            hint=f"its log is {self._files.log}",
        )


def find_processes(wanted: Callable[[Sequence[str]], bool]) -> tuple[tuple[Process, tuple[str, ...]], ...]:
    """Find processes as only root and the user that it gives HAProxy can have started them."""
    user = haproxy_user()
    return processes.find(wanted, users=() if user is None else (user,))


def directory_of(words: Sequence[str]) -> Path | None:
    """Return the router directory that a HAProxy or a holder was started for."""
    config_file = next((Path(word) for word in words if word.endswith("/haproxy.cfg")), None)
    if config_file:
        return config_file.parent
    return next((Path(there) for word, there in zip(words, words[2:], strict=False) if _name(word) == _HOLDER), None)


def _name(word: str) -> str:
    return word.rpartition("/")[2]
