"""The ``.env`` files beside a definition that configuration of environments comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from instar.definition import forms
from instar.definition.author_files import open_author_file
from instar.definition.env_file import LARGEST_BYTES, Entry, read_env_file
from instar.definition.problems import Problems
from instar.definition.source import Scalar, mark_of

_KEY: Final = "config_file"


def read_config_file(named: Scalar, folder: Path, file: str, problems: Problems) -> Mapping[str, Entry]:
    """Return what the file says that ``named`` names. One that can't be read is a problem of the definition, ``file``;
    what is wrong in it raises DefinitionError, with its own lines and columns."""
    try:
        name = forms.author_path(named.text)
    except forms.Misfit:
        return {}  # which is told where the definition is read
    try:
        found = open_author_file(folder, name, LARGEST_BYTES)
    except FileNotFoundError:
        problems.add(named.mark, f"{_KEY}: there is no '{name}' beside the definition")
        return {}
    except (OSError, ValueError) as error:
        cause = (getattr(error, "strerror", None) or str(error)).lower()
        problems.add(named.mark, f"{_KEY}: '{name}' cannot be read: {cause}")
        return {}
    shown = str(Path(file).parent / name)
    with found.discreet(shown):
        wrong = Problems(shown)
        entries = read_env_file(_text(found.data, wrong), wrong)
        if wrong:
            raise wrong.error(hint="each line is NAME=VALUE, or a comment that begins with '#'")
    return entries


def _text(data: bytes, problems: Problems) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        mark = mark_of(data[: error.start].decode(), error.start)
        problems.add(mark, f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}")
        raise problems.error() from error
