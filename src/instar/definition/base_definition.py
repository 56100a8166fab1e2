"""The definition that another one stands on: ``base: {image: ../base/instar.yaml}``.

A definition comes from a colleague, and root reads for it what it names. So what it stands on has to lie in a folder
of whoever has the definition's own: with that, nobody gets at more than they have already. Where there is no such
folder, or it is somebody else's, the message is the same.
"""

from __future__ import annotations

import os
from pathlib import Path

from instar.definition.load import Loaded, load
from instar.definition.parts import ImagePart, parts_of
from instar.errors import DefinitionError, DefinitionUnreadable, Problem
from instar.model.base import find_definition


def load_base(part: ImagePart, path: str, above: tuple[Loaded, ...]) -> Loaded:
    """Read the definition at ``path`` that ``part`` stands on; ``above`` are those that stand on ``part``'s.

    Raises DefinitionError: where there is none, what is wrong in it, where they stand on one another in a circle.
    """
    folder = part.loaded.folder
    target = Path(os.path.normpath(folder.resolve() / path))
    real = _own_folder(target.parent, folder)
    if real is None:
        cause = f"cannot use '{path}': its folder is not there, or is not of the owner of '{folder}'"
        raise _wrong(part, cause, hint="what a definition stands on lies in a folder of the same owner")
    try:
        found = load(_shown(part.loaded, path, real / target.name))
    except DefinitionUnreadable as error:
        raise _wrong(
            part, error.message, hint="'image' names the file of a definition, from this one's folder"
        ) from error
    _require_new(part, found, (*above, part.loaded))
    return found


def require_bases(loaded: Loaded, above: tuple[Loaded, ...] = ()) -> None:
    """Read every definition that ``loaded`` stands on, and those that these stand on. Raises DefinitionError."""
    for part in parts_of(loaded):
        path = find_definition(part.made.base)
        if path is not None:
            require_bases(load_base(part, path, above), (*above, loaded))


def _require_new(part: ImagePart, found: Loaded, above: tuple[Loaded, ...]) -> None:
    if _identity(found) in map(_identity, above):
        circle = " on ".join(f"'{one.file}'" for one in (*above, found))
        raise _wrong(part, f"definitions stand on one another in a circle: {circle}")
    name = found.definition.name
    same = next((one for one in above if one.definition.name == name), None)
    if same is not None:
        cause = f"'{found.file}' has the name '{name}', as '{same.file}' has, which stands on it"
        raise _wrong(part, cause, hint="give one of them another name: what is baked is kept by it")


def _wrong(part: ImagePart, cause: str, *, hint: str | None = None) -> DefinitionError:
    line, column = part.loaded.places.find(*part.path, "base", "image")
    return DefinitionError([Problem(file=part.loaded.file, line=line, column=column, message=cause)], hint=hint)


def _identity(loaded: Loaded) -> Path:
    return loaded.folder.resolve() / Path(loaded.file).name


def _own_folder(folder: Path, of: Path) -> Path | None:
    """Return where a folder really is, None where it is none of the owner of another."""
    try:
        real = folder.resolve(strict=True)
        return real if real.is_dir() and real.stat().st_uid == of.stat().st_uid else None
    except (OSError, RuntimeError):
        return None


def _shown(loaded: Loaded, path: str, real: Path) -> Path:
    """Return the path as messages name it: from where the definition is named from, if that leads there."""
    near = Path(os.path.normpath(Path(loaded.file).parent / path))
    return near if near.absolute().parent.resolve() == real.parent else real
