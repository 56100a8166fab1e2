"""``instar validate``: all that can be known to be wrong without a network, a lock or root."""

from __future__ import annotations

from collections.abc import Iterator

from instar.definition import Loaded
from instar.errors import DefinitionError, Problem
from instar.operations.lock import existing_lock, lock_path


def validate(loaded: Loaded) -> bool:
    """Check the files that a definition names, and that its lock fits; return whether it has one.

    Raises DefinitionError, LockError.
    """
    problems = tuple(_missing(loaded))
    if problems:
        raise DefinitionError(problems)
    locked = lock_path(loaded).exists()
    if locked:
        existing_lock(loaded)
    return locked


def _missing(loaded: Loaded) -> Iterator[Problem]:
    """Yield a problem for each file that a definition names and that isn't there."""
    image = loaded.definition.image
    named: list[tuple[str, tuple[str | int, ...]]] = [
        (files.source, ("image", "files", position, "from")) for position, files in enumerate(image.files)
    ]
    named += [(image.python, ("image", "python"))] if image.python else []
    for environment in loaded.definition.environments.values():
        where = ("environments", environment.name, "secrets")
        named += [(file, (*where, name, "file")) for name, file in environment.secrets.items()]
    for source, path in named:
        if not (loaded.folder / source).exists():
            line, column = loaded.places.find(*path)
            yield Problem(file=loaded.file, line=line, column=column, message=f"there is no '{source}' beside it")
