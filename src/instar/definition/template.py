"""What ``instar init`` writes: a small service that deploys as it is, and shows what else there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from instar.definition import forms

_FOLDER: Final = Path(__file__).parent / "starter"
_FILES: Final = {"instar.yaml": "instar.yaml", "site/index.html": "index.html.txt"}  # written as → kept as


def starter(name: str) -> dict[str, str]:
    """Return the files of a new service by their path in its folder. Raises ValueError for a name that is none."""
    try:
        forms.name(name)
    except forms.Misfit:
        raise ValueError(f"not a name of a service: {name!r}") from None
    texts = {path: (_FOLDER / kept).read_text("utf-8") for path, kept in _FILES.items()}
    if not forms.reads_as_text(name):
        texts["instar.yaml"] = texts["instar.yaml"].replace("name: @NAME@", f'name: "{name}"', 1)
    return {path: text.replace("@NAME@", name) for path, text in texts.items()}


def name_from(folder: str) -> str:
    """Return the name that a service in a folder called ``folder`` gets: "My Site_2" → "my-site-2"."""
    words = re.sub(r"[^a-z0-9]+", "-", folder.lower()).lstrip("-0123456789")
    return words[:31].strip("-") or "app"
