"""A command that somebody runs in an instance of its own: begun by runc, with the streams of who gave it.

The instance's first process only waits, and collects what the command leaves. Nothing is between the command and its
streams but runc, and that only where they are a terminal: what it prints is in no log.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from instar import durable, process
from instar.errors import ProviderError
from instar.host.isolation import runc
from instar.model.codec import canonical, parse
from instar.model.definition import Stop
from instar.model.release import Instance, Release
from instar.providers.base import Streams
from instar.providers.local import observation
from instar.providers.local.inspection import facts
from instar.providers.local.names import InstanceNames

_SIGNAL_BASE = 128
_END_S = 2.0


class LocalAttachment:
    """Implements :class:`instar.providers.facets.Attachment`."""

    def __init__(self, instance: Instance, child: subprocess.Popen[bytes], pid_file: Path, stop: Stop) -> None:
        self._instance = instance
        self._child = child
        self._pid_file = pid_file
        self._stop = stop

    def resized(self) -> None:
        self._send(signal.SIGWINCH)

    def wait(self) -> int:
        status = self._child.wait()
        if not self._pid_file.exists() and self._pid_file.parent.exists():
            raise ProviderError(f"cannot run the command of '{self._instance.id}': it did not begin")
        return status if status >= 0 else _SIGNAL_BASE - status

    def end(self) -> None:
        self._send(signal.Signals[self._stop.signal])  # runc hands it on
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(self._stop.grace_ms / 1000)

    def close(self) -> None:
        for end in (self._child.terminate, self._child.kill):
            if self._child.poll() is not None:
                break
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)
        self._child.wait()
        self._pid_file.unlink(missing_ok=True)
        _order_file(self._pid_file).unlink(missing_ok=True)

    def _send(self, number: signal.Signals) -> None:
        if self._child.poll() is None:
            self._child.send_signal(number)


def attach(names: InstanceNames, instance: Instance, release: Release, streams: Streams) -> LocalAttachment:
    """Begin the command of a running instance. Raises ProviderError, ComponentMissing."""
    state = observation.observe(names).state
    if instance.command is None or state != "running":
        raise ProviderError(f"cannot run a command in '{names.name}': it does not run ({state})")
    pid_file = names.folder / f"command-{os.getpid()}-{secrets.token_hex(4)}"
    made = facts.read(names)
    words, command = list[str](), instance.command.argv
    if instance.command.terminal is not None:
        order = _order_file(pid_file)
        durable.write(order, _on_terminal(names, command, instance.command.terminal, streams.stdin), mode=0o600)
        words, command = ["--process", str(order)], ()
    argv = runc.exec_argv(names.of.state.runc, names.name, pid_file, words, command, made.rlimits if made else {})
    child = process.attach(argv, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
    return LocalAttachment(instance, child, pid_file, release.service.stop)


def _on_terminal(names: InstanceNames, argv: Sequence[str], term: str, stdin: int) -> bytes:
    """Return what runc is told about a command on a terminal of its own. Only so is that as large as the user's before
    the command looks: runc sets its size else when it has begun, which may be late."""
    try:
        config = parse(durable.read(names.folder / "config.json"))["process"]
        columns, rows = os.get_terminal_size(stdin)
        env = [one for one in config["env"] if not one.startswith("TERM=")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProviderError(f"cannot run a command in '{names.name}': its bundle cannot be read: {error}") from error
    size = {"height": rows, "width": columns}
    made = {**config, "args": [*argv], "env": [*env, f"TERM={term}"], "terminal": True, "consoleSize": size}
    return canonical(made)


def _order_file(pid_file: Path) -> Path:
    return pid_file.with_suffix(".json")
