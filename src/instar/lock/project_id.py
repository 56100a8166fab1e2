"""The id of its project in a lock, for who needs no more of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from instar.definition.author_files import read_author_file

SIZE_LIMIT_BYTES = 16 << 20
FORM = r"[0-9a-f]{32}"


def read_project_id(path: Path) -> str | None:
    """Return the id in the lock at ``path``; None where there is no lock, or none that says it."""
    try:
        data = json.loads(read_author_file(path.parent, path.name, SIZE_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, str) and re.fullmatch(FORM, found) else None
