"""The step ``slim``: the image as one layer, without what its base has and the service does not need, or whole but for
the tools of packages and people.

Kept is whatever the author's own steps made, what packages brought besides documents and dpkg's notes, and of the base
what those need (closure.py), what the service's commands run, what packages that the definition names have there, and
a few files that every process may ask for. What the image knows of its packages is that which a scanner reads: the
status of those of which a file is left, and their licences.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.bake.slim import left_out
from instar.bake.slim.closure import Closure
from instar.bake.slim.tools import taken
from instar.bake.slim.trial import Tried, try_service
from instar.bake.subtree import copy_part
from instar.frozen import dataclass
from instar.model.sizes import size_text

_OF_BASES = frozenset({"base", "layer"})
_OF_PACKAGES = frozenset({"packages"})
# Of packages, what only people and package tools read.
_UNREAD = re.compile(
    r"usr/share/(doc|doc-base|info|man|lintian|gtk-doc|help|locale|i18n|bash-completion|bug|menu|pixmaps|applications)/.*"
    r"|usr/lib/locale/(?!C\.).*|var/lib/(dpkg|apt|ucf|systemd)/.*"
    r"|etc/(init\.d|rc[0-9S]\.d|cron\.[a-z]+|logrotate\.d|apt|dpkg|kernel|systemd)/.*"
    r"|(usr/)?lib/(systemd|udev|tmpfiles\.d|sysusers\.d)/.*"
)
# Of the base, what any process may ask for.
_ASKED_FOR = re.compile(
    r"[^/]+|etc/(passwd|group|shadow|gshadow|nsswitch\.conf|host\.conf|ld\.so\.c[a-z.]+(/.*)?|os-release|debian_version"
    r"|protocols|services|mime\.types|ssl(/.*)?)|usr/lib/os-release|var/(tmp|lib|cache|log)|usr/share/ca-certificates(/.*)?"
)
_INFO, _STATUS = "var/lib/dpkg/info", "var/lib/dpkg/status"
_MERGED = re.compile(r"(?:bin|lib|lib32|lib64|libx32|sbin)/")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlimImage:
    """What the definition says of it: its ``service``'s name, the ``commands`` that run in the image, each with the
    place that says so, of which the first is the service's; ``packages`` are those that it names, ``kinds`` the steps
    beneath, from the lowest up. ``without``: the image is whole but for these tools."""

    service: str
    commands: tuple[tuple[str, tuple[str, ...]], ...]
    workdir: str
    env: Mapping[str, str]
    port: int | None
    volumes: tuple[str, ...]
    keep: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    without: tuple[str, ...]
    kinds: tuple[str, ...]


def bake_slim(slim: SlimImage, room: Room) -> None:
    """Leave one tree in the place of all beneath. Raises StepFailed for what is not in the image, OSError."""
    root = room.root()
    closure = Closure(root, path=slim.env["PATH"])
    files = _files(root, room.layers(), slim.kinds)
    known = _packages(root)
    gone = set(taken(slim.without, files, known)) if slim.without else set[str]()
    for path, kind in files.items():
        if path not in gone if slim.without else _is_kept(path, kind):
            closure.add_file(path)
    _add_named(slim, closure, room)
    for package in sorted({name.partition("=")[0] for name in slim.packages}):
        for path in known.get(package, ()):
            if path in files and (path not in gone if slim.without else not _UNREAD.fullmatch(path)):
                closure.add_file(path)
    left = _left_packages(known, closure.kept & set(files), root)
    for package in left:
        licence = f"usr/share/doc/{package}/copyright"
        if licence in files:
            closure.add(licence)
    for name, by in sorted(closure.missing.items()):
        room.warn(f"'/{by}' needs {name}, which the image lacks")
    alone = room.alone()
    size_bytes = copy_part(root, [path for path in closure.kept if path in files], alone)
    if not slim.without or "apt" in slim.without:
        _write_status(root, alone, left, room.epoch)
    out = sorted(set(files) - closure.kept)
    _tell(slim, root, out, size_bytes, room)
    try_service(
        Tried(command=slim.commands[0][1], env=slim.env, workdir=slim.workdir, folders=slim.volumes, port=slim.port),
        room,
    )


def _files(root: Path, layers: Sequence[Path], kinds: Sequence[str]) -> dict[str, str]:
    """Return what the image holds: path → the kind of the topmost step that has it. ``layers``: topmost first."""
    found: dict[str, str] = {}
    for tree, kind in zip(layers, reversed(kinds), strict=True):
        for path in _walk(os.fspath(tree)):
            if path not in found and os.path.lexists(f"{root}/{path}"):
                found[path] = kind
    return found


def _walk(top: str) -> Iterator[str]:
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(f"{top}/{above}") as entries:
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    waiting.append(path)
                if not stat.S_ISCHR(mode):  # a whiteout
                    yield path


def _is_kept(path: str, kind: str) -> bool:
    if kind in _OF_BASES:
        return _ASKED_FOR.fullmatch(path) is not None
    return kind not in _OF_PACKAGES or _UNREAD.fullmatch(path) is None


def _add_named(slim: SlimImage, closure: Closure, room: Room) -> None:
    for place, command in slim.commands:
        if closure.add_command(command, slim.workdir) is None:
            hint = "a command that comes with a volume cannot be looked at: leave 'slim' out"
            raise room.failed(f"'{command[0]}' is not in the image, in no folder of PATH", hint=hint, place=place)
    for place, path in slim.keep:
        if closure.add(path) is None:
            raise room.failed(f"there is no '{path}' in the image, which 'slim.keep' names", place=place)


def _packages(root: Path) -> dict[str, list[str]]:
    """Return the files of each package that dpkg has noted, by the one name that /usr and its links give them."""
    found: dict[str, list[str]] = {}
    with Root(root, epoch=0) as inside:
        for name in inside.names(_INFO):
            if name.endswith(".list"):
                text = (inside.find(f"{_INFO}/{name}") or b"").decode("utf-8", "surrogateescape")
                paths = [_merged(line.strip("/")) for line in text.split("\n") if line.strip("/.")]
                found.setdefault(name.removesuffix(".list").partition(":")[0], []).extend(paths)
    return found


def _merged(path: str) -> str:
    return f"usr/{path}" if _MERGED.match(path) else path


def _left_packages(known: Mapping[str, Sequence[str]], kept: Collection[str], root: Path) -> list[str]:
    """Return the packages of which a file is left, sorted: links and folders say nothing."""
    there = {path for path in kept if stat.S_ISREG(os.lstat(f"{root}/{path}").st_mode)}
    there = {_merged(path) for path in there}
    return sorted(name for name, paths in known.items() if not there.isdisjoint(paths))


def _write_status(root: Path, alone: Path, left: Collection[str], epoch: int) -> None:
    """Write what dpkg knows of the packages that are left, for those who make bills of materials."""
    with Root(root, epoch=0) as inside:
        status = inside.find(_STATUS)
    if status is None or not left:
        return
    named = {f"Package: {name}".encode() for name in left}
    kept = [one for one in status.split(b"\n\n") if one.strip().split(b"\n", 1)[0] in named]
    with Root(alone, epoch=epoch) as target:
        target.make_directory(f"/{_STATUS}".rpartition("/")[0])
        target.put(f"/{_STATUS}", [b"\n\n".join(one.strip(b"\n") for one in kept) + b"\n"], owner=(0, 0), mode=0o644)


def _tell(slim: SlimImage, root: Path, out: Sequence[str], kept_bytes: int, room: Room) -> None:
    """Say how much is left out, and list it beside the records of the steps."""
    sizes = [_size(f"{root}/{path}") for path in out]
    count = sum(1 for size in sizes if size is not None)
    size_bytes, folder = sum(size or 0 for size in sizes), room.folder_of(left_out.FOLDER)
    told = left_out.write(folder, slim.service, room.key, out, files=count, size_bytes=size_bytes)
    out_text = f"{count:,} files, {size_text(size_bytes)}: {told.listed}"
    room.note(f"kept {size_text(kept_bytes)}; left out {out_text}")


def _size(path: str) -> int | None:
    status = os.lstat(path)
    return status.st_size if stat.S_ISREG(status.st_mode) else None
