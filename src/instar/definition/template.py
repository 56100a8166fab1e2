"""What ``instar init`` writes: a small service that deploys as it is, and shows what else there is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from instar.definition import forms
from instar.errors import UsageError

_FOLDER: Final = Path(__file__).parent / "starter"
_FILES: Final = {"instar.yaml": "instar.yaml", "site/index.html": "index.html.txt"}  # written as → kept as


def starter(name: str) -> dict[str, str]:
    """Return the files of a new service by their path in its folder. Raises UsageError for a name that is none."""
    try:
        forms.name(name)
    except forms.Misfit:
        hint = "a name has a-z, 0-9 and '-', begins with a letter, and has at most 31 characters"
        raise UsageError(f"cannot name a service '{name}': not a name", hint=hint) from None
    texts = {path: (_FOLDER / kept).read_text("utf-8") for path, kept in _FILES.items()}
    if not forms.reads_as_text(name):
        texts["instar.yaml"] = texts["instar.yaml"].replace("name: @NAME@", f'name: "{name}"', 1)
    return {path: text.replace("@NAME@", name) for path, text in texts.items()}
