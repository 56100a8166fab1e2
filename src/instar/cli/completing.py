"""What a shell offers for a word that is half typed: environments, releases and instances, as far as they can be read.

Nothing is made or changed, and nothing is said: what can't be read is offered to nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from instar.errors import InstarError
from instar.model.printable import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from instar.ledger import Ledger
    from instar.model.release import EnvironmentState, Instance, Release

_PATIENCE_S = 2.0
_LONGEST: Final = 120  # of what is said of a command


class Group(click.Group):
    """Commands that are offered with the whole sentence about each."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        for item in found:
            command = None if item.value.startswith("-") else self.get_command(ctx, item.value)
            item.help = item.help if command is None else command.get_short_help_str(limit=_LONGEST)
        return found


def environments(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer those of the definition beside, and those that there are, as SERVICE/ENV where no definition names one."""
    from instar.cli.options import service_beside

    file = file_of(context)
    service, states = None, [state for ledger in _ledger() for state in ledger.readable_environments()[0]]
    with contextlib.suppress(InstarError, OSError):
        service = service_beside("", file)
    known = {str(one.id): "nothing runs" if one.active is None else f"runs release {one.active}" for one in states}
    own = {name.partition("/")[2]: about for name, about in known.items() if name.partition("/")[0] == service}
    declared = dict.fromkeys(_declared(file), "not deployed yet" if states else "")
    of_agent = {name: "" for name in _of_an_agent() if name not in known}
    return _beginning({**declared, **own, **known, **of_agent}, typed)


def _of_an_agent() -> list[str]:
    """Return those that root's agent tells of, where this user may only look."""
    from instar.cli.looking import known_environments

    with contextlib.suppress(InstarError, OSError):
        return known_environments()
    return []


def instances(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer what runs in the environment that was typed before."""
    found = [one for ledger, state in _environment(context) for one in ledger.instances(state.id)]
    return _beginning({one.id: _about(one) for one in found}, typed)


def releases(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the releases of the environment that was typed before, the newest first."""
    return _releases(context, typed, back=False)


def releases_back(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer those of them that one may want to go back to: they ran well, and have not got the traffic."""
    return _releases(context, typed, back=True)


def roles(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the roles of the active release, where there are several."""
    found = [role for release in _active(context) if release.role for role in release.services]
    return _beginning(dict.fromkeys(found, ""), typed)


def entries(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer what the schedule of the active release has."""
    schedules = (release.configuration.schedule for release in _active(context))
    return _beginning({name: " ".join(one.command) for each in schedules for name, one in each.items()}, typed)


def environments_and_instances(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = {one.id: _about(one) for ledger in _ledger() for one in ledger.instances()}
    return [*environments(context, parameter, typed), *_beginning(found, typed)]


def _releases(context: click.Context, typed: str, *, back: bool) -> list[CompletionItem]:
    found = dict[str, str]()
    for ledger, state in _environment(context):
        for one in sorted(ledger.releases(state.id), key=lambda one: one.number, reverse=True):
            how = "active" if one.number == state.active else "ran well" if one.ran_well else "never ran well"
            if not back or how == "ran well":
                found[str(one.number)] = f"{how}, {one.created_at:%Y-%m-%d %H:%M} UTC"
    return _beginning(found, typed)


def _active(context: click.Context) -> Iterator[Release]:
    """Yield the active release of the environment that was typed before, where it has one that can be read."""
    for ledger, state in _environment(context):
        with contextlib.suppress(InstarError):
            if state.active is not None:
                yield ledger.get_release(state.id, state.active)


def _about(instance: Instance) -> str:
    role = f", role {instance.role}" if instance.role else ""
    return f"release {instance.release}{role}"


def _beginning(found: Mapping[str, str], typed: str) -> list[CompletionItem]:
    """Return what begins so, each with what is said of it."""
    from click.shell_completion import CompletionItem  # only a shell that asks pays for it

    shown = {one: printable(" ".join(about.split())) for one, about in found.items() if one.startswith(typed)}
    return [CompletionItem(one, help=about or None) for one, about in shown.items()]


def file_of(context: click.Context) -> Path:
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
    word, file = str(context.params.get("environment") or next(iter(context.args), "")), file_of(context)
    for ledger in _ledger():
        with contextlib.suppress(InstarError, OSError):
            yield ledger, find_environment(ledger, word, service_beside(word, file))
