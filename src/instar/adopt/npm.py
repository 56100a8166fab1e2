"""What npm installs by its lock file → ``image.npm``, where the lock file is beside the definition."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from instar.adopt.draft import Draft, DraftValue, Origin, scalar

_VERBS: Final = frozenset({"ci", "install", "i", "clean-install"})
_FILES: Final = ("package.json", "package-lock.json")
_WITHOUT_DEV: Final = frozenset({"--omit=dev", "--production", "--only=production", "--only=prod", "--prod"})


def carry_npm(draft: Draft, folder: Path, words: Sequence[str], workdir: str, origin: Origin) -> bool:
    """Tell whether ``words``, a call of npm in ``workdir``, installs what a lock file names, and put that in."""
    operands = [word for word in words[1:] if not word.startswith("-")]
    if len(operands) != 1 or operands[0] not in _VERBS or workdir == "/":
        return False
    source = _source(draft, folder, workdir)
    if source is None:
        return False
    production = _WITHOUT_DEV & set(words) or getattr(draft.env.get("NODE_ENV"), "yaml", "") == "production"
    name_npm(draft, source, workdir, origin, dev=not production)
    own = {posixpath.join(workdir, name) for name in _FILES}
    draft.files = [file for file in draft.files if file.to not in own]
    return True


def name_npm(draft: Draft, source: str, to: str, origin: Origin, *, dev: bool) -> None:
    """Have an image or a stage install what is in a folder of the author's; npm finds the rest there then."""
    more = ", dev: true" if dev else ""
    draft.npm.append(DraftValue(yaml=f"{{from: {scalar(source)}, to: {scalar(to)}{more}}}", origin=origin))
    for package in ("nodejs", "npm"):
        draft.packages.setdefault(package, origin)
    draft.offline |= {"npm"}


def _source(draft: Draft, folder: Path, workdir: str) -> str | None:
    """Return the author's folder whose package files are at ``workdir``, None where none with a lock file is."""
    for file in reversed(draft.files):
        if file.path is not None:
            continue
        if file.to == posixpath.join(workdir, _FILES[0]):
            source = posixpath.dirname(file.source) or "."
        elif posixpath.normpath(file.to) == workdir and (folder / file.source).is_dir():
            source = file.source
        else:
            continue
        if all((folder / source / name).is_file() for name in _FILES):
            return source
    return None
