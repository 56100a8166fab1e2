"""Options that several commands share, and how a definition and an environment are found."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from instar.cli import completing
from instar.cli.screen import Screen
from instar.cli.signals import CANCELLATION
from instar.errors import EnvironmentNotFound, InstarError, NotFound
from instar.workspace import MachineWorkspace

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.model.release import EnvironmentId, EnvironmentState

F = TypeVar("F", bound=Callable[..., Any])
LARGEST_NUMBER = 2**31 - 1  # what every ledger can hold
DEFAULT_FILE = "instar.yaml"


class Number(click.ParamType[int]):
    """A number of a release, a snapshot, or of how many: counted from 1 (or 0, ``or_none``)."""

    name = "number"

    def __init__(self, *, or_none: bool = False) -> None:
        self.first = 0 if or_none else 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number = int(text) if text.isdecimal() and len(text) <= len(str(LARGEST_NUMBER)) else -1
        if not self.first <= number <= LARGEST_NUMBER:
            self.fail(f"expected a number from {self.first} to {LARGEST_NUMBER}, found '{text}'", param, ctx)
        return number


def file_option(command: F) -> F:
    return click.option(
        "-f", "--file", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True, help="The definition."
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")(command)


def take_over_option(command: F) -> F:
    return click.option(
        "--take-over",
        is_flag=True,
        help="End the process that is working on the environment, and continue where it stopped; in a shared ledger "
        "also where another machine holds it, or says that it is this one.",
    )(command)


def detach_option(command: F) -> F:
    return click.option(
        "--detach", is_flag=True, help="Return once the rollout is recorded; the agent carries it out."
    )(command)


def adopt_name_option(command: F) -> F:
    return click.option(
        "--adopt-name",
        is_flag=True,
        help="Take the environment over where another project of this name has it. It is recorded.",
    )(command)


def take_names_option(command: F) -> F:
    return click.option(
        "--take-names",
        is_flag=True,
        help="Take the names of 'listen' that other environments have, once they can be served here. It is recorded.",
    )(command)


def message_option(command: F) -> F:
    return click.option(
        "-m", "--message", metavar="TEXT", help="Why: a line that status and history show beside the new release."
    )(command)


def plan_option(command: F) -> F:
    return click.option(
        "--plan", "plan_only", is_flag=True, help="Show what would happen and change nothing; exit 2 if anything."
    )(command)


def environment_argument(command: F) -> F:
    return click.argument("environment", metavar="ENV", shell_complete=completing.environments)(command)


def open_workspace(*, of_machine: bool = False) -> MachineWorkspace:
    """Return the workspace of this process's environment, with progress on stderr.

    ``of_machine``: the command is about what the machine itself keeps, not about what a ledger says. Raises NotRoot
    where that is root's, and the caller has nothing of their own.
    """
    from instar.cli.ownership import require_not_roots

    workspace = any_workspace()
    require_not_roots(workspace, of_machine=of_machine)
    return workspace


def any_workspace() -> MachineWorkspace:
    """Return the same for a command that also makes sense where all there is is root's: it asks root's agent, makes
    nothing, or needs no more than a folder of the caller's own."""
    return MachineWorkspace(os.environ, Screen(), cancellation=CANCELLATION)


def workspace_for(loaded: Loaded, environment: str) -> MachineWorkspace:
    """Return the workspace in which ``environment`` of a definition is, or is to be: of a provider that needs no root
    it is the caller's own, and their first one makes it. Raises NotRoot, ProviderMissing; UsageError for none such."""
    from instar.operations.declared import get_declared
    from instar.operations.privilege import may_use

    workspace = any_workspace()
    if may_use(workspace, get_declared(loaded, environment).provider):
        return workspace
    return open_workspace()


def load_definition(file: Path) -> Loaded:
    from instar.definition import load

    return load(file)


def declared_registry(file: Path, words: str) -> str:
    """Return the ``registry`` of the definition at ``file``. Raises UsageError, with the ``words`` to say instead."""
    from instar.definition.author_files import has_author_file

    found = load_definition(file).definition.registry if has_author_file(file.parent, file.name) else None
    if found is None:
        raise click.UsageError(f"write which repository: {words}, or 'registry: HOST/PATH' in {file}")
    return found


def find_environment(workspace: MachineWorkspace, word: str, file: Path, *, anywhere: bool = False) -> EnvironmentState:
    """Return the environment that ``word`` names (ENV or SERVICE/ENV), with the help of a definition if one is here.

    Raises Refused where its instances are on another machine, unless it may be ``anywhere``.
    """
    from instar.operations.environments import find_environment as find
    from instar.operations.locks import require_here

    with saying_whose(workspace), saying_if_declared(word, file):
        found = find(workspace.ledger, word, service_beside(word, file))
    if not anywhere:
        require_here(workspace, found.id)
    return found


@contextlib.contextmanager
def saying_whose(workspace: MachineWorkspace) -> Iterator[None]:
    """Say of what is not found, to a user without root, that root may have it."""
    try:
        yield
    except NotFound as error:
        if workspace.other_state is not None:
            from instar.cli.ownership import readers_may

            hint = "; ".join(filter(None, (workspace.other_state, readers_may(workspace))))
            raise NotFound(error.message, hint=hint) from error
        raise


@contextlib.contextmanager
def saying_if_declared(word: str, file: Path) -> Iterator[None]:
    """Say of an environment that is not found, and that the definition has, how it is made: none that only resembles
    it was meant."""
    try:
        yield
    except EnvironmentNotFound as error:
        if not _has(file, word):
            raise
        given = "" if str(file) == DEFAULT_FILE else f" -f {shlex.quote(str(file))}"
        hint = f"{file} has it, and it is not deployed: instar deploy {word.rpartition('/')[2]}{given}"
        raise EnvironmentNotFound(error.message, hint=hint) from error


def _has(file: Path, word: str) -> bool:
    """Tell whether a definition that can be read has the environment that ``word`` names."""
    service, _, name = word.rpartition("/")
    with contextlib.suppress(InstarError, OSError):
        found = load_definition(file).definition
        return name in found.environments and service in ("", found.name)
    return False


def find_own_environment(
    workspace: MachineWorkspace, word: str, file: Path, *, anywhere: bool = False
) -> EnvironmentState:
    """Return the environment that ``word`` names, to do something to it.

    Raises Refused when ENV, without SERVICE/, would be another project's than the definition's here.
    """
    found = find_environment(workspace, word, file, anywhere=anywhere)
    if "/" not in word:
        from instar.operations.project import require_own_beside

        require_own_beside(found, file)
    return found


def environment_named(word: str) -> EnvironmentId:
    """Return the environment that SERVICE/ENV names, whether there is one or not. Raises UsageError."""
    from instar.definition.forms import NAME
    from instar.model.release import EnvironmentId

    service, _, environment = word.partition("/")
    if not all(re.fullmatch(NAME, name) for name in (service, environment)):
        raise click.UsageError(f"'{word}' names no environment: write SERVICE/ENV, such as guestbook/dev")
    return EnvironmentId(service=service, name=environment)


def service_beside(word: str, file: Path) -> str | None:
    """Return the service that ``word`` is an environment of, as the definition has it.

    SERVICE/ENV says so itself: then no definition is read, and none that is broken gets in the way.
    """
    return None if "/" in word else service_name(file)


def service_name(file: Path) -> str | None:
    """Return the name in the definition at ``file``; None when there is no file (and it wasn't asked for by name)."""
    from instar.definition.author_files import has_author_file

    if str(file) == DEFAULT_FILE and not has_author_file(file.parent, file.name):
        return None
    from instar.definition import load_name

    return load_name(file)
