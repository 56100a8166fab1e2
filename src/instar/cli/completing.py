"""What a shell offers for a word that is half typed: environments, releases and instances, as far as they can be read.

Nothing is made or changed, and nothing is said: what can't be read is offered to nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instar.errors import InstarError

if TYPE_CHECKING:
    from instar.ledger import Ledger
    from instar.model.release import EnvironmentState

_PATIENCE_S = 2.0


def environments(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Offer those of the definition beside, and those that there are, as SERVICE/ENV where no definition names one."""
    from instar.cli.options import service_beside

    file = _file(context)
    service, known = None, [state.id for ledger in _ledger() for state in ledger.readable_environments()[0]]
    with contextlib.suppress(InstarError, OSError):
        service = service_beside("", file)
    found = [*_declared(file), *(one.name for one in known if one.service == service), *map(str, known)]
    return _beginning([*found, *_of_an_agent()], typed)


def _of_an_agent() -> list[str]:
    """Return those that root's agent tells of, where this user may only look."""
    from instar.cli.looking import known_environments

    with contextlib.suppress(InstarError, OSError):
        return known_environments()
    return []


def instances(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Offer what runs in the environment that was typed before."""
    found = [one.id for ledger, state in _environment(context) for one in ledger.instances(state.id)]
    return _beginning(found, typed)


def releases(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Offer the releases of the environment that was typed before, the newest first."""
    found = [str(one.number) for ledger, state in _environment(context) for one in ledger.releases(state.id)]
    return _beginning(sorted(found, key=int, reverse=True), typed)


def environments_and_instances(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    found = [one.id for ledger in _ledger() for one in ledger.instances()]
    return [*environments(context, parameter, typed), *_beginning(found, typed)]


def _beginning(found: Iterable[str], typed: str) -> list[str]:
    return [one for one in dict.fromkeys(found) if one.startswith(typed)]


def _file(context: click.Context) -> Path:
    from instar.cli.options import DEFAULT_FILE

    given: Any = context.params.get("file")
    return Path(given or DEFAULT_FILE)


def _declared(file: Path) -> list[str]:
    from instar.cli.options import load_definition

    with contextlib.suppress(InstarError, OSError):
        return list(load_definition(file).definition.environments)
    return []


def _ledger() -> Iterator[Ledger]:
    """Yield the ledger where there is one that can be read as it is: none gets a newer schema by a key."""
    from instar.cli.options import any_workspace
    from instar.ledger.sqlite import is_behind

    _give_up_after(_PATIENCE_S)
    with contextlib.suppress(InstarError, OSError):
        workspace = any_workspace()
        if workspace.has_ledger and workspace.look_at_ledger() and not is_behind(workspace.state.ledger):
            yield workspace.ledger


def _give_up_after(seconds: float) -> None:
    """End this process, if a shell has begun it for this alone, rather than let somebody wait for a ledger that is away
    or locked: a thread does it, since libraries wait in ways that no signal ends."""
    if "_INSTAR_COMPLETE" in os.environ:
        timer = threading.Timer(seconds, os._exit, (0,))
        timer.daemon = True
        timer.start()


def _environment(context: click.Context) -> Iterator[tuple[Ledger, EnvironmentState]]:
    from instar.cli.options import service_beside
    from instar.operations.environments import find_environment

    # after an option whose value is what is typed, click has not read what came before
    word, file = str(context.params.get("environment") or next(iter(context.args), "")), _file(context)
    for ledger in _ledger():
        with contextlib.suppress(InstarError, OSError):
            yield ledger, find_environment(ledger, word, service_beside(word, file))
