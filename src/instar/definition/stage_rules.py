"""What the stages of a build may take from one another, and the image from them, and who may own what is copied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from instar.definition.problems import Problems, listed, nearest
from instar.definition.section import Reading, blame, readings
from instar.definition.shapes import FAILED
from instar.model.base import SCRATCH
from instar.model.image_spec import STAGES
from instar.model.slim import AT_THE_END


def stage(reading: Reading, problems: Problems) -> None:
    """A stage has no user of its own: its files belong to root or to numbers. There is something in it."""
    if reading.get("base") == SCRATCH and not any(reading.get(key) for key in ("files", "fetch")):
        blame(reading, "base", problems, "there is nothing in a stage on 'scratch' without 'files' or 'fetch'")
    for one in readings(reading.get("files")):
        owner = one.get("owner")
        if owner is not FAILED and owner != "root" and ":" not in owner:
            advice = "did you mean 'root'?" if nearest(owner, ["root"]) else "a stage has no user of its own"
            blame(one, "owner", problems, f"expected 'root' or numbers such as '33:33', found '{owner}'; {advice}")


def files(reading: Reading, problems: Problems) -> None:
    """A path is in a stage, which 'from' names."""
    source = reading.get("from")
    if reading.get("path") in (None, FAILED) or source is FAILED or source.startswith(STAGES):
        return
    advice = f"of your own files it is a part of 'from'; a stage is named as 'from: {STAGES}NAME'"
    blame(reading, "path", problems, f"'{source}' is no stage; {advice}")


def definition(reading: Reading, problems: Problems) -> None:
    """Every stage takes from those above it alone, and the image from any."""
    stages, image = reading.get("build"), reading.get("image")
    if stages is FAILED:
        return
    _check_platforms(stages.values(), image, problems)
    names = list(stages)
    for one in stages.values():
        strip = one.get("strip") if isinstance(one, Reading) else FAILED
        found = [kind for kind in AT_THE_END if isinstance(strip, list | tuple) and kind in strip]
        if found:
            blame(one, "strip", problems, f"'{found[0]}' is for the image; of a stage, take the files that you want")
    for number, part in enumerate((*stages.values(), image)):
        if isinstance(part, Reading) and isinstance(python := part.get("python"), Reading):
            _check_builders(python, names[:number], problems)
        for one in readings(part.get("files")) if isinstance(part, Reading) else ():
            source, path = one.get("from"), one.get("path")
            if FAILED not in (source, path) and source.startswith(STAGES):
                _check_source(one, source.removeprefix(STAGES), names, number, problems)


def _check_builders(python: Reading, above: list[str], problems: Problems) -> None:
    """Wheels are built in stages that stand ``above``, each in one."""
    builders, taken = python.get("from_source"), dict[str, str]()
    for stage, projects in () if builders is FAILED else builders.items():
        if stage not in above:
            near = nearest(stage, above)
            others = f"expected {listed(above)}" if above else "no stage stands above"
            advice = f"did you mean '{near}'?" if near else others
            blame(python, "from_source", problems, f"there is no stage '{stage}' above; {advice}")
        for project in () if projects is FAILED else projects:
            if taken.setdefault(project, stage) != stage:
                blame(python, "from_source", problems, f"'{project}' is built in '{taken[project]}' and in '{stage}'")


def _check_platforms(stages: Iterable[Any], image: Any, problems: Problems) -> None:
    """What is only for one platform is for one that the image is for."""
    platforms: Any = image.get("platforms") if isinstance(image, Reading) else FAILED
    if platforms is FAILED or FAILED in platforms:
        return
    for part in (*stages, image):
        for key in ("files", "fetch") if isinstance(part, Reading) else ():
            for one in readings(part.get(key)):
                wanted = one.get("platform")
                if wanted not in (None, FAILED, *platforms):
                    known = f"expected {listed(platforms)}" if platforms else "say first which the image is for"
                    blame(one, "platform", problems, f"'{wanted}' is none of 'image.platforms'; {known}")


def _check_source(one: Reading, name: str, names: list[str], number: int, problems: Problems) -> None:
    """``number``: how many stages stand above the part that ``one`` belongs to."""
    if one.get("path") is None:
        if name in names:
            blame(one, "from", problems, f"'path' is missing: which file or folder of stage '{name}' is it?")
    elif name not in names:
        above = [f"{STAGES}{known}" for known in names[:number]]
        near = nearest(f"{STAGES}{name}", above)
        others = f"expected {listed(above)}" if above else "no stage stands above"
        blame(one, "from", problems, f"there is no stage '{name}'; {f'did you mean {near!r}?' if near else others}")
    elif names.index(name) == number:
        blame(one, "from", problems, "a stage takes nothing out of itself: what its own steps made is there already")
    elif names.index(name) > number:
        advice = f"a stage takes from those above it: move '{name}' up"
        blame(one, "from", problems, f"stage '{name}' comes after '{names[number]}'; {advice}")
