"""Which definitions below a folder stand on one: on it, or on another that does.

Every YAML file there is looked at for ``base: {image: …}``, and no further: what else is wrong in it is said when it is
baked. No link is followed, and folders whose names begin with a dot, and ``node_modules``, are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from instar.definition.author_files import read_author_file
from instar.definition.problems import Problems
from instar.definition.source import SIZE_LIMIT_BYTES, Mapping, Scalar, read
from instar.errors import DefinitionUnreadable
from instar.frozen import dataclass

_SUFFIXES: Final = (".yaml", ".yml")
_DEEPEST: Final = 100  # Python's own walk ends at some hundred folders
_LOOKED_AT: Final = 20_000  # files, of any kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A definition that stands ``on`` others: ``real`` is where its file is, as theirs."""

    file: Path
    real: Path
    on: frozenset[Path]


def standing_on(base: Path, folder: Path) -> tuple[Standing, ...]:
    """Return the definitions below ``folder`` that stand on ``base``, those that do so themselves first.

    Raises DefinitionUnreadable where there are too many files to look at.
    """
    below = {file: frozenset(_bases_of(file)) for file in _files(folder)}
    found, known = list[Standing](), {_real(base)}
    while more := sorted(file for file, bases in below.items() if bases & known and _real(file) not in known):
        found += (Standing(file=file, real=_real(file), on=below[file]) for file in more)
        known.update(map(_real, more))
    return tuple(found)


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for above, folders, names in os.walk(folder):
        is_deep = len(Path(above).parts) - len(folder.parts) >= _DEEPEST
        folders[:] = sorted(one for one in folders if not is_deep and not one.startswith(".") and one != "node_modules")
        count += len(names)
        if count > _LOOKED_AT:
            hint = "ask in the folder that has the definitions"
            raise DefinitionUnreadable(f"cannot look for definitions in '{folder}': it is too large", hint=hint)
        yield from (Path(above, name) for name in sorted(names) if name.endswith(_SUFFIXES))


def _bases_of(file: Path) -> Iterator[Path]:
    """Yield the definitions that a file says it stands on: its image, and the stages of its build."""
    try:
        text = read_author_file(file.parent, file.name, SIZE_LIMIT_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return
    if "image" not in text or "base" not in text:
        return
    root = read(text, Problems(str(file)))
    build = _inner(root, "build")
    stages = build.entries.values() if isinstance(build, Mapping) else ()
    for part in (_inner(root, "image"), *stages):
        path = _inner(_inner(part, "base"), "image")
        if isinstance(path, Scalar):
            yield _real(file.parent / path.text)


def _inner(node: object, key: str) -> object:
    return node.entries.get(key) if isinstance(node, Mapping) else None


def _real(file: Path) -> Path:
    return Path(os.path.normpath(file.parent.resolve() / file.name))
