"""The file beside the definition that says what ``files`` never copies: ``.instarignore``, or ``.dockerignore`` where
the definition says so. One that is there and not read is spoken of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake.files.excluded import DockerPatterns, docker_ignored, ignored
from instar.bake.files.sources import DOCKER_IGNORE_FILE, IGNORE_FILE, Copy, UnusableFile
from instar.bake.stages.takes import Take
from instar.definition.author_files import has_author_file, read_author_file

if TYPE_CHECKING:
    from instar.model.image_spec import Files
    from instar.model.patterns import Patterns

_LARGEST_BYTES = 64 << 10
_NAMED = 3


def read_ignore_file(folder: Path, name: str) -> Patterns | DockerPatterns | None:
    """Return what the ignore file ``name`` leaves out, None where there is nothing of it. Raises UnusableFile."""
    from instar.model.patterns import NoPattern

    try:
        if name == DOCKER_IGNORE_FILE:
            return docker_ignored(_text(folder, name))
        return ignored(_text(folder, name)) if has_author_file(folder, name) else None
    except (OSError, NoPattern) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusableFile(f"'{name}': {cause}") from error


def unread(folder: Path, name: str, specs: Sequence[Files], copies: Sequence[Copy | Take]) -> Iterator[str]:
    """Say what is copied though a ``.dockerignore`` names it that nobody reads, where it is the only ignore file."""
    if name != IGNORE_FILE or has_author_file(folder, name) or not has_author_file(folder, DOCKER_IGNORE_FILE):
        return
    from instar.model.patterns import NoPattern

    try:
        patterns = docker_ignored(_text(folder, DOCKER_IGNORE_FILE))
    except (OSError, NoPattern):
        return
    named = list(_named(patterns, specs, copies)) if patterns else []
    if named:
        shown = ", ".join(f"'{path}'" for path in named[:_NAMED])
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        yield (
            f"{shown}{more} copied, though '{DOCKER_IGNORE_FILE}' names it: that is read where the definition says"
            f" 'ignore: {DOCKER_IGNORE_FILE}' in its image"
        )


def _named(patterns: DockerPatterns, specs: Sequence[Files], copies: Sequence[Copy | Take]) -> Iterator[str]:
    for spec, copy in zip(specs, copies, strict=True):
        if isinstance(copy, Take):
            continue
        above = "" if spec.source.rstrip("/") == "." else spec.source.rstrip("/")
        for found in copy.found:
            path = f"{above}/{found.path}".strip("/")
            if found.kind != "directory" and patterns.leave_out(path, is_folder=False):
                yield path


def _text(folder: Path, name: str) -> str:
    return read_author_file(folder, name, _LARGEST_BYTES).decode(errors="surrogateescape")
