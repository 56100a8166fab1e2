"""A Procfile → a draft of a definition: its ``web`` process, or the first one where there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from instar.adopt.dockerfile import name_requirements
from instar.adopt.draft import Draft, DraftValue, File, Origin
from instar.adopt.npm import name_npm

_LINE: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*:\s*(.+?)\s*\Z")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_BY_FILE: Final = {
    "package.json": ("nodejs",),
    "Gemfile": ("ruby", "bundler"),
    "composer.json": ("php-cli",),
    "pom.xml": ("default-jre-headless",),
}
_HOME: Final = "/srv/app"
_PORT: Final = 8080


def carry_procfile(text: str, folder: Path, name: str, file: str) -> Draft:
    """Return the draft. Raises ValueError for a text that names no process."""
    found = dict[str, tuple[str, Origin]]()
    for number, line in enumerate(text.splitlines(), 1):
        if (match := _LINE.match(line)) and not line.lstrip().startswith("#"):
            found.setdefault(match[1], (match[2], Origin(where=f"{file}:{number}", text=line.strip())))
    if not found:
        raise ValueError("there is no process in it")
    chosen = "web" if "web" in found else next(iter(found))
    command, origin = found.pop(chosen)
    draft = Draft(name=name, base=DraftValue(yaml="debian:bookworm", origin=Origin(where="")))
    draft.command = (["sh", "-c", _line(command)], origin)
    draft.workdir = DraftValue(yaml=_HOME, origin=origin)
    draft.files.append(File(source=".", to=_HOME, exclude=(file, "instar.*"), origin=Origin(where="")))
    if chosen == "web":
        draft.port = (_PORT, origin)
        draft.env["PORT"] = DraftValue(yaml=f'"{_PORT}"', origin=Origin(where=f"{file} has $PORT"))
    if (folder / "requirements.txt").is_file():
        draft.requirements["-r requirements.txt"] = Origin(where="requirements.txt")
        name_requirements(draft, folder)
    has_npm_lock = (folder / "package-lock.json").is_file()
    for told, packages in _BY_FILE.items():
        if told == "package.json" and has_npm_lock and (folder / told).is_file():
            name_npm(draft, ".", _HOME, Origin(where="package-lock.json"), dev=False)
        elif (folder / told).is_file():
            draft.packages |= dict.fromkeys(packages, Origin(where=told))
            draft.leave(Origin(where=told), "what it names is not installed: install it before, and copy it")
    for other, (_, where) in found.items():
        what = (
            "a rollout's task: service.before"
            if other == "release"
            else "a process of its own: a definition of its own"
        )
        draft.leave(where, f"'{other}' is {what}")
    return draft


def _line(command: str) -> str:
    """Return the line of the shell in whose place the process is, where it is one process."""
    if re.search(r"[;&|]", command):
        return command
    return f"exec env {command}" if _ASSIGNMENT.match(command) else f"exec {command}"
