"""What is known while the instructions of a stage are read, and what a definition says of a variable in them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar.adopt.draft import Draft, Origin
from instar.adopt.instructions import words
from instar.adopt.stages import OtherStages


class StageReading:
    """What is known while the instructions of a stage are read, one after the other."""

    def __init__(self, draft: Draft, folder: Path, arguments: Mapping[str, str], others: OtherStages) -> None:
        self.draft = draft
        self.others = others
        self.folder = folder
        self.variables = dict(arguments)
        self.arguments = set(arguments)  # of these: those that only a build has, and no process
        self.workdir = "/"
        self.entrypoint: tuple[Sequence[str], Origin] | None = None
        self.cmd: tuple[Sequence[str], Origin] | None = None
        self.user: tuple[str, Origin] | None = None

    def path(self, text: str) -> str:
        """Return a path in the image, seen from the folder that the instruction works in."""
        return posixpath.normpath(posixpath.join(self.workdir, text))


def split(text: str) -> Sequence[str]:
    """Return the words of an instruction, by spaces alone where a quotation does not end."""
    try:
        return words(text)
    except ValueError:
        return text.split()
