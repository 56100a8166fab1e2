"""The rules between the keys of an image and of the stages that it is built in."""

from __future__ import annotations

from typing import Final

from instar.definition import origin_rules, stage_rules
from instar.definition.input_forms import GIT
from instar.definition.problems import Problems, nearest
from instar.definition.section import Reading, blame, readings
from instar.definition.shapes import FAILED
from instar.model.base import SCRATCH, is_debian
from instar.model.slim import AT_THE_END

NOT_IN_IMAGE: Final = ("/proc", "/sys", "/dev", "/run")
_ON_NOTHING: Final = (
    "'{key}' is for a base of Debian's packages, such as 'debian:bookworm', and 'scratch' has nothing that could "
    "install them; bring files by 'fetch' or 'files'"
)


def fetch(reading: Reading, problems: Problems) -> None:
    _refuse_runtime_folder(reading, problems)
    unpack, url = reading.get("unpack"), reading.get("url")
    if isinstance(url, str) and url.startswith(GIT) and reading.get("revision") is None:
        advice = "the commit: git ls-remote URL NAME prints that of a branch or a tag"
        problems.add(reading.node.mark, f"{reading.path}: 'revision' is missing; expected {advice}")
    if isinstance(reading.get("revision"), str):
        if isinstance(url, str) and not url.startswith(GIT):
            blame(reading, "revision", problems, "it is of a git repository, whose address begins with 'git+https://'")
        for name in ("unpack", "mode"):
            if name in reading.values:
                blame(reading, name, problems, "the tree of a revision is unpacked as it is; remove it")
        return
    if reading.get("to") == "/" and unpack is False:
        blame(reading, "to", problems, "expected the path of a file, found '/'")
    if unpack is True and reading.get("mode") is not None:
        blame(reading, "mode", problems, "it is for a file that is put, but this one is unpacked; remove it")


def files(reading: Reading, problems: Problems) -> None:
    _refuse_runtime_folder(reading, problems)
    stage_rules.files(reading, problems)


def npm(reading: Reading, problems: Problems) -> None:
    _refuse_runtime_folder(reading, problems)
    if reading.get("to") == "/":
        blame(reading, "to", problems, "expected the path of a folder of its own, found '/'")
    origin_rules.indexes(reading, problems)


def other_base(reading: Reading, problems: Problems) -> None:
    kinds = [name for name in ("oci", "image") if name in reading.values]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        problems.add(reading.node.mark, f"{reading.path}: expected one of 'oci' and 'image', found {found}")


def image(reading: Reading, problems: Problems) -> None:
    _check_base(reading, problems)
    origin_rules.packages(reading, problems)
    _check_npm(reading, problems)
    _check_owners(reading, problems)


def _check_npm(reading: Reading, problems: Problems) -> None:
    taken: dict[str, Reading] = {}
    for one in readings(reading.get("npm")):
        to = one.get("to")
        if to in taken:
            blame(one, "to", problems, f"'{to}' is that of another, first in line {taken[to].line_of('to')}")
        elif to is not FAILED:
            taken[to] = one


def _check_owners(reading: Reading, problems: Problems) -> None:
    """Files belong to root, to the image's user or to numbers: no other name is sure to exist."""
    user = reading.get("user")
    user = user.get("name") if isinstance(user, Reading) else getattr(user, "name", FAILED)
    if user is FAILED:
        return
    for one in readings(reading.get("files")):
        owner = one.get("owner")
        if owner is not FAILED and owner not in ("root", user) and ":" not in owner:
            near = nearest(owner, ("root", user))
            advice = f"did you mean '{near}'?" if near else "another owner is written as numbers, such as '33:33'"
            blame(one, "owner", problems, f"expected 'root' or the image's user '{user}', found '{owner}'; {advice}")


def stage(reading: Reading, problems: Problems) -> None:
    _check_base(reading, problems)
    _check_npm(reading, problems)
    origin_rules.packages(reading, problems)
    stage_rules.stage(reading, problems)


def _check_base(reading: Reading, problems: Problems) -> None:
    base = reading.get("base")
    if base is FAILED or (isinstance(base, str) and is_debian(base)):
        return
    if base == SCRATCH:
        for key in ("packages", "python", "suites", "archives", "strip"):
            if key in reading.values and reading.get(key) is not FAILED:
                blame(reading, key, problems, _ON_NOTHING.format(key=key))
    else:
        _check_over(reading, problems)


def _check_over(reading: Reading, problems: Problems) -> None:
    """Over an image, what there is to choose from, and to leave out, is about packages that come with this part."""
    packages, python, archives = (reading.get(key) for key in ("packages", "python", "archives"))
    if FAILED in (packages, python, archives) or packages or python or archives:
        return
    if reading.get("suites") not in (FAILED, ()):
        blame(reading, "suites", problems, "nothing comes from them: there are neither 'packages' nor 'python'")
    strip = reading.get("strip")
    found = [kind for kind in strip if kind not in AT_THE_END] if strip is not FAILED else []
    if found:
        advice = "what the base brought stays; there are neither 'packages' nor 'python' to take it out of"
        blame(reading, "strip", problems, f"'{found[0]}': {advice}")


def _refuse_runtime_folder(reading: Reading, problems: Problems) -> None:
    path = reading.get("to")
    for folder in NOT_IN_IMAGE:
        if path is not FAILED and is_within(path, folder):
            blame(reading, "to", problems, f"'{folder}' is not a part of the image: an instance has its own")


def is_within(path: str, folder: str) -> bool:
    """Tell whether ``path`` is ``folder`` or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
