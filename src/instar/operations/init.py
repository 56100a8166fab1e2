"""``instar init``: a first definition, which deploys as it is, or is made of what somebody had before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import DefinitionError, Refused

if TYPE_CHECKING:
    from instar.adopt import CarriedOver


_DEFINITION = "instar.yaml"
_SCHEMA = "instar.schema.json"  # which the starter's first line names, for editors


def suggest_name(folder: Path) -> str:
    """Return a valid service name made from the folder's, or "service" when nothing of it can be used."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-0123456789")
    return name[:31].rstrip("-") or "service"


def init(folder: Path, name: str) -> tuple[Path, ...]:
    """Write the starter's files into ``folder``; return them. Raises Refused when one of them is there already."""
    from instar.definition import starter
    from instar.definition.published import json_schema

    files = {**starter(name), _SCHEMA: json.dumps(json_schema(), indent=1) + "\n"}
    _require_none(folder, files)
    folder.mkdir(parents=True, exist_ok=True)
    for relative, text in files.items():
        _write(folder, relative, text)
    return tuple(folder / relative for relative in files)


def init_from(source: Path, folder: Path, name: str, service: str | None = None) -> CarriedOver:
    """Write a definition made of a Dockerfile, a compose file (of its ``service``) or a Procfile into ``folder``.

    Raises Refused: there is one, or nothing can be made of ``source``.
    """
    from instar.adopt import CarriedOver, carry_over
    from instar.definition import parse

    _require_none(folder, [_DEFINITION])
    draft = carry_over(source, folder, name, service)
    path, text, problems = folder / _DEFINITION, draft.text(), list[str]()
    try:
        parse(text, str(path))
    except DefinitionError as error:
        problems = [str(problem) for problem in error.problems]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, _DEFINITION, text)
    return CarriedOver(path=path, left=draft.left, problems=problems)


def _require_none(folder: Path, names: Iterable[str]) -> None:
    from instar.definition.author_files import has_author_file

    for name in names:
        if has_author_file(folder, name):
            raise _there(name)


def _write(folder: Path, name: str, text: str) -> None:
    from instar.definition.author_files import write_author_file

    try:
        write_author_file(folder, name, text.encode())
    except FileExistsError as error:
        raise _there(name) from error
    except OSError as error:
        raise Refused(f"cannot write '{folder / name}': {error.strerror}") from error


def _there(relative: str) -> Refused:
    return Refused(f"cannot write '{relative}': it exists", hint="start in an empty folder, or remove it")
