"""The command that has requests answered with a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli.options import (
    environment_argument,
    file_option,
    find_own_environment,
    json_option,
    load_definition,
    open_workspace,
    service_beside,
)
from instar.cli.screen import say, say_json

if TYPE_CHECKING:
    from instar.model.release import EnvironmentId


@click.command()
@environment_argument
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--page", type=click.Path(path_type=Path), help="What requests are answered with, of at most 16 kB.")
@file_option
@json_option
def maintenance(environment: str, state: str, page: Path | None, file: Path, as_json: bool) -> None:
    """Answer the requests of ENV with 503 and a page (on), or by its instances again (off).

    Requests in flight finish. Checks of its health, previews, deploys and rollbacks go on as ever. It stays on until
    it is turned off. Without --page, the page is the one that the definition names (environments.ENV.maintenance), or
    the one before. On Kubernetes the Service that kubernetes.maintenance names answers, and there is no --page.
    """
    from instar.operations.maintenance import read_page, set_maintenance
    from instar.views.outcomes import maintenance_json

    workspace, on = open_workspace(), state == "on"
    if page is not None and not on:
        raise click.UsageError("a page is shown while maintenance is on; remove --page")
    found = find_own_environment(workspace, environment, file)
    text = None
    if on:
        text = read_page(page) if page else _declared_page(environment, found.id, file)
    change = set_maintenance(workspace, found, on=on, page=text)
    if as_json:
        say_json(maintenance_json(change))
        return
    already = "" if change.changed else "already "
    if on:
        say(f"{found.id} is {already}in maintenance: its instances get no requests")
        say(f"end it with: instar maintenance {found.id} off")
    else:
        say(f"{found.id} is {already}served by its instances")


def _declared_page(word: str, environment: EnvironmentId, file: Path) -> str | None:
    """Return the page that the definition here names for the environment, if there is one."""
    from instar.definition.author_files import open_author_file
    from instar.errors import Refused
    from instar.operations.maintenance import LARGEST_BYTES, page_of

    if service_beside(word, file) != environment.service:
        return None
    loaded = load_definition(file)
    declared = loaded.definition.environments.get(environment.name)
    name = declared.maintenance.page if declared else None
    if name is None:
        return None

    def read() -> bytes:
        found = open_author_file(loaded.folder, name, LARGEST_BYTES)
        if not found.may_be_quoted:
            raise Refused(f"cannot show the page '{name}': only root may read it")
        return found.data

    return page_of(name, read)
