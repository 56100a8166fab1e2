"""A Dockerfile → a draft of a definition: its last stage, with those that this one begins with, and copies out of."""

from __future__ import annotations

import contextlib
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar.adopt.bases import PATH, begin, known_image, start_as, variables_of
from instar.adopt.commands import carry_line
from instar.adopt.copies import copy
from instar.adopt.draft import Draft, DraftValue, Origin, looks_secret, number, port_name, scalar, time
from instar.adopt.instructions import Instruction, pairs, substituted
from instar.adopt.maven import maven_use
from instar.adopt.reading import StageReading, split
from instar.adopt.same_base import leave_packages
from instar.adopt.stages import DockerStage, OtherStages, chain_of, is_vendored, stages_of
from instar.definition import forms

_OF_VENV: Final = re.compile(r"venv|/\.local/bin\Z")
_INITS: Final = frozenset({"tini", "dumb-init", "catatonit"})
_SIGNALS: Final = re.compile(r"SIG[A-Z0-9+]+")
_ASKS: Final = re.compile(r"\b(curl|wget)\b")
_ASKED: Final = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::([0-9]{1,5}))?(/[^\s\"'|;&]*)?")

# of a check, by what it is called there: how often a service that runs is looked at ('interval') says not how soon one
# that starts may be well
CHECKED: Final = (("start_interval", "interval"), ("timeout", "timeout"))

Carry = Callable[[StageReading, Instruction, Origin], None]


def carry_dockerfile(text: str, folder: Path, name: str, file: str) -> Draft:
    """Return the draft. ``folder`` is looked at to tell files from folders; ``file`` is what the text is called.

    Raises ValueError for a text that has no FROM.
    """
    stages, arguments = stages_of(text, _argument)
    chain = chain_of(stages, stages[-1])
    draft = _begun(name, chain, file)

    def make(chain: Sequence[DockerStage], others: OtherStages, name: str) -> Draft:
        stage = _begun(name, chain, file)
        stage.locked = {
            program: DraftValue(yaml=".", origin=Origin(where=file))
            for program, file in (("go", "go.sum"), ("cargo", "Cargo.lock"))
            if (folder / file).is_file() and not is_vendored(folder, program)
        }
        vendored = (program for program in ("go", "cargo") if is_vendored(folder, program))
        maven = ("mvn",) if (folder / "pom.xml").is_file() else ()
        stage.offline = frozenset((*vendored, *stage.locked, *maven))
        _read(StageReading(stage, folder, arguments, others), chain, file, _OF_STAGES)
        name_requirements(stage, folder)
        if maven and (use := maven_use(line.yaml for line in stage.run)):
            stage.locked["mvn"] = DraftValue(yaml=use, origin=Origin(where=file))
        return stage

    others = OtherStages(stages, draft, make)
    reading = StageReading(draft, folder, arguments, others)
    _read(reading, chain, file, _INSTRUCTIONS)
    others.drop_those_of_pip()
    for stage, why in others.left(chain):
        draft.leave(stage.origin(file), why)
    _finish(reading, chain, file)
    return draft


def _begun(name: str, chain: Sequence[DockerStage], file: str) -> Draft:
    origin = chain[0].origin(file)
    draft = Draft(name=name, base=DraftValue(yaml="debian:bookworm", origin=origin))
    begin(draft, chain[0].begins_with, origin)
    return draft


def _read(reading: StageReading, chain: Sequence[DockerStage], file: str, carries: Mapping[str, Carry]) -> None:
    known = known_image(chain[0].begins_with)
    reading.variables |= variables_of(chain[0].begins_with)
    reading.workdir = known.workdir if known and known.workdir else "/"
    for one in (one for stage in chain for one in stage.rest):
        _carry(reading, one, file, carries)


def _carry(reading: StageReading, one: Instruction, file: str, carries: Mapping[str, Carry]) -> None:
    flags = "".join(f" --{flag}={value}" for flag, value in one.flags.items())
    origin = Origin(where=f"{file}:{one.line}", text=f"{one.name}{flags} {one.text}".strip())
    carry = carries.get(one.name)
    if carry is not None:
        carry(reading, one, origin)
    elif one.name not in {*_INSTRUCTIONS, "LABEL", "MAINTAINER"}:
        reading.draft.leave(origin, "there is no key for it")


def _run(reading: StageReading, one: Instruction, origin: Origin) -> None:
    words = one.words
    if one.document is not None:
        lines = [line for line in one.document.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    else:
        lines = [shlex.join(words) if words is not None else one.text]
    if reading.user is not None and reading.user[0].partition(":")[0] not in ("root", "0"):
        reading.draft.leave(origin, "it ran as another user than root: lines of a bake run as root")
    for line in lines:
        carry_line(reading.draft, reading.folder, line, reading.workdir, origin, reading.variables, reading.arguments)


def _env(reading: StageReading, one: Instruction, origin: Origin) -> None:
    for name, given in pairs(one.text, reading.variables).items():
        reading.variables[name] = given
        reading.arguments.discard(name)
        value = _path(given) if name == "PATH" else given
        if name == "PATH" and value == PATH:
            continue
        if value and looks_secret(name):
            reading.draft.leave(origin, f"'{name}' looks like a secret, which no image holds: environments.dev.secrets")
            continue
        try:
            reading.draft.env[forms.variable(name)] = DraftValue(yaml=_text(value), origin=origin)
        except ValueError:
            reading.draft.leave(origin, f"'{name}' is no name of a variable")


def _path(value: str) -> str:
    """Return what is looked for programs in, without what pip installs there: image.python has a place of its own."""
    return ":".join(part for part in dict.fromkeys(value.split(":")) if part and not _OF_VENV.search(part))


def _arg(reading: StageReading, one: Instruction, origin: Origin) -> None:
    found = _argument(one, reading.variables)
    reading.variables.update(found)
    reading.arguments.update(found)


def _argument(one: Instruction, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return what ARG declares, with its default; one that is known already stays."""
    found = {}
    for word in split(one.text):
        name, given, value = word.partition("=")
        if given:
            found[name] = substituted(value, variables)
        elif name in variables:
            found[name] = variables[name]
    return found


def _workdir(reading: StageReading, one: Instruction, origin: Origin) -> None:
    reading.workdir = reading.path(substituted(one.text, reading.variables))
    reading.draft.workdir = DraftValue(yaml=scalar(reading.workdir), origin=origin) if reading.workdir != "/" else None


def _as_user(reading: StageReading, one: Instruction, origin: Origin) -> None:
    reading.user = (substituted(one.text, reading.variables).strip(), origin)


def _expose(reading: StageReading, one: Instruction, origin: Origin) -> None:
    for word in substituted(one.text, reading.variables).split():
        text, _, protocol = word.partition("/")
        port = number(text)
        if protocol == "udp" or port is None or not 0 < port < 65536:
            reading.draft.leave(origin, f"'{word}': requests come to ports of TCP")
        elif reading.draft.port is None:
            reading.draft.port = (port, origin)
        elif port != reading.draft.port[0]:
            why = f"'{word}': if it listens there too, add service.ports: {{{port_name(port)}: {port}}}, and a door"
            reading.draft.leave(origin, f"{why}: environments.ENV.listen: {{service.{port_name(port)}: ADDRESS}}")


def _cmd(reading: StageReading, one: Instruction, origin: Origin) -> None:
    reading.cmd = (_command(one), origin)


def _entrypoint(reading: StageReading, one: Instruction, origin: Origin) -> None:
    reading.entrypoint, reading.cmd = (_command(one), origin), None


def _command(one: Instruction) -> Sequence[str]:
    return one.words if one.words is not None else ["sh", "-c", one.text]


def _volume(reading: StageReading, one: Instruction, origin: Origin) -> None:
    for word in one.words or split(substituted(one.text, reading.variables)):
        if re.match(r"(/var)?/(tmp|run)(/|\Z)", reading.path(word)):
            continue  # every instance has one of its own
        reading.draft.volumes.setdefault(reading.path(word), origin)


def _stop_signal(reading: StageReading, one: Instruction, origin: Origin) -> None:
    if _SIGNALS.fullmatch(one.text):
        reading.draft.stop["signal"] = DraftValue(yaml=one.text, origin=origin)
    else:
        reading.draft.leave(origin, "name the signal under service.stop")


def _health(reading: StageReading, one: Instruction, origin: Origin) -> None:
    kind, _, rest = one.text.partition(" ")
    if kind.upper() != "CMD":
        return
    told = {name.replace("-", "_"): value for name, value in one.flags.items()}
    keys = [f"{key}: {told[name]}" for name, key in CHECKED if time(told.get(name, ""))]
    command = Instruction(line=one.line, name="CMD", flags={}, text=rest.strip())
    reading.draft.health = DraftValue(yaml=health(_command(command), keys), origin=origin)


def health(command: Sequence[str], keys: Sequence[str] = ()) -> str:
    """Return how a check by command is asked: what gets a page of the service itself is asked without it."""
    line, how = " ".join(command), f"command: [{', '.join(map(scalar, command))}]"
    asked = _ASKED.search(line) if _ASKS.search(line) else None
    if asked is not None:
        with contextlib.suppress(ValueError):
            how = f"path: {scalar(forms.health_path(asked[2] or '/'))}"
    return f"{{{', '.join([how, *keys])}}}"


def _finish(reading: StageReading, chain: Sequence[DockerStage], file: str) -> None:
    """Write down what is only known at the end: the command, the user, and where pip's requirements come from."""
    draft = reading.draft
    first, last = reading.entrypoint, reading.cmd
    if first is not None or last is not None:
        origin = (last or first or ((), draft.base.origin))[1]
        draft.entrypoint = first[0] if first else ()
        draft.command = (without_init([*draft.entrypoint, *(last[0] if last else ())]), origin)
    name_user(draft, reading.user)
    start_as(draft, chain[0].begins_with, chain[0].origin(file))
    name_requirements(draft, reading.folder)


def without_init(command: Sequence[str]) -> Sequence[str]:
    """Leave out the little init that a command begins with: every instance has one."""
    if command and posixpath.basename(command[0]) in _INITS:
        rest = list(command[1:])
        while rest and rest[0].startswith("-"):
            if rest.pop(0) == "--":
                break
        return rest or command
    return command


def name_user(draft: Draft, user: tuple[str, Origin] | None) -> None:
    """Put in who the service runs as, where that can be."""
    if user is None:
        return
    text, origin = user
    name, _, group = text.partition(":")
    uid, gid = draft.users.get(name, (None, None))
    if (said := number(name)) is not None:
        uid, gid = said, number(group)
        name = next((made for made, numbers in draft.users.items() if numbers[0] == uid), "app")
    numbers = (one for one in (uid, gid) if one is not None)
    try:
        if all(0 < one < 65534 for one in numbers):
            draft.user = (forms.user_name(name), uid, gid, origin)
            return
    except ValueError:
        pass
    draft.leave(origin, f"'{text}': a service runs as 'app' (10001) where nothing else is said, and never as root")


def name_requirements(draft: Draft, folder: Path) -> None:
    """Name the requirements file that is beside the definition; what was named without one goes into it by hand."""
    leave_packages(draft)
    named = [(one, origin) for one, origin in draft.requirements.items() if one.startswith("-r ")]
    for one, origin in named:
        path = next((path for path in _tails(one.removeprefix("-r ")) if (folder / path).is_file()), None)
        if path is not None and draft.python is None:
            draft.python = DraftValue(yaml=scalar(path), origin=origin)
            if draft.base.yaml.startswith("debian:"):  # an image of others may have a Python of its own
                draft.packages.setdefault("python3", origin)
        else:
            draft.leave(origin, f"'pip install {one}': one requirements file, beside the definition, is image.python")
    if draft.python is not None and (programs := draft.env.get("PATH")) is not None:
        draft.env["PATH"] = DraftValue(
            yaml=scalar(f"/opt/venv/bin:{programs.yaml.strip(chr(34))}"), origin=programs.origin
        )
    for one, origin in draft.requirements.items():
        if not one.startswith("-r "):
            into = draft.python.yaml if draft.python is not None else "a file that image.python names"
            draft.leave(origin, f"'pip install {one}': write it into {into}")


def _tails(path: str) -> Iterable[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return ("/".join(parts[number:]) for number in range(len(parts)))


def _text(value: str) -> str:
    return scalar(value) if value else '""'


_INSTRUCTIONS: Final[Mapping[str, Carry]] = {
    "RUN": _run,
    "COPY": copy,
    "ADD": copy,
    "ENV": _env,
    "ARG": _arg,
    "WORKDIR": _workdir,
    "USER": _as_user,
    "EXPOSE": _expose,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "VOLUME": _volume,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _health,
}
# of a stage out of which others copy: nothing is started there
_OF_STAGES: Final = {name: _INSTRUCTIONS[name] for name in ("RUN", "COPY", "ADD", "ENV", "ARG", "WORKDIR", "USER")}
