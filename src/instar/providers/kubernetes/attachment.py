"""A command that somebody runs in a pod of its own: the pod waits for its input, which never comes, and the command is
begun in it as a shell's is, with the streams of who gave it. Pods wait by a shell: their image's, or a toolbox's."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping
from typing import Any, Final

from instar.errors import InstarError, ProviderError
from instar.model.definition import Stop
from instar.model.release import Command, Instance, Release
from instar.providers.base import Streams
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import CONTAINER, GROUP
from instar.providers.kubernetes.observation import is_of, runs
from instar.providers.kubernetes.pod import shell_of
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.streams import PROTOCOLS, RemoteCommand

_ON_TERMINAL: Final = 'TERM="$0" exec "$@"'  # an engine says it is an xterm
_ASKED_S: Final = 10.0
_TELLS: Final[Mapping[str, str]] = {"SIGTERM": "TERM", "SIGINT": "INT", "SIGQUIT": "QUIT", "SIGHUP": "HUP"}


class ClusterAttachment:
    """Implements :class:`instar.providers.facets.Attachment`."""

    def __init__(self, api: Api, place: Place, pod: str, shell: str, command: RemoteCommand, stop: Stop) -> None:
        self._api = api
        self._place = place
        self._pod = pod
        self._shell = shell
        self._command = command
        self._stop = stop

    def resized(self) -> None:
        """It is looked at now and then."""

    def wait(self) -> int:
        return self._command.wait()

    def end(self) -> None:
        """Tell all in the pod but its first process, which hears nothing."""
        argv = (self._shell, "-c", f"kill -s {_TELLS.get(self._stop.signal, 'TERM')} -1")
        with contextlib.suppress(InstarError):
            self._api.run(self._place.namespace, self._pod, argv, _ASKED_S, container=CONTAINER)
            select.select([self._command.ended()], [], [], self._stop.grace_ms / 1000)

    def close(self) -> None:
        self._command.close()


def attach(api: Api, place: Place, instance: Instance, release: Release, streams: Streams) -> ClusterAttachment:
    """Begin the command of a group whose pod runs. Raises ProviderError, and what a refusal or no answer means."""
    pods = api.list(POD, place.namespace, {GROUP: instance.id})
    pod = next((one for one in pods if is_of(one, instance.id) and runs(one)), None)
    if pod is None or instance.command is None:
        raise ProviderError(f"cannot run a command in '{instance.id}': its pod does not run")
    name, on_terminal = str(pod["metadata"]["name"]), instance.command.terminal is not None
    params: Mapping[str, Any] = {
        "container": CONTAINER,
        "command": _argv(instance.command, shell_of(instance)),
        "stdin": "true",
        "stdout": "true",
        "stderr": "false" if on_terminal else "true",
        "tty": "true" if on_terminal else "false",
    }
    what = f"run a command in '{name}'"
    made = api.websocket(POD.path(place.namespace, name, "exec"), params, PROTOCOLS, what)
    command = RemoteCommand(made, streams, what, on_terminal=on_terminal and os.isatty(streams.stdin))
    return ClusterAttachment(api, place, name, shell_of(instance), command, release.service.stop)


def _argv(command: Command, shell: str) -> list[str]:
    if command.terminal is None:
        return list(command.argv)
    return [shell, "-c", _ON_TERMINAL, command.terminal, *command.argv]
