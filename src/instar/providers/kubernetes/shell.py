"""A shell in a pod: run in its own container, or, where that has none, in one beside it that sees its processes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.model.release import Release
from instar.model.survey import Survey
from instar.providers.base import Streams
from instar.providers.facets import Member
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import CONTAINER
from instar.providers.kubernetes.pod import SHELL
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.streams import PROTOCOLS, RemoteCommand
from instar.providers.kubernetes.survey import SCRIPT, survey_of, unknown
from instar.waiting import Deadline, until

_ON_TERMINAL: Final = 'TERM="$1" exec "$0" -i'
_LOOKS_S: Final = 20.0
_BEGINS_S: Final = 120.0  # an image that has to be pulled
_STAYS_S: Final = 86_400


class ClusterShell:
    """Implements :class:`instar.providers.base.Shell`."""

    def __init__(self, api: Api, place: Place, member: Member, release: Release, *, toolbox: bool) -> None:
        self._api = api
        self._place = place
        self._pod = member.name
        self._volumes = tuple(volume.path for volume in release.service.volumes)
        self._toolbox = toolbox
        self._container = CONTAINER
        self._command: RemoteCommand | None = None
        self._what = f"open a shell in '{self._pod}'"

    def survey(self) -> Survey | None:
        found = self._api.find(POD, self._place.namespace, self._pod)
        if found is None or found["metadata"].get("deletionTimestamp") is not None:
            return None
        if self._toolbox:
            return unknown("a toolbox looks at nothing of the instance's own")
        argv = (SHELL, "-c", SCRIPT, "sh", *self._volumes)
        status, printed = self._api.run(self._place.namespace, self._pod, argv, _LOOKS_S, container=self._container)
        return survey_of(status, printed)

    def begin(self, command: str | None, streams: Streams, *, term: str) -> None:
        if self._toolbox:
            self._container = self._add_toolbox()
        argv = [SHELL, "-c", _ON_TERMINAL, SHELL, term] if command is None else [SHELL, "-c", command]
        params: Mapping[str, Any] = {
            "container": self._container,
            "command": argv,
            "stdin": "true",
            "stdout": "true",
            "stderr": "false" if command is None else "true",
            "tty": "true" if command is None else "false",
        }
        path = POD.path(self._place.namespace, self._pod, "exec")
        self._command = RemoteCommand(self._api.websocket(path, params, PROTOCOLS, self._what), streams, self._what)

    def ended(self) -> int | None:
        return None if self._command is None else self._command.ended()

    def wait(self) -> int | None:
        return None if self._command is None else self._command.wait()

    def close(self) -> None:
        if self._command is not None:
            self._command.close()

    def _add_toolbox(self) -> str:
        """Run a container of the section's image beside the service's, and return its name once it runs."""
        name = f"toolbox-{secrets.token_hex(3)}"
        made = {
            "name": name,
            "image": self._place.toolbox,
            "command": [SHELL, "-c", f"exec sleep {_STAYS_S}"],
            "targetContainerName": CONTAINER,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        self._api.add_ephemeral(self._place.namespace, self._pod, made)
        seen: Mapping[str, Any] = {}

        def runs() -> bool:
            nonlocal seen
            pod = self._api.find(POD, self._place.namespace, self._pod) or {}
            statuses = (pod.get("status") or {}).get("ephemeralContainerStatuses") or ()
            seen = next((dict(one.get("state") or {}) for one in statuses if one.get("name") == name), {})
            return "running" in seen or "terminated" in seen

        until(runs, Deadline.after(_BEGINS_S), every_s=0.5)
        if "running" not in seen:
            raise ProviderError(
                f"cannot {self._what}: the toolbox '{self._place.toolbox}' does not begin: {_why(seen)}",
                hint="nodes have to be able to pull it, and it needs /bin/sh and sleep; kubernetes.toolbox names it",
            )
        return name


def _why(state: Mapping[str, Any]) -> str:
    """Return what is said of a container that does not run."""
    found = [one.get("message") or one.get("reason") for one in state.values() if isinstance(one, Mapping)]
    return "; ".join(str(one) for one in found if one) or f"nothing was said of it within {_BEGINS_S:g} s"


def open_shell(api: Api, place: Place, member: Member, release: Release, *, toolbox: bool) -> ClusterShell:
    """Find the way into a pod. Raises ProviderError where it does not run, Refused without an image for a toolbox."""
    if toolbox and place.toolbox is None:
        raise Refused(
            f"cannot open a shell in '{member.name}': there is no image for a toolbox",
            hint="name one with a shell by its digest: kubernetes.toolbox, and deploy; or leave --toolbox away",
        )
    found = api.find(POD, place.namespace, member.name)
    phase = ((found or {}).get("status") or {}).get("phase")
    if found is None or phase != "Running" or found["metadata"].get("deletionTimestamp") is not None:
        told = "it is ending" if phase == "Running" else f"it is {phase or 'gone'}"
        raise ProviderError(f"cannot open a shell in '{member.name}': {told}")
    return ClusterShell(api, place, member, release, toolbox=toolbox)
