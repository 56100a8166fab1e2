"""``instar init``: a first definition that validates and deploys as it is."""

from __future__ import annotations

import re
from pathlib import Path

from instar.errors import Refused


def suggest_name(folder: Path) -> str:
    """Return a valid service name made from the folder's, or "service" when nothing of it can be used."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-0123456789")
    return name[:31].rstrip("-") or "service"


def start(folder: Path, name: str) -> tuple[Path, ...]:
    """Write the starter's files into ``folder``; return them. Raises Refused when one of them is there already."""
    from instar.definition import starter

    files = {folder / relative: text for relative, text in starter(name).items()}
    there = [path for path in files if path.exists()]
    if there:
        raise Refused(
            f"cannot write '{there[0].relative_to(folder)}': it exists", hint="start in an empty folder, or remove it"
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tuple(files)
