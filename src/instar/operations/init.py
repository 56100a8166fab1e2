"""``instar init``: a first definition that validates and deploys as it is."""

from __future__ import annotations

import re
from pathlib import Path

from instar.errors import Refused


def suggest_name(folder: Path) -> str:
    """Return a valid service name made from the folder's, or "service" when nothing of it can be used."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-0123456789")
    return name[:31].rstrip("-") or "service"


def init(folder: Path, name: str) -> tuple[Path, ...]:
    """Write the starter's files into ``folder``; return them. Raises Refused when one of them is there already."""
    from instar.definition import starter
    from instar.definition.author_files import has_author_file, write_author_file

    files = starter(name)
    for relative in files:
        if has_author_file(folder, relative):
            raise _there(relative)
    folder.mkdir(parents=True, exist_ok=True)
    for relative, text in files.items():
        try:
            write_author_file(folder, relative, text.encode())
        except FileExistsError as error:
            raise _there(relative) from error
        except OSError as error:
            raise Refused(f"cannot write '{folder / relative}': {error.strerror}") from error
    return tuple(folder / relative for relative in files)


def _there(relative: str) -> Refused:
    return Refused(f"cannot write '{relative}': it exists", hint="start in an empty folder, or remove it")
