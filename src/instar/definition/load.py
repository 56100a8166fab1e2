"""instar.yaml → Definition, or every problem in it at once."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.definition.author_files import AuthorFile, open_author_file
from instar.definition.problems import Mark, Problems
from instar.definition.source import SIZE_LIMIT_BYTES, Listing, Mapping, Node, Scalar, describe, mark_of, read
from instar.errors import DefinitionError, DefinitionUnreadable
from instar.frozen import dataclass
from instar.model.definition import Definition
from instar.model.roles import UNNAMED_ROLE

if TYPE_CHECKING:
    from instar.definition.env_file import Entry
    from instar.definition.layers import Layers
    from instar.definition.section import Reading
    from instar.model.definition import Service

# A file that begins with the service's name, as all are written: no more of it has to be read to know that one.
_EMPTY = r"(?:[ \t]*(?:#.*)?\n)*"
_BEGINS_WITH_NAME = re.compile(
    rf"{_EMPTY}name: +(?!(?:true|false|null)\s)([a-z][a-z0-9-]*)[ \t]*(?: #.*)?\n{_EMPTY}(?=[a-z])"
)
_INIT = "instar init writes a definition that works as it is"


class Places:
    """Where the parts of a definition stand in its file, so that every room can point at the line that it means."""

    def __init__(self, file: str, root: Node, layers: Layers | None = None) -> None:
        self.file = file
        self.layers = layers
        self._root = root

    def config_files(self) -> MappingOf[str, MappingOf[str, Entry]]:
        """Return what stands in the files that the definition takes configuration from, by their names."""
        return {} if self.layers is None else self.layers.files

    def node(self, *path: str | int) -> Node | None:
        """Return what stands at ``path``, None where nothing does."""
        node: Node | None = self._root
        for step in path:
            node = None if node is None else _inner(node, step)
        return node

    def find(self, *path: str | int) -> Mark:
        """Return line and column, from 1, of the value at ``path``: ``find("image", "run", 0)``.

        A section or a list is found at its key, and what is not in the file at the nearest section around it.
        """
        node = self._root
        for step in path:
            inner = _inner(node, step)
            if inner is None:
                break
            node = inner
        return node.mark

    def place_text(self, *path: str | int) -> str:
        """Return the place at ``path`` as people and editors read it: "instar.yaml:12:7"."""
        line, column = self.find(*path)
        return f"{self.file}:{line}:{column}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A definition with what was read: ``file`` as messages name it, ``folder`` where its paths begin (absolute)."""

    definition: Definition
    places: Places
    file: str
    folder: Path
    text: str


def load(path: Path) -> Loaded:
    """Read the definition at ``path``: a regular file, and no link to one.

    Raises:
        DefinitionUnreadable: there is no such file, or it may not be read.
        DefinitionError: all that is wrong in it, in the order of its lines.
    """
    found = _opened(path)
    with found.discreet(str(path)):
        loaded = parse(decoded(found.data, Problems(str(path))), str(path))
        if not any(one.names.client_ca for one in loaded.definition.environments.values()):
            return loaded
        from instar.definition.client_authorities import with_authorities

        return with_authorities(loaded)


def load_name(path: Path) -> str:
    """Return the service's name in the definition at ``path``, as :func:`load` would read it, whatever else is in it.

    Raises DefinitionUnreadable, and DefinitionError where it does not begin with its name, and is no YAML that a
    definition may be, or has none.
    """
    found = _opened(path)
    with found.discreet(str(path)):
        return _name(decoded(found.data, Problems(str(path))), str(path))


def parse(text: str, file: str) -> Loaded:
    """Read the definition in ``text``. ``file`` names it in messages; its folder is where paths begin.

    Raises DefinitionError with all that is wrong in it, in the order of its lines.
    """
    from instar.definition.schema import DEFINITION
    from instar.definition.section import Reading

    if len(text) > SIZE_LIMIT_BYTES:
        raise _too_large(file)
    problems = Problems(file)
    root = read(text, problems)
    if root is None and not problems:
        problems.add((1, 1), "the file is empty")
        raise problems.error(hint=_INIT)
    if isinstance(root, Mapping):
        reading, layers, root = _layered(root, file, problems)
    else:
        reading, layers = (DEFINITION.read(root, "", problems) if root is not None else None), None
    if problems or not isinstance(reading, Reading) or root is None:
        raise problems.error()
    return Loaded(
        definition=_built(reading, layers),
        places=Places(file, root, layers),
        file=file,
        folder=Path(file).absolute().parent,
        text=text,
    )


def _layered(root: Mapping, file: str, problems: Problems) -> tuple[Any, Layers, Mapping]:
    """Read a definition whose environments are what the layers below them make of them."""
    from instar.definition.config_files import read_config_file
    from instar.definition.layers import Layers
    from instar.definition.schema import DEFINITION

    folder = Path(file).absolute().parent
    layers = Layers(root, lambda named, found: read_config_file(named, folder, file, found), problems)
    said = Problems(file)
    settled = layers.settled(DEFINITION)
    reading = DEFINITION.read(settled, "", said)
    for mark, message in said:
        problems.add(mark, layers.with_path(mark, message))
    return reading, layers, settled


def _built(reading: Reading, layers: Layers | None) -> Definition:
    """Return the definition, with how instances run in environments that say something of it."""
    definition: Definition = reading.build()
    environments = {name: one.own for name, one in reading.get("environments").items() if one.own is not None}
    own: dict[str, dict[str, Service]] = {}
    for name, one in environments.items():
        if "roles" in one.values:
            own[name] = {role: said.build().service for role, said in one.get("roles").items()}
        else:
            own[name] = {UNNAMED_ROLE: one.get("service").build()}
    return replace(definition, own_services=own, config_files=tuple(layers.files) if layers else ())


def _name(text: str, file: str) -> str:
    from instar.definition import forms

    begin = _BEGINS_WITH_NAME.match(text)
    if begin is not None and not re.search(r"^[\"']?name\b", text[begin.end() :], re.MULTILINE):
        with contextlib.suppress(forms.Misfit):
            return forms.name(begin[1])
    problems = Problems(file)
    root = read(text, problems)
    node = root.entries.get("name") if isinstance(root, Mapping) else None
    if not problems and isinstance(node, Scalar) and node.kind == "text":
        with contextlib.suppress(forms.Misfit):
            return forms.name(node.text)
    if not problems:
        found = describe(node) if node is not None else "none"
        mark = node.mark if node is not None else (1, 1)
        problems.add(mark, f"expected 'name: …' with the name of a service, found {found}")
    raise problems.error(hint="SERVICE/ENV names an environment without a definition")


def _opened(path: Path) -> AuthorFile:
    try:
        return open_author_file(path.parent, path.name, SIZE_LIMIT_BYTES)
    except FileNotFoundError as error:
        hint = f"{_INIT}; a definition elsewhere is named with -f FILE"
        raise DefinitionUnreadable(f"cannot read '{path}': no such file", hint=hint) from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _too_large(str(path)) from error
        cause, hint = (error.strerror or str(error)).lower(), None
        if error.errno == errno.ELOOP:
            hint = "name the file that it leads to, if it is the one you mean: -f FILE"
        raise DefinitionUnreadable(f"cannot read '{path}': {cause}", hint=hint) from error
    except ValueError as error:
        raise DefinitionUnreadable(f"cannot read {str(path)!r}: not the name of a file") from error


def decoded(data: bytes, problems: Problems) -> str:
    """Return the text of a file. Raises the error of its ``problems`` where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        mark = mark_of(data[: error.start].decode(), error.start)
        problems.add(mark, f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}; save the file as UTF-8")
        raise problems.error() from error


def _too_large(file: str) -> DefinitionError:
    return DefinitionUnreadable(f"cannot read '{file}': it is larger than {SIZE_LIMIT_BYTES >> 20} MiB")


def _inner(node: Node, step: str | int) -> Node | None:
    if isinstance(node, Mapping) and isinstance(step, str):
        return node.entries.get(step)
    if isinstance(node, Listing) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None
