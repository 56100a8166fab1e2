"""Workspaces of npm's: folders of the author's with a package.json each, which one package-lock.json names as links."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from instar.ecosystems import author
from instar.ecosystems.author import AuthorText

_MODULES: Final = "node_modules"
_FOLDER: Final = re.compile(r"[A-Za-z0-9@_+-][A-Za-z0-9@._+-]*(?:/[A-Za-z0-9@_+-][A-Za-z0-9@._+-]*)*\Z")


def workspaces_of(lock: AuthorText, manifest: AuthorText, entries: Mapping[str, Any], make: str) -> tuple[str, ...]:
    """Return the folders of the workspaces that a lock file has, of a project that has some; ``make``: how it is made
    anew. Raises DefinitionError."""
    wanted, locked = manifest.json().get("workspaces"), entries[""].get("workspaces")
    if wanted != locked:
        manifest.refuse("its workspaces are others than the lock file was made for", '"workspaces"', hint=make)
    if not wanted:
        return ()
    found = set[str]()
    for path, entry in entries.items():
        folder = entry.get("resolved")
        if not path.startswith(f"{_MODULES}/") or entry.get("link") is not True:
            continue
        if not isinstance(folder, str) or not _FOLDER.match(folder) or _MODULES in folder.split("/"):
            lock.refuse("its entry is a folder that is not below this one", f'"{path}"', hint=make)
        if folder not in entries:
            lock.refuse(f"it has no entry for the workspace '{folder}'", f'"{path}"', hint=make)
        found.add(folder)
    return tuple(sorted(found))


def own_modules(folder: Path, source: str) -> tuple[Path, ...]:
    """Return where npm puts modules on the author's machine, besides those of the project itself."""
    if not all(author.there(folder, source, name) for name in ("package.json", "package-lock.json")):
        return ()
    made = author.read(folder, source, "package.json", missing="npm init makes one")
    if not made.json().get("workspaces"):
        return ()
    lock = author.read(folder, source, "package-lock.json", missing="npm install --package-lock-only makes it")
    entries = lock.json().get("packages", {})
    whole = {path: entry for path, entry in entries.items() if isinstance(entry, dict)} if entries else {}
    known = workspaces_of(lock, made, {**whole, "": made.json()}, "")
    return tuple(folder / source / one / _MODULES for one in known)


def inside(path: str, workspaces: tuple[str, ...]) -> str:
    """Return the path of an entry below its own workspace, or below the project."""
    own = next((one for one in workspaces if path.startswith(f"{one}/{_MODULES}/")), None)
    return path if own is None else path[len(own) + 1 :]
