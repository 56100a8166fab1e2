"""A shell in an instance of this machine: run by runc as the instance's own user, within its limits and its seccomp.

Where the image has no shell, BusyBox of the machine is shown inside for it (``host/isolation/toolbox.py``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from instar import durable, process, syscalls
from instar.errors import HostError, ProviderError
from instar.host.isolation import programs, runc, toolbox
from instar.host.isolation.toolbox import Toolbox
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.model.codec import parse
from instar.model.release import Release
from instar.model.survey import Survey
from instar.process import Process
from instar.providers.base import Streams
from instar.providers.local import allocations, observation
from instar.providers.local.inspection import facts
from instar.providers.local.names import InstanceNames
from instar.providers.local.survey import survey
from instar.waiting import Deadline, until

SHELL = "/bin/sh"
# A terminal belongs to a session whose leader asks for it. Where the image has nothing that does, there is a shell, but
# ^C and ^Z reach nobody. The last word is there so that sh does not become setsid, which would leave it behind.
_ON_TERMINAL = 'if {setsid} -c true 2>/dev/null; then ({setsid} -c "$@"); exit $?; fi; exec "$@"'
_END_S = 2.0
_POLL_S = 0.01
_SIGNAL_BASE = 128


class LocalShell:
    """Implements :class:`instar.providers.base.Shell`."""

    def __init__(self, names: InstanceNames, first: Process, volumes: tuple[str, ...], tools: Path | None) -> None:
        self._names = names
        self._first = first
        self._volumes = volumes
        self._tools = tools
        self._pid_file = names.folder / f"shell-{os.getpid()}-{secrets.token_hex(4)}"
        self._shown = contextlib.ExitStack()
        self._child: subprocess.Popen[bytes] | None = None
        self._begun: _Begun | None = None

    def survey(self) -> Survey | None:
        return survey(self._first, self._names.group, self._volumes)

    def begin(self, command: str | None, streams: Streams, *, term: str) -> None:
        box = self._show_tools() if self._tools is not None else None
        argv = shell_argv(self._names, self._pid_file, command, term=term, box=box)
        if command is None:
            syscalls.adopt_orphans()  # runc goes once the shell has begun
        self._child = process.attach(argv, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
        if command is None:
            self._child.wait()
            self._begun = _Begun.find(self._pid_file)
            os.fchown(streams.stdin, 0, 0)  # without a user namespace runc has given it to who is inside
            os.fchmod(streams.stdin, 0o600)

    def ended(self) -> int | None:
        return self._begun.handle if self._begun is not None else None

    def wait(self) -> int | None:
        if self._begun is not None:
            return self._begun.wait()
        if self._child is None:
            return None
        status = self._child.wait()
        if not self._pid_file.exists() and self._names.folder.exists():
            return None
        return status if status >= 0 else _SIGNAL_BASE - status

    def close(self) -> None:
        try:
            if self._begun is not None:
                _end_all(self._names, self._begun.sessions(self._names.group))
                self._begun.close()
            elif self._child is not None and self._child.poll() is None:
                _end(self._names, self._pid_file, self._child)
                _collect(self._child)
        finally:
            self._pid_file.unlink(missing_ok=True)
            self._shown.close()

    def _show_tools(self) -> Toolbox:
        assert self._tools is not None
        owner = namespace_root(self._config())
        return self._shown.enter_context(toolbox.shown(self._tools, self._first.pid, owner))

    def _config(self) -> Any:
        path = self._names.folder / "config.json"
        try:
            found = parse(durable.read(path))
            namespace_root(found)
        except (OSError, ValueError, KeyError, TypeError, LookupError) as error:
            hint = f"the instance was left alone; have it replaced: instar taint ENV {self._names.name}"
            raise HostError(f"cannot read '{path}': it is damaged ({error})", hint=hint) from error
        return found


class _Begun:
    """What runc has begun on a terminal of this machine's, and left to this process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None
        self.handle = os.pidfd_open(pid)

    @classmethod
    def find(cls, pid_file: Path) -> _Begun | None:
        """Return it, None where runc has begun nothing."""
        with contextlib.suppress(OSError, ValueError):
            return cls(int(durable.read_text(pid_file)))
        return None

    def wait(self) -> int:
        if self._status is None:
            _, status = os.waitpid(self._pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else _SIGNAL_BASE - code
        return self._status

    def sessions(self, group: str) -> frozenset[int]:
        """Return the sessions of the shell: its own, and the one that has the terminal."""
        if self._status is not None:
            return frozenset({self._pid})
        children = [pid for pid in cgroups.members(group) if processes.parent(pid) == self._pid]
        return frozenset({self._pid, *(session for pid in children if (session := _session_of(pid)))})

    def close(self) -> None:
        """Collect what was ended. Once is enough."""
        if self.handle < 0:
            return
        with contextlib.suppress(ChildProcessError):
            self.wait()
        os.close(self.handle)
        self.handle = -1


def open_shell(names: InstanceNames, release: Release, *, with_tools: bool) -> LocalShell:
    """Find the way to a shell in a running instance. Raises ProviderError, ComponentMissing, HostError."""
    process = allocations.process_of(names)
    state = observation.observe(names).state
    if state != "running" or process is None:
        why = "it was told to end, and is ending" if state == "ending" else "it does not run"
        raise ProviderError(f"cannot open a shell in '{names.name}': {why}")
    volumes = tuple(volume.path for volume in release.service.volumes)
    tools = toolbox.provide(names.of.state.toolbox) if with_tools else None
    if tools is None:
        _check(names)
    return LocalShell(names, process, volumes, tools)


def shell_argv(
    names: InstanceNames, pid_file: Path, command: str | None, *, term: str, box: Toolbox | None
) -> list[str]:
    """Return the command that runs sh inside: ``command``, or on a terminal.

    That is none of the instance's own, in whose devpts everybody inside could read what is typed: runc hands on the one
    that it is given, and who is inside takes it for the shell's own.
    """
    program = [SHELL] if box is None else [box.program, "sh"]
    setsid = "setsid" if box is None else f"{box.program} setsid"
    on_terminal = [*program, "-c", _ON_TERMINAL.format(setsid=setsid), "sh", *program, "-i"]
    terminal = ["--detach", f"--env=TERM={term}"] if command is None else []
    made = facts.read(names)
    mark = [f"--env={runc.CHECK_MARK}={made.token}"] if made else []  # it is known for one of ours
    words = on_terminal if command is None else [*program, "-c", command]
    return runc.exec_argv(
        names.of.state.runc, names.name, pid_file, [*terminal, *mark], words, made.rlimits if made else {}
    )


def namespace_root(config: Any) -> int:
    """Return who of this machine is root in the instance that ``config`` (its config.json) is of."""
    mappings = config["linux"].get("uidMappings") or [{"hostID": 0}]
    return int(mappings[0]["hostID"])


def _check(names: InstanceNames) -> None:
    """Raise ProviderError when the image has no shell that its user can run."""
    try:
        config = parse(durable.read(names.folder / "config.json"))
        user, first = config["process"]["user"], namespace_root(config)
        search = next((one[5:] for one in config["process"]["env"] if one.startswith("PATH=")), process.PATH)
        execution = programs.Execution(
            root=names.root, search=search, workdir="/", uid=first + user["uid"], gid=first + user["gid"]
        )
        programs.check((SHELL,), execution)
    except programs.Unrunnable as error:
        raise ProviderError(
            f"cannot open a shell in '{names.name}': {error}",
            hint="add --toolbox: it shows this machine's static busybox inside",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProviderError(f"cannot open a shell in '{names.name}': its bundle cannot be read: {error}") from error


def _end(names: InstanceNames, pid_file: Path, child: subprocess.Popen[bytes]) -> None:
    """End the shell and all that is in its session still, also what it is about to start. Only of this instance."""
    until(lambda: _session(pid_file) or child.poll() is not None, Deadline.after(_END_S), every_s=_POLL_S)
    if session := _session(pid_file):
        _end_all(names, frozenset({session}))


def _end_all(names: InstanceNames, sessions: Collection[int]) -> None:
    """End all that is in any of ``sessions``, also what it is about to start."""
    deadline = Deadline.after(_END_S)
    while not deadline.is_over:
        members = [pid for pid in cgroups.members(names.group) if _session_of(pid) in sessions]
        ending = [found for found in map(processes.identify, members) if found is not None]
        if not ending:
            return
        for member in ending:
            processes.send(member, signal.SIGKILL)
        for member in ending:
            processes.wait(member, _END_S)


def _session(pid_file: Path) -> int | None:
    """Return the session of what runc has begun: it makes each command the leader of one."""
    with contextlib.suppress(OSError, ValueError):
        return int(durable.read_text(pid_file))
    return None


def _session_of(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return None


def _collect(child: subprocess.Popen[bytes]) -> None:
    """Wait for runc, which collects what it ran; end it when it hangs on what others hold open."""
    for end in (child.terminate, child.kill):
        try:
            child.wait(_END_S)
            return
        except subprocess.TimeoutExpired:
            end()
    child.wait()
