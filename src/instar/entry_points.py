"""Providers by name, as the distributions that are installed beside this one declare them: an entry point each.

    [project.entry-points."instar.providers"]
    local = "instar.providers.local.package:LOCAL"

What ``importlib.metadata`` would find is found here in a tenth of the time: importing it takes as long as a rollback's
own work. Source: https://packaging.python.org/specifications/entry-points/
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from instar.errors import UsageError

GROUP: Final = "instar.providers"
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\s*=\s*([\w.]+):([\w.]+)")


def provider_names() -> tuple[str, ...]:
    """Return the names of all providers that are installed here, sorted."""
    return tuple(sorted(_declared(tuple(sys.path))))


def find_provider(name: str) -> Any | None:
    """Return what the entry point of a provider names (a ``providers.package.ProviderPackage``); None: there is none.

    Raises UsageError when it cannot be had.
    """
    found = _declared(tuple(sys.path)).get(name)
    if found is None:
        return None
    module, attribute = found
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot use provider '{name}', which '{module}:{attribute}' is to be: {error}") from error


@functools.cache
def _declared(path: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return module and attribute of each by name. Who comes first on the path has the name, as with imports.

    What is installed later is found by the next process, as with imports.
    """
    found: dict[str, tuple[str, str]] = {}
    for folder in dict.fromkeys(path):
        for file in _files(Path(folder or ".")):
            for name, target in _entries(file.read_text("utf-8", "replace")):
                found.setdefault(name, target)
    return found


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info")))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if (file := folder / name / "entry_points.txt").is_file():
            yield file


def _entries(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    if GROUP not in text:
        return
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and (match := _LINE.fullmatch(line)):
            yield match[1], (match[2], match[3])
