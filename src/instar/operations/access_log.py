"""``instar logs ENV --access``: the requests that environments' routers have written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from instar.errors import NotFound
from instar.ledger import Ledger
from instar.model.log_line import LogLine
from instar.model.logged_request import read
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.logs import NEWEST, Wanted, followed, require_instance
from instar.operations.roles import require_role
from instar.operations.workspace import Workspace
from instar.providers.facets import LogFiles, require

_STREAM = "access"


class _Instances:
    """Of which release, and role, an instance is: those that were there, and those that come."""

    def __init__(self, ledger: Ledger, environment: EnvironmentId) -> None:
        self._ledger = ledger
        self._environment = environment
        self._known: dict[str, tuple[int, str | None]] = {}

    def find(self, name: str) -> tuple[int | None, str | None]:
        if name not in self._known:
            roles = self._ledger.instance_roles(self._environment)
            every = self._ledger.instance_releases(self._environment)
            self._known = {one: (release, roles.get(one)) for one, release in every}
        return self._known.get(name, (None, None))


def requests(
    workspace: Workspace,
    environment: EnvironmentState,
    wanted: Wanted,
    *,
    beside: Sequence[EnvironmentState] = (),
    follow: bool = False,
) -> Iterator[LogLine]:
    """Yield the requests of all that is kept, by whatever answered them, in the order of their times; or as they come
    when ``follow``. ``wanted`` may name one instance, release or role. Raises NotFound, Refused."""
    states = (environment, *beside)
    logs = {state.id: access_logs(workspace, state) for state in states}
    _require(workspace, environment, wanted)
    every = wanted.instance is None and wanted.release is None and wanted.role is None
    sources = [(str(state.id), partial(logs[state.id].access_lines, state.id)) for state in states]
    instances = {str(state.id): _Instances(workspace.ledger, state.id) for state in states}

    def matching(lines: Iterator[LogLine], wanted: Wanted) -> Iterator[LogLine]:
        for line in lines:
            found = _request(line, instances[line.instance], wanted)
            if found is not None and wanted.has(found):
                yield found

    last = wanted.last_read if every else None
    if follow and wanted.last in (last, 0):
        yield from matching(followed(sources, wanted.last), wanted)
        return
    found = [*matching((LogLine.of(name, line) for name, lines_of in sources for line in lines_of(last=last)), wanted)]
    found.sort(key=lambda line: line.at or NEWEST)
    chosen = found if wanted.last is None else found[max(0, len(found) - wanted.last) :]
    if follow:  # they are read once more, from the first of these on: nothing that comes meanwhile is missed
        since = chosen[0].at if chosen else None
        yield from matching(followed(sources, None), replace(wanted, since=since or wanted.since))
        return
    yield from chosen


def access_logs(workspace: Workspace, state: EnvironmentState) -> LogFiles:
    """Return what keeps an environment's requests. Raises NotFound where none are kept."""
    logs = require(workspace.provider(state.settings.provider).log_files, f"show the access log of '{state.id}'")
    if not logs.has_access_log(state.id):
        asked = state.settings.access_log
        raise NotFound(
            f"cannot show the access log of '{state.id}': nothing is written down there"
            + (" yet" if asked else "; it is not asked to"),
            hint=None if asked else f"add 'access_log: true' under environments.{state.id.name}, and deploy",
        )
    return logs


def _require(workspace: Workspace, environment: EnvironmentState, wanted: Wanted) -> None:
    if wanted.instance is not None:
        require_instance(workspace, environment.id, wanted.instance)
    if wanted.release is not None:
        workspace.ledger.get_release(environment.id, wanted.release)
    if wanted.role is None or (wanted.release is None and _had_port(workspace, environment, wanted.role)):
        return
    require_role(workspace, environment, wanted.release, wanted.role, with_port=True)


def _had_port(workspace: Workspace, environment: EnvironmentState, role: str) -> bool:
    """Tell whether requests came to that role of any release: they may be kept."""
    services = (one.services.get(role) for one in workspace.ledger.releases(environment.id))
    return any(one is not None and one.port is not None for one in services)


def _request(line: LogLine, instances: _Instances, wanted: Wanted) -> LogLine | None:
    """Return a line of a log of ``line.instance``, which is an environment, as it is told; None where it is not
    wanted, or damaged. What is told of the log itself belongs to all."""
    if line.stream != _STREAM:
        return line
    request = read(line.instance, line.text)
    if request is None:
        return None
    release, role = instances.find(request.instance) if request.instance else (None, None)
    asked = ((wanted.instance, request.instance), (wanted.release, release), (wanted.role, role))
    if any(one not in (None, there) for one, there in asked):
        return None
    request = replace(request, release=release, role=role)
    text = request.text
    written = f"{line.written.partition(' ')[0]} {_STREAM} {text}"
    return replace(line, written=written, text=text, request=request)
