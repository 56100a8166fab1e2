"""A definition as it is put together from what somebody had: each part with where it came from, and what is left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from instar.definition.forms import duration

_SHOWN_CHARACTERS: Final = 110
_SECRET: Final = re.compile(r"(?i)pass(word|wd|phrase)?(_|\Z)|secret|token|api_?key|private_?key")
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_KEYS: Final = {"mvn": "maven"}  # of a part, where that is not the name of the program
_MAKING_CODE: Final = ("nodejs", "default-jre-headless", "php-cli", "libapache2-mod-php")  # while they run
_OTHER_PROTOCOLS: Final = frozenset(
    (25, 53, 110, 143, 389, 465, 587, 636, 993, 995, 1433, 1521, 1883, 2181, 3306, 4222, 5432, 5672, 6379, 8883, 9042,
     9092, 11211, 27017)
)  # fmt: skip  # ports at which nobody speaks HTTP
_WORDS_OF_YAML: Final = frozenset({"true", "false", "null"})


@dataclass(frozen=True, kw_only=True)
class Origin:
    """``where``: "Dockerfile:3"; ``text``: what stands there. Both may be anything; as a text it is one line."""

    where: str
    text: str = ""

    @property
    def place(self) -> str:
        return shown(self.where)

    def __str__(self) -> str:
        return f"{self.place}: {shown(self.text)}" if self.text else self.place


@dataclass(frozen=True, kw_only=True)
class DraftValue:
    """A value of the definition, as YAML, and where it came from."""

    yaml: str
    origin: Origin


@dataclass(kw_only=True)
class File:
    """``owner``: as it was said, None: root's. ``path``: of a stage, where it is there."""

    source: str
    path: str | None = None
    to: str
    owner: str | None = None
    mode: str | None = None
    exclude: Sequence[str] = ()
    origin: Origin


@dataclass(kw_only=True)
class Draft:
    """``left``: what could not be carried over, and what to do about it; in the order in which it was found.

    ``stages``: those of the build, by name, of which only what makes a stage is used. Of such a one: ``offline``,
    programs that find what they need without a network, ``locked``, those whose lock file is in a folder of the
    author's, and ``unmade``, those that find nothing.
    """

    name: str
    base: DraftValue
    packages: dict[str, Origin] = field(default_factory=dict)
    requirements: dict[str, Origin] = field(default_factory=dict)  # named one by one, not in a file
    python: DraftValue | None = None
    npm: list[DraftValue] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    run: list[DraftValue] = field(default_factory=list)
    env: dict[str, DraftValue] = field(default_factory=dict)
    users: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)  # that are made: uid, gid
    user: tuple[str, int | None, int | None, Origin] | None = None
    entrypoint: Sequence[str] = ()  # of the image: what a command that is said elsewhere comes after
    command: tuple[Sequence[str], Origin] | None = None
    workdir: DraftValue | None = None
    port: tuple[int, Origin] | None = None
    health: DraftValue | None = None
    stop: dict[str, DraftValue] = field(default_factory=dict)
    limits: dict[str, DraftValue] = field(default_factory=dict)
    volumes: dict[str, Origin] = field(default_factory=dict)  # by path
    listen: DraftValue | None = None
    further_listen: dict[int, DraftValue] = field(default_factory=dict)  # by the port inside
    instances: DraftValue | None = None
    config: dict[str, DraftValue] = field(default_factory=dict)
    left: list[tuple[Origin, str]] = field(default_factory=list)
    stages: dict[str, Draft] = field(default_factory=dict)
    offline: frozenset[str] = frozenset()
    locked: dict[str, DraftValue] = field(default_factory=dict)
    unmade: list[str] = field(default_factory=list)
    _said: set[tuple[Origin, str]] = field(default_factory=set)  # of ``left``, which grows with the file

    def leave(self, origin: Origin, why: str) -> None:
        if (origin, why) not in self._said:
            self._said.add((origin, why))
            self.left.append((origin, why))

    def text(self) -> str:
        """Return the definition."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# Made from what was here before; each line says what it came from. Every key: docs/definition.md"
        yield from ("#", "# Look at it, then: instar validate, instar lock, sudo instar deploy dev", "")
        yield f"name: {scalar(self.name)}"
        if self.stages:
            yield from ("", "build:")
        for name, stage in self.stages.items():
            yield from (f"  {name}:", *(f"  {line}" for line in stage.made_of()))
        yield from ("", "image:", *self.made_of())
        if self.user is not None:
            name, uid, gid, origin = self.user
            numbers = "".join(f", {key}: {number}" for key, number in (("uid", uid), ("gid", gid)) if number)
            yield f"  user: {{name: {scalar(name)}{numbers}}}{_remark(origin)}"
        yield from ("", "service:", *self._service())
        yield from ("", "environments:", "  dev:", *self._environment())
        if self.left:
            yield from ("", "# Not carried over:")
            yield from (f"#   {origin}\n#     {shown(why)}" for origin, why in self.left)

    def made_of(self) -> Iterator[str]:
        """Yield the lines of what an image and a stage are made of."""
        yield _line(2, "base", self.base)
        if self.packages:
            yield "  packages:"
            yield from (f"    - {scalar(name)}  # {origin.place}" for name, origin in self.packages.items())
        if self.python is not None:
            yield _line(2, "python", self.python)
        if self.npm:
            yield "  npm:"
            yield from (f"    - {part.yaml}{_remark(part.origin)}" for part in self.npm)
        for program, part in self.locked.items():
            if any(re.search(rf"\b{program} ", line.yaml) for line in self.run):
                yield _line(2, _KEYS.get(program, program), part)
        if self.files:
            yield "  files:"
            yield from (f"    - {self._file(file)}{_remark(file.origin)}" for file in self.files)
        if self.run:
            yield "  run:"
            yield from (f"    - {part.yaml}{_remark(part.origin)}" for part in self.run)
        yield from _section(2, "env", self.env)

    def _file(self, file: File) -> str:
        keys = [f"from: {scalar(file.source)}", *([f"path: {scalar(file.path)}"] if file.path else [])]
        keys.append(f"to: {scalar(file.to)}")
        if file.owner is not None and self.user is not None and file.owner.partition(":")[0] == self.user[0]:
            keys.append(f"owner: {scalar(self.user[0])}")
        elif file.owner is not None and re.fullmatch(r"[0-9]+:[0-9]+", file.owner):
            keys.append(f'owner: "{file.owner}"')
        keys += [f'mode: "{file.mode}"'] if file.mode else []
        keys += [f"exclude: [{', '.join(map(scalar, file.exclude))}]"] if file.exclude else []
        return f"{{{', '.join(keys)}}}"

    def _service(self) -> Iterator[str]:
        if self.command is None:
            yield "  command: []    # what shall run?"
        else:
            words, origin = self.command
            yield f"  command: [{', '.join(map(scalar, words))}]{_remark(origin)}"
        if self.workdir is not None:
            yield _line(2, "workdir", self.workdir)
        if self.port is not None:
            yield f"  port: {self.port[0]}{_remark(self.port[1])}"
        if self.port is not None and self.port[0] in _OTHER_PROTOCOLS:
            yield f"  protocol: tcp{_remark(self.port[1])}"
        if self.further_listen:
            yield "  ports:"
        for number, door in self.further_listen.items():
            value = f"{{port: {number}, protocol: tcp}}" if number in _OTHER_PROTOCOLS else str(number)
            yield f"    {port_name(number)}: {value}{_remark(door.origin)}"
        if self.health is not None:
            yield _line(2, "health", self.health)
        made = next((self.packages[name] for name in _MAKING_CODE if name in self.packages), None)
        if made is not None:
            yield f"  jit: true{_remark(Origin(where=made.where))}"
        yield from _section(2, "stop", self.stop)
        yield from _section(2, "limits", self.limits)
        if self.volumes:
            yield "  volumes:"
            names, access = _names_of_volumes(self.volumes), ", access: shared" if self.instances is not None else ""
            for path, origin in self.volumes.items():
                yield f"    - {{name: {names[path]}, path: {scalar(path)}{access}}}{_remark(origin)}"

    def _environment(self) -> Iterator[str]:
        if self.port is not None:
            host_port = self.port[0] if self.port[0] >= 1024 else 8080
            first = self.listen or DraftValue(yaml=f'"127.0.0.1:{host_port}"', origin=Origin(where=""))
            further = {f"service.{port_name(number)}": where for number, where in self.further_listen.items()}
            yield from _section(4, "listen", {"service": first, **further}) if further else [_line(4, "listen", first)]
        if self.instances is not None:
            yield _line(4, "instances", self.instances)
        yield from _section(4, "config", self.config)
        if self.port is None and self.instances is None and not self.config:
            yield "    instances: 1"


@dataclass(frozen=True, kw_only=True)
class CarriedOver:
    """``left``: what could not be carried over, and what to do about it; ``problems`` of the definition as it is: what
    its author has to mend first."""

    path: Path
    left: Sequence[tuple[Origin, str]]
    problems: Sequence[str]


def looks_secret(name: str) -> bool:
    """Tell whether a variable of that name is likely to hold a secret, which no definition and no image may."""
    return _SECRET.search(name) is not None


def scalar(text: str) -> str:
    """Return a text as YAML that can stand anywhere, on one line."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return "".join(map(_escaped, json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)))


def number(text: str) -> int | None:
    """Return a whole number, None for what is none, or has more digits than any that is meant here."""
    return int(text) if _NUMBER.fullmatch(text) else None


def shown(text: str) -> str:
    """Return what somebody else wrote as a comment can say it: on one line, printable, not too long."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    line = " ".join(words)
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"


def time(text: str) -> str | None:
    """Return a time as a definition has it, None for what is none. Docker's are written in the same way."""
    try:
        duration(text)
    except ValueError:
        return None
    return text


def _escaped(letter: str) -> str:
    """Return a letter of a quoted text as YAML has it: JSON says those beyond 16 bits in another way."""
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _line(indent: int, key: str, part: DraftValue) -> str:
    return f"{' ' * indent}{key}: {part.yaml}{_remark(part.origin)}"


def _section(indent: int, key: str, parts: dict[str, DraftValue]) -> Iterator[str]:
    if parts:
        yield f"{' ' * indent}{key}:"
        yield from (_line(indent + 2, scalar(name), part) for name, part in parts.items())


def port_name(number: int) -> str:
    """Return what a port besides the first one is called."""
    return f"port-{number}"


def _remark(origin: Origin) -> str:
    return f"  # {origin}" if origin.where else ""


def _names_of_volumes(paths: dict[str, Origin]) -> dict[str, str]:
    found = dict[str, str]()
    for path in paths:
        last = re.sub(r"[^a-z0-9]+", "-", path.rstrip("/").rpartition("/")[2].lower()).strip("-0123456789") or "data"
        name, number = last[:24].strip("-"), 2
        while name in found.values():
            name, number = f"{last[:24].strip('-')}-{number}", number + 1
        found[path] = name
    return found
