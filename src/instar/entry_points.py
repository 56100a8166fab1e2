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

from instar.errors import ProviderMissing

GROUP: Final = "instar.providers"
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\s*=\s*([\w.]+:[\w.]+)")


def provider_names() -> tuple[str, ...]:
    """Return the names of all providers that are installed here, sorted."""
    return tuple(sorted(_declared(tuple(sys.path))))


def find_provider(name: str) -> Any | None:
    """Return what the entry point of a provider names (a ``providers.package.ProviderPackage``); None: there is none.

    Raises ProviderMissing when it cannot be had, or several packages say that they are it.
    """
    found = _declared(tuple(sys.path)).get(name)
    if found is None:
        return None
    if len(found) > 1:
        listed = ", ".join(f"{file.parent.name} ({target})" for target, file in found.items())
        raise ProviderMissing(
            f"cannot use provider '{name}': several packages have one of that name: {listed}",
            hint="uninstall all but one of them, from the virtual environment that Instar is in",
        )
    ((target, _),) = found.items()
    module, _, attribute = target.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # whatever a package of somebody else's does when it is imported
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProviderMissing(
            f"cannot use provider '{name}', which '{target}' is to be: {cause:.300}",
            hint="mend that package, or uninstall it from the virtual environment that Instar is in",
        ) from error


@functools.cache
def _declared(path: Sequence[str]) -> Mapping[str, Mapping[str, Path]]:
    """Return of each name what is declared for it, and in which file, as it comes on the path: more than one where
    packages differ about it. One and the same that is found twice is one.

    What is installed later is found by the next process, as with imports.
    """
    found: dict[str, dict[str, Path]] = {}
    for folder in dict.fromkeys(path):
        for file in _files(Path(folder or ".")):
            for name, target in _entries(_text(file)):
                found.setdefault(name, {}).setdefault(target, file)
    return found


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info")))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if (file := folder / name / "entry_points.txt").is_file():
            yield file


def _text(file: Path) -> str:
    """Return what is declared; nothing where whoever asks may not read it."""
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _entries(text: str) -> Iterator[tuple[str, str]]:
    if GROUP not in text:
        return
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and (match := _LINE.fullmatch(line)):
            yield match[1], match[2]
