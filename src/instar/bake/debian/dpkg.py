"""dpkg's database, written for packages that were unpacked without dpkg, so that dpkg goes on from there.

var/lib/dpkg/
├── status               a paragraph a package
├── info/NAME.*          its file list and control files; NAME:ARCH where several architectures may share it
├── info/format          the layout of this directory
└── triggers/            who is interested in which path (File) and in which name
Source: dpkg 1.21, doc/triggers.txt and lib/dpkg/{dbmodify,infodb-format,trigdeferred}; deb-triggers(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from instar.bake.debian.bootstrap import Unpacked
from instar.bake.root import ROOT, Root
from instar.errors import BakeError
from instar.model.control import fields, names

SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_ADMIN = "/var/lib/dpkg"
_DIRECTORIES = ("info", "parts", "triggers", "updates")
_CONFIGURED_BY = {"preinst", "postinst", "config", "triggers"}
_TRIGGER = re.compile(r"/[!-~]*|(?!\.\.?$)[!-.0-~]+")  # a path, or a name that is one of a file too


def needs_configuration(unpacked: Sequence[Unpacked]) -> bool:
    """Tell whether anything has to run before the packages are installed."""
    return any(_CONFIGURED_BY & one.control.keys() for one in unpacked)


def write_database(root: Root, unpacked: Sequence[Unpacked], *, epoch: int) -> None:
    """Write the database of ``unpacked`` into ``root``, which has none. Raises BakeError, OSError."""

    def write(name: str, content: bytes, mode: int = 0o644) -> None:
        root.put(f"{_ADMIN}/{name}", [content], owner=ROOT, mode=mode, time=epoch)

    state = "unpacked" if needs_configuration(unpacked) else "installed"
    for name in _DIRECTORIES:
        root.make_directory(f"{_ADMIN}/{name}")
    write("info/format", b"1\n")
    write("status", b"".join(_paragraph(one, state) for one in unpacked))
    for one in unpacked:
        for name, content in _info(one):
            write(f"info/{name}", content, 0o755 if name.rpartition(".")[2] in SCRIPTS else 0o644)
    for name, lines in _triggers(unpacked).items():
        write(f"triggers/{name}", "".join(f"{line}\n" for line in lines).encode())


def info_name(one: Unpacked) -> str:
    """Return what a package's files in info/ are called, up to their last dot."""
    shared = fields(one.control["control"]).get("Multi-Arch") == "same"
    return f"{one.package.name}:{one.package.architecture}" if shared else one.package.name


def in_order_of_need(controls: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Return package names so that what one pre-depends on stands before it, else by name.

    ``controls`` are name → fields. A circle is cut where it is met.
    """
    needs = _needs(controls, ("Pre-Depends",))
    ordered: dict[str, None] = {}
    for start in sorted(controls):
        way = {start: iter(needs[start])}  # names that are waited for, each with what it still has to ask for
        while way:
            name = next(reversed(way))
            needed = next(way[name], None)
            if needed is None:
                ordered[name] = None
                del way[name]
            elif needed not in ordered and needed not in way:
                way[needed] = iter(needs[needed])
    return tuple(ordered)


def in_stages(controls: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return package names in stages, each to be unpacked and configured before the next one is unpacked.

    What one pre-depends on is configured, with all that it depends on, in an earlier stage, as dpkg wants it: a preinst
    may use it. ``controls`` are name → fields. A circle is one stage. Source: Debian Policy 7.2, Pre-Depends.
    """
    before, needs = _needs(controls, ("Pre-Depends",)), _needs(controls, ("Pre-Depends", "Depends"))
    order = in_order_of_need(controls)
    rest = set(order)
    stages = []
    while rest:
        stage = _first_stage(rest, before, needs)
        stages.append(tuple(name for name in order if name in stage))
        rest -= stage
    return tuple(stages)


def _first_stage(rest: set[str], before: Mapping[str, Sequence[str]], needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return names of ``rest`` that need nothing else of it first. What is not in ``rest`` is configured."""
    stage = rest
    while wanted := {needed for name in stage for needed in before[name] if needed in stage}:
        early = _with_needs(wanted, needs, stage)
        if early == stage:  # what is wanted wants others of them: take the one that wants least
            early = min((_with_needs({one}, needs, stage) for one in sorted(wanted)), key=len)
        if early == stage:
            break  # a circle
        stage = early
    return stage


def _with_needs(wanted: set[str], needs: Mapping[str, Sequence[str]], within: set[str]) -> set[str]:
    found, waiting = set(wanted), list(wanted)
    while waiting:
        new = [needed for needed in needs[waiting.pop()] if needed in within and needed not in found]
        found.update(new)
        waiting += new
    return found


def _needs(controls: Mapping[str, Mapping[str, str]], relations: Sequence[str]) -> dict[str, list[str]]:
    """Return whom of them each one needs, in the order of its fields; a virtual package is the first that provides it.

    Of alternatives, all that are there are needed.
    """
    providers: dict[str, str] = {}
    for name, control in sorted(controls.items()):
        for virtual in names(control.get("Provides", "")):
            providers.setdefault(virtual, name)
    found = {}
    for name, control in controls.items():
        asked = [one for relation in relations for one in names(control.get(relation, ""))]
        named = [one if one in controls else providers.get(one) for one in asked]
        found[name] = [one for one in dict.fromkeys(named) if one is not None and one != name]
    return found


def _paragraph(one: Unpacked, state: str) -> bytes:
    lines = [one.control["control"].strip(b"\n"), b"Status: install ok " + state.encode()]
    if one.conffiles:
        lines.append(b"Conffiles:")
        lines += [b" " + path + b" " + (md5.encode() or b"newconffile") for path, md5 in one.conffiles.items()]
    return b"\n".join(lines) + b"\n\n"


def _info(one: Unpacked) -> Iterator[tuple[str, bytes]]:
    stem = info_name(one)
    yield f"{stem}.list", b"".join(path + b"\n" for path in one.paths)
    for name, content in one.control.items():
        if name != "control":
            yield f"{stem}.{name}", content


def _triggers(unpacked: Sequence[Unpacked]) -> dict[str, list[str]]:
    """Return the files of triggers/ and their lines."""
    files: dict[str, list[str]] = {}
    for one in unpacked:
        for line in one.control.get("triggers", b"").decode("utf-8", "backslashreplace").splitlines():
            directive, _, trigger = line.strip().partition(" ")
            trigger = trigger.strip()
            if not directive.startswith("interest") or not trigger:
                continue
            if not _TRIGGER.fullmatch(trigger):
                raise BakeError(f"cannot unpack package '{one.package.name}': {trigger!r} is no name of a trigger")
            follower = one.package.name + ("/noawait" if directive == "interest-noawait" else "")
            if trigger.startswith("/"):
                files.setdefault("File", []).append(f"{trigger} {follower}")
            else:
                files.setdefault(trigger, []).append(follower)
    return files
