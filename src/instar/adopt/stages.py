"""The stages of a Dockerfile: those that the image begins with are a part of it, and of the others those become stages
of the definition's build out of which something is copied, where all that they do can be carried over."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from instar.adopt.bases import is_known
from instar.adopt.draft import Draft, Origin
from instar.adopt.instructions import Instruction, instructions, substituted
from instar.model.image_spec import STAGES

_INSTALLED_BY_PIP: Final = re.compile(
    r"venv|site-packages|/\.local\b|/install\b|/wheels\b|/usr/local\Z|/usr/local/(bin|lib)\b"
)
_MOST: Final = 50  # stages: each is read with those that it begins with
_OF_FILES: Final = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")


@dataclass(frozen=True, kw_only=True)
class DockerStage:
    """``name`` is its number where it has none; ``begins_with`` an image, or a stage before."""

    number: int
    name: str
    begins_with: str
    first: Instruction
    rest: Sequence[Instruction]

    def origin(self, file: str) -> Origin:
        return Origin(where=f"{file}:{self.first.line}", text=f"FROM {self.first.text}")


Make = Callable[[Sequence[DockerStage], "OtherStages", str], Draft]


def stages_of(
    text: str, argument: Callable[[Instruction, Mapping[str, str]], Mapping[str, str]]
) -> tuple[Sequence[DockerStage], Mapping[str, str]]:
    """Return the stages, and what ``argument`` makes of the ARGs before them. Raises ValueError: there are none."""
    arguments = dict[str, str]()
    found: list[tuple[Instruction, Sequence[str], list[Instruction]]] = []
    for one in instructions(text):
        if one.name == "FROM":
            found.append((one, substituted(one.text, arguments).split(), []))
        elif found:
            found[-1][2].append(one)
        elif one.name == "ARG":
            arguments.update(argument(one, arguments))
    if not found:
        raise ValueError("there is no FROM in it")
    if len(found) > _MOST:
        raise ValueError(f"there are {len(found):,} stages in it; the most that are read are {_MOST}")
    return [
        DockerStage(
            number=number,
            name=words[2] if len(words) > 2 else str(number),
            begins_with=words[0] if words else "",
            first=first,
            rest=rest,
        )
        for number, (first, words, rest) in enumerate(found)
    ], arguments


def chain_of(stages: Sequence[DockerStage], last: DockerStage) -> list[DockerStage]:
    """Return a stage after those that it begins with, which stand before it."""
    chain = [last]
    while (below := _find(stages, chain[0].begins_with, chain[0].number)) is not None:
        chain.insert(0, below)
    return chain


class OtherStages:
    """The stages out of which the image copies, and these in turn. ``make`` reads one, with those that it begins with.

    One whose first image is not known here is none of the definition's, nor one that needs the network.
    """

    def __init__(self, stages: Sequence[DockerStage], draft: Draft, make: Make) -> None:
        self._stages, self._draft, self._make = stages, draft, make
        self._made: dict[int, tuple[str, Draft] | str] = {}

    def find(self, name: str) -> tuple[str, Draft] | str:
        """Return a stage's name in the definition and what it does, or why there is none."""
        stage = _find(self._stages, name, len(self._stages))
        if stage is None:
            return f"it comes out of '{name}'"
        if stage.number not in self._made:
            self._made[stage.number] = f"it comes out of '{name}'"  # one that copies out of itself
            self._made[stage.number] = self._carry(stage)
        return self._made[stage.number]

    def left(self, chain: Sequence[DockerStage]) -> Sequence[tuple[DockerStage, str]]:
        """Return the stages of which nothing is in the definition, with what to do about them."""
        found = list[tuple[DockerStage, str]]()
        for stage in self._stages:
            made = self._made.get(stage.number)
            if stage not in chain and not isinstance(made, tuple):
                what = f"stage '{stage.name}' (of {stage.begins_with})"
                found.append((stage, f"{what}: do what it does before the bake, and copy what comes of it"))
        return found

    def drop_those_of_pip(self) -> None:
        """Take the stages away that were there for pip alone: the image has ``python`` of its own."""
        used = {file.source for one in (self._draft, *self._draft.stages.values()) for file in one.files}
        for name, stage in list(self._draft.stages.items()):
            if stage.python is not None and f"{STAGES}{name}" not in used:
                del self._draft.stages[name]

    def _carry(self, stage: DockerStage) -> tuple[str, Draft] | str:
        chain = chain_of(self._stages, stage)
        why = f"it comes out of '{stage.name}'"
        if not is_known(chain[0].begins_with):
            return why
        name = self._free_name(stage.name)
        made = self._make(chain, self, name)
        if made.unmade:
            return f"{why}, where {' and '.join(sorted(set(made.unmade)))} needs the network"
        self._draft.stages[name] = made
        for origin, what in made.left:
            self._draft.leave(origin, what)
        return name, made

    def _free_name(self, text: str) -> str:
        """Return a name as a stage has it, that no other has."""
        plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:24]
        name = base = plain if re.match("[a-z]", plain) else f"stage-{plain}".rstrip("-")
        number = 2
        while name in self._draft.stages:
            name, number = f"{base}-{number}", number + 1
        return name


def is_installed_by_pip(path: str) -> bool:
    """Tell whether what is at a path of a stage is there for pip: ``image.python`` makes it anew."""
    return _INSTALLED_BY_PIP.search(path) is not None


def target_of(source: str, to: str, *, into: bool, is_file: bool = False) -> str:
    """Return where something is put, of which nobody knows for sure whether it is a file or a folder. ``into``: what
    is a file is put in ``to``."""
    name = posixpath.basename(source)
    is_file = is_file or posixpath.basename(to) in ("", "bin", "sbin") or _OF_FILES.search(name) is not None
    return posixpath.join(to, name) if into and name != posixpath.basename(to) and is_file else to


def is_vendored(folder: Path, program: str) -> bool:
    """Tell whether what a build tool needs is in the folder, so that it wants no network."""
    if (folder / "vendor").is_dir():
        return True
    return program == "go" and (folder / "go.mod").is_file() and not (folder / "go.sum").exists()


def _find(stages: Sequence[DockerStage], name: str, before: int) -> DockerStage | None:
    """Return the stage of that name, or number, that stands before one; the last of several."""
    named = [one for one in stages[:before] if one.name.lower() == name.lower()]
    return named[-1] if named else next((one for one in stages[:before] if str(one.number) == name), None)
