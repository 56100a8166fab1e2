"""Options that several commands share, and how a definition and an environment are found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from instar.cli.screen import Screen
from instar.workspace import Workspace

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.model.release import EnvironmentState

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_FILE = "instar.yaml"
_NAME = re.compile(r"^name:[ \t]*[\"']?([a-z][a-z0-9-]*)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)


def file_option(command: F) -> F:
    return click.option(
        "-f", "--file", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True, help="The definition."
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")(command)


def take_over_option(command: F) -> F:
    return click.option(
        "--take-over", is_flag=True, help="End the process that works on the environment, and go on where it stopped."
    )(command)


def detach_option(command: F) -> F:
    return click.option(
        "--detach", is_flag=True, help="Return once the rollout is written down; the agent carries it on."
    )(command)


def environment_argument(command: F) -> F:
    return click.argument("environment", metavar="ENV")(command)


def workspace() -> Workspace:
    """Return the workspace of this process's environment, with progress on stderr."""
    return Workspace(os.environ, Screen())


def load_definition(file: Path) -> Loaded:
    from instar.definition import load

    return load(file)


def find_environment(parts: Workspace, word: str, file: Path) -> EnvironmentState:
    """Return the environment that ``word`` names (ENV or SERVICE/ENV), with the help of a definition if one is here."""
    from instar.operations.places import find_environment as find

    return find(parts.ledger, word, service_name(file))


def service_name(file: Path) -> str | None:
    """Return the name in the definition at ``file``; None when there is no file (and it wasn't asked for by name).

    Reads one line where it can, since a rollback shouldn't wait for a whole definition.
    """
    if not file.exists() and str(file) == DEFAULT_FILE:
        return None
    try:
        found = _NAME.search(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    return found.group(1) if found else load_definition(file).definition.name
