"""Can a command be executed in a root file system? Found out by looking, before anything is started.

What starts a command (the init inside) can only say "no such file" for a missing program, a missing interpreter and a
library that isn't there alike; here each has a cause of its own. Links are followed as they would be inside.
Source: execve(2), elf(5).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from instar.frozen import dataclass

_MAX_LINKS = 40  # as in the kernel. Source: path_resolution(7)
_MAX_SCRIPTS = 4
_HEAD_BYTES = 4096
_MOST_FOLDERS = 20_000  # that are looked through for a program that is not where it was looked for
_PT_INTERP = 3
_OTHER_MACHINES = {3: "32-bit x86", 40: "32-bit Arm", 62: "x86-64", 183: "64-bit Arm", 243: "RISC-V"}


class Unrunnable(Exception):
    """The command cannot be executed; its text is the cause, for people. Never leaves the provider."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Where and as whom a command is to run. ``uid`` and ``gid`` are those that the files' owners show as."""

    root: Path
    search: str  # the value of PATH inside
    workdir: str
    uid: int
    gid: int


def check(command: Sequence[str], execution: Execution) -> str:
    """Return where inside the root the command's program is. Raises Unrunnable."""
    if not command or not command[0]:
        raise Unrunnable("the command is empty")
    program = _find(command[0], execution)
    _check_file(program, execution, _MAX_SCRIPTS)
    return program


def real_path(root: Path, path: str) -> Path | None:
    """Return where in ``root`` the file at ``path`` is, all links followed inside; None when there is none."""
    try:
        return _walk(root, path)
    except (OSError, ValueError):  # a file's own '#!' line, or an ELF header, may name a path with a NUL
        return None


def is_static(file: Path) -> bool:
    """Tell whether ``file`` is a program that needs no dynamic linker, and so nothing besides itself."""
    try:
        with file.open("rb") as content:
            head = content.read(_HEAD_BYTES)
        return head.startswith(b"\x7fELF") and head[4] == 2 and _interpreter(file, head) is None
    except (struct.error, ValueError, OverflowError, OSError, IndexError):
        return False


def _find(name: str, execution: Execution) -> str:
    if "/" in name:
        program = str(PurePosixPath(execution.workdir, name))
        if real_path(execution.root, program) is None:
            raise Unrunnable(f"command '{name}' is not in the image")
        return program
    folders = [folder or "." for folder in execution.search.split(":")]
    programs = [str(PurePosixPath(execution.workdir, folder, name)) for folder in folders]
    found = [program for program in programs if (file := real_path(execution.root, program)) and file.is_file()]
    if not found:
        elsewhere = _elsewhere(name, execution.root)
        advice = f"; '{elsewhere}' is: say that, or its folder in PATH (image.env)" if elsewhere else ""
        raise Unrunnable(f"command '{name}' is not in the image (looked in {', '.join(folders)}){advice}")
    return next((program for program in found if _forbids(program, execution) is None), found[0])


def _elsewhere(name: str, root: Path) -> str | None:
    """Return where a program of that name lies outside of PATH, as PostgreSQL's do; None where there is none."""
    for count, (folder, _, files) in enumerate(os.walk(root)):
        if count == _MOST_FOLDERS:
            return None
        path = Path(folder, name)
        if name in files and stat.S_ISREG(mode := path.lstat().st_mode) and mode & stat.S_IXOTH:
            inside = str(PurePosixPath("/", path.relative_to(root)))
            if inside.isprintable():
                return inside
    return None


def _check_file(program: str, execution: Execution, scripts_left: int) -> None:
    file = real_path(execution.root, program)
    if file is None:
        raise Unrunnable(f"command '{program}' is not in the image")
    if not file.is_file():
        raise Unrunnable(f"command '{program}' is not a file")
    if cause := _forbids(program, execution):
        raise Unrunnable(f"command '{program}' may not be executed by the image's user ({cause})")
    with file.open("rb") as content:
        head = content.read(_HEAD_BYTES)
    if head.startswith(b"#!"):
        _check_script(program, head, execution, scripts_left)
    elif head.startswith(b"\x7fELF"):
        _check_elf(program, file, head, execution)
    elif not head:
        raise Unrunnable(f"command '{program}' is an empty file")
    else:
        raise Unrunnable(f"command '{program}' is neither a program nor a script with a '#!' line")


def _check_script(program: str, head: bytes, execution: Execution, scripts_left: int) -> None:
    words = os.fsdecode(head.split(b"\n", 1)[0][2:].strip()).split()
    if not words:
        raise Unrunnable(f"command '{program}' has an empty '#!' line")
    if real_path(execution.root, str(PurePosixPath(execution.workdir, words[0]))) is None:
        raise Unrunnable(f"command '{program}' begins with '#!{words[0]}', and that is not in the image")
    if not scripts_left:
        raise Unrunnable(f"command '{program}' is a script of a script of a script")
    _check_file(words[0], execution, scripts_left - 1)
    if PurePosixPath(words[0]).name == "env" and len(words) == 2:
        _find(words[1], execution)


def _check_elf(program: str, file: Path, head: bytes, execution: Execution) -> None:
    with Path("/proc/self/exe").open("rb") as own:
        ours = own.read(20)
    if (head[4:6], head[18:20]) != (ours[4:6], ours[18:20]):
        machine = int.from_bytes(head[18:20], "little")
        other = _OTHER_MACHINES.get(machine, f"machine {machine}")
        raise Unrunnable(f"command '{program}' was built for another architecture ({other})")
    try:
        interpreter = _interpreter(file, head)
    except (struct.error, ValueError, OverflowError, OSError):
        raise Unrunnable(f"command '{program}' is a damaged program: its headers lead nowhere") from None
    if interpreter and real_path(execution.root, interpreter) is None:
        raise Unrunnable(f"command '{program}' needs '{interpreter}', and that is not in the image")


def _interpreter(file: Path, head: bytes) -> str | None:
    """Return the dynamic linker that a 64-bit ELF program asks for; None for a static one."""
    if head[4] != 2:
        return None
    order = "<" if head[5] == 1 else ">"
    (table,), (size, count) = struct.unpack_from(f"{order}Q", head, 32), struct.unpack_from(f"{order}HH", head, 54)
    with file.open("rb") as content:
        for number in range(count):
            content.seek(table + number * size)
            kind, _, at, _, _, length = struct.unpack(f"{order}IIQQQQ", content.read(40))
            if kind == _PT_INTERP:
                content.seek(at)
                return os.fsdecode(content.read(min(length, _HEAD_BYTES)).rstrip(b"\0"))
    return None


def _walk(root: Path, path: str, links: int = _MAX_LINKS) -> Path:
    """Follow ``path`` inside ``root``. Raises OSError where there is nothing."""
    todo = list(reversed(PurePosixPath("/", path).parts[1:]))
    reached: list[str] = []
    while todo:
        part = todo.pop()
        if part == "..":
            reached = reached[:-1]
            continue
        current = root.joinpath(*reached, part)
        if stat.S_ISLNK(current.lstat().st_mode):
            links -= 1
            if links < 0:
                raise OSError("too many links")
            target = PurePosixPath(current.readlink())
            reached = [] if target.is_absolute() else reached
            todo.extend(reversed([step for step in target.parts if step != "/"]))
        else:
            reached.append(part)
    return root.joinpath(*reached)


def _forbids(program: str, execution: Execution) -> str | None:
    """Say which mode keeps the user from executing the file; None when it may."""
    file = real_path(execution.root, program)
    if file is None:
        return "it is not there"
    folders = [folder for folder in file.parents if folder.is_relative_to(execution.root)]
    for path in (*reversed(folders), file):
        found = path.stat()
        if not _permits(found, execution):
            inside = PurePosixPath("/", path.relative_to(execution.root))
            return f"the mode of '{inside}' is {stat.S_IMODE(found.st_mode):o}"
    return None


def _permits(found: os.stat_result, execution: Execution) -> bool:
    if found.st_uid == execution.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == execution.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
