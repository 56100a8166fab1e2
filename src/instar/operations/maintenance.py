"""``instar maintenance``: requests are answered with a page while a service is worked on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from instar import durable
from instar.drift.traffic import maintenance_differences
from instar.errors import InstarError, Refused, UsageError
from instar.model.outcome import MaintenanceChange
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.privilege import require_root_for
from instar.operations.workspace import Workspace
from instar.providers.base import Provider
from instar.providers.facets import require

LARGEST_BYTES = 64 * 1024  # of a file that is looked at; what a router can show is less


def set_maintenance(
    workspace: Workspace, environment: EnvironmentState, *, on: bool, page: str | None = None
) -> MaintenanceChange:
    """Answer the requests of ``environment`` with a page (None: the one before), or no longer. A rollout that is under
    way goes on. Raises Refused where nothing is there that could be answered for, RouterError.

    The ledger is told first: who is killed then is gone on with by whoever puts the router right. What could not be
    done is taken back there.
    """
    environment_id, provider = environment.id, workspace.provider(environment.settings.provider)
    require_root_for(workspace, environment.settings.provider, "maintenance")
    maintains = require(provider.maintains, f"put '{environment_id}' into maintenance")
    _require_answerable(workspace, environment)
    changed, said = maintains.maintenance(environment_id) != on, environment.maintenance
    before = said.page if said.is_page_known else maintains.maintenance_page(environment_id)
    page = before if page is None else page
    is_news = changed or (said.on, said.page, said.is_page_known) != (on, page, True)
    if is_news:
        workspace.ledger.set_maintenance(environment_id, on=on, page=page)
    try:
        maintains.set_maintenance(environment_id, on=on, page=page)
    except InstarError:
        if is_news:
            workspace.ledger.set_maintenance(environment_id, on=said.on, page=before)
        raise
    return MaintenanceChange(environment=environment_id, on=on, changed=changed)


def restore_maintenance(provider: Provider, environment: EnvironmentState) -> None:
    """Have the router show what was said last, where it does not. Raises RouterError."""
    maintains, said = provider.maintains, environment.maintenance
    if maintains is None or not any(maintenance_differences(provider, environment)):
        return
    page = said.page if said.is_page_known else maintains.maintenance_page(environment.id)
    maintains.set_maintenance(environment.id, on=said.on, page=page)


def read_page(path: Path) -> str:
    """Return the page that a file holds. Raises UsageError where it cannot be read, Refused where it is no text."""
    try:
        page = durable.read(path, LARGEST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot show the page '{path}': {error.strerror}") from error
    return page_of(str(path), lambda: page)


def page_of(name: str, read: Callable[[], bytes]) -> str:
    try:
        return read().decode()
    except OSError as error:
        raise Refused(f"cannot show the page '{name}': {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"cannot show the page '{name}': it is not text in UTF-8") from error


def tell_maintenance(workspace: Workspace, provider: Provider, environment: EnvironmentId) -> None:
    """Say to whoever changes what serves that nobody is served. What they did is done then, whether or not a provider
    answers to that."""
    try:
        if provider.maintains is None or not provider.maintains.maintenance(environment):
            return
        text = f"{environment} is in maintenance; end it with: instar maintenance {environment} off"
    except InstarError as error:
        text = f"whether {environment} is in maintenance is not known: {error.message}"
    workspace.report(Progress(stage="note", text=text, kind="warning"))


def _require_answerable(workspace: Workspace, environment: EnvironmentState) -> None:
    name = environment.id
    if environment.active is None:
        raise Refused(f"cannot change the maintenance of '{name}': nothing is deployed there")
    service = workspace.ledger.get_release(name, environment.active).service
    if service.port is None:
        raise Refused(f"cannot change the maintenance of '{name}': its service has no port")
    if not service.http:
        raise Refused(f"cannot change the maintenance of '{name}': its service speaks tcp, and a page is for http")
