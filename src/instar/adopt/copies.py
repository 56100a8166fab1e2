"""COPY and ADD → ``image.files``, of the author's files and of what another stage has."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from instar.adopt.draft import Draft, DraftValue, File, Origin, scalar
from instar.adopt.instructions import LONGEST_LINE, Instruction, substituted
from instar.adopt.reading import StageReading, split
from instar.adopt.stages import is_installed_by_pip, target_of
from instar.definition import forms
from instar.definition.author_files import read_author_file
from instar.model.image_spec import STAGES

_LARGEST_BYTES: Final = 1 << 16
_PATTERNS: Final = 200
_HERE: Final = re.compile(r"<<-?(?P<quote>[\"']?)(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P=quote)\s+(?P<to>\S+)")
_ACCOUNTS: Final = ("/etc/passwd", "/etc/group", "/etc/shadow")
_CERTIFICATES: Final = "/etc/ssl/certs"
_ZONES: Final = "/usr/share/zoneinfo"
_ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def copy(reading: StageReading, one: Instruction, origin: Origin) -> None:
    draft = reading.draft
    words = [substituted(word, reading.variables) for word in one.words or split(one.text)]
    if one.document is not None:
        _write(reading, one, origin)
        return
    if len(words) < 2:
        draft.leave(origin, "it says not what is copied where")
        return
    *sources, to = words
    into = to.endswith("/") or to in (".", "..") or len(sources) > 1
    if "from" in one.flags:
        for source in sources:
            _copy_out(reading, one, source, reading.path(to), into, origin)
        return
    found = [path for source in sources for path in _matching(reading.folder, source)]
    there = [path for path in found if not _is_pattern(path)] or found  # a pattern may stand for nothing
    for path in there:
        _copy_one(reading, one, path, reading.path(to), into, origin)


def _write(reading: StageReading, one: Instruction, origin: Origin) -> None:
    """Have a line write what stands in the Dockerfile itself."""
    here = _HERE.fullmatch(one.text.strip())
    if here is None or here["quote"] is None or one.document is None:
        reading.draft.leave(origin, "write it into a file beside the definition, and copy that")
        return
    quoted, to = bool(here["quote"]), substituted(here["to"], reading.variables)
    text = one.document if quoted else substituted(one.document, reading.variables)
    path = shlex.quote(reading.path(to) if not to.endswith("/") else posixpath.join(reading.path(to), here["name"]))
    lines = " ".join(map(shlex.quote, text.splitlines()))
    mode = one.flags.get("chmod", "")
    line = f"mkdir -p {posixpath.dirname(path) or '/'} && printf '%s\\n' {lines} > {path}"
    line += f" && chmod {mode} {path}" if re.fullmatch(r"0?[0-7]{3}", mode) else ""
    if len(line) > LONGEST_LINE:
        reading.draft.leave(origin, "write it into a file beside the definition, and copy that")
    else:
        reading.draft.run.append(DraftValue(yaml=scalar(line), origin=origin))


def _copy_out(reading: StageReading, one: Instruction, source: str, to: str, into: bool, origin: Origin) -> None:
    """Take something out of another stage, where that could be carried over."""
    draft, found = reading.draft, reading.others.find(substituted(one.flags["from"], reading.variables))
    if isinstance(found, str):
        draft.leave(origin, f"{found}: have it beside the definition, and copy it: {{from: …, to: {to}}}")
        return
    name, stage = found
    path = posixpath.normpath(posixpath.join("/", source))
    if stage.python is not None and is_installed_by_pip(path):
        draft.python = draft.python or stage.python
        draft.packages.setdefault("python3", stage.python.origin)
        return
    if path in _ACCOUNTS:
        draft.users |= stage.users  # whom a bake makes anew, with these numbers
        return
    if _is_pattern(path) or path == "/":
        draft.leave(origin, f"'{source}': name what is taken out of {STAGES}{name} one by one")
        return
    exclude = _of_debian(stage, path, origin)
    path = f"{path}/ca-certificates.crt" if path == _CERTIFICATES else path
    to = posixpath.join(to, posixpath.basename(path)) if path.startswith(_CERTIFICATES) and "." not in to else to
    target = target_of(path, to, into=into, is_file=_is_made_file(stage, path))
    draft.files.append(_file(one, f"{STAGES}{name}", target, origin, path=path, exclude=exclude))


def _of_debian(stage: Draft, path: str, origin: Origin) -> Sequence[str]:
    """Name the packages that bring what everybody takes out of any stage; return what is left out of it."""
    if path.startswith(_CERTIFICATES):
        stage.packages.setdefault("ca-certificates", origin)
    if path == _ZONES:
        stage.packages.setdefault("tzdata", origin)
        return ("/localtime",)  # a link to /etc
    return ()


def _is_made_file(stage: Draft, path: str) -> bool:
    """Tell whether a path is of a program that a line of the stage makes, by what such lines say."""
    name = re.escape(posixpath.basename(path))
    made = re.compile(rf"-o[ =]?(?:[^\s'\"]*/)?{name}(?![\w./-])")
    return "/release/" in path or any(made.search(line.yaml) for line in stage.run)


def _file(one: Instruction, source: str, to: str, origin: Origin, **more: Any) -> File:
    mode = one.flags.get("chmod")
    mode = mode if mode and re.fullmatch(r"0?[0-7]{3}", mode) else None
    return File(source=source, to=to, owner=one.flags.get("chown"), mode=mode, origin=origin, **more)


def _copy_one(reading: StageReading, one: Instruction, source: str, to: str, into: bool, origin: Origin) -> None:
    draft, folder = reading.draft, reading.folder
    if "://" in source or source.startswith("git@"):
        draft.leave(origin, "name it in image.fetch, with its sha256")
        return
    try:
        path = forms.author_path(source.lstrip("/"))
    except ValueError as error:
        draft.leave(origin, f"'{source}' cannot be copied: {error}")
        return
    is_folder = path == "." or (folder / path).is_dir()
    if not is_folder and not (folder / path).is_file():
        draft.leave(origin, f"there is no '{path}' here: when it is there, copy it")
        return
    if one.name == "ADD" and path.endswith(_ARCHIVES):
        draft.leave(origin, f"'{path}' was unpacked: copy the files that are in it")
        return
    target = posixpath.join(to, posixpath.basename(path)) if into and not is_folder else to
    if target == "/":
        draft.leave(origin, "name the folders one by one: nothing is copied over the whole image")
        return
    draft.files.append(_file(one, path, target, origin, exclude=_ignored(folder) if path == "." else ()))


def _matching(folder: Path, source: str) -> Sequence[str]:
    """Return what a pattern stands for in the folder, where two stars are one; any other path stands for itself."""
    if not _is_pattern(source) or ".." in source.split("/"):
        return [source]
    pattern = re.sub(r"\*+", "*", source.strip("/"))
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern)) or [source]


def _is_pattern(path: str) -> bool:
    return re.search(r"[*?\[]", path) is not None


def _ignored(folder: Path) -> Sequence[str]:
    """Return the patterns of .dockerignore that .gitignore would read in the same way."""
    try:
        lines = read_author_file(folder, ".dockerignore", _LARGEST_BYTES).decode().splitlines()[:_PATTERNS]
    except (OSError, ValueError):
        return ("Dockerfile", ".dockerignore")
    found = list[str]()
    for line in lines:
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            negated, pattern = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
            anchored = f"{negated}/{pattern.strip('/')}" if not pattern.startswith("**") else negated + pattern
            try:
                found.append(forms.exclude(anchored))
            except ValueError:
                continue
    return tuple(dict.fromkeys([*found, "Dockerfile", ".dockerignore"]))
