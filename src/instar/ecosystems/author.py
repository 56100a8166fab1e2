"""The author's manifests and lock files: read where they lie, and what is wrong in them told with file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from instar.definition.author_files import has_author_file, open_author_file
from instar.ecosystems.protocol import WantedFile
from instar.errors import DefinitionError, Problem
from instar.frozen import dataclass
from instar.model.codec import parse

_LIMIT_BYTES = 64 << 20
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorText:
    """A file of the author's: ``name`` is its path below the definition's folder."""

    name: str
    data: bytes
    text: str
    may_be_quoted: bool

    def line_of(self, mark: str) -> int:
        """Return the first line that has ``mark`` in it, 1 when none has."""
        before, found, _ = self.text.partition(mark)
        return before.count("\n") + 1 if found else 1

    def place(self, mark: str) -> str:
        return f"{self.name}:{self.line_of(mark)}"

    def refuse(self, message: str, mark: str = "", *, hint: str | None = None) -> NoReturn:
        """Say what is wrong at the first line with ``mark``. Raises DefinitionError."""
        if not self.may_be_quoted:
            message, hint = "it cannot be used; why would show what it says, and only root may read it", None
        raise DefinitionError([_problem(self.name, self.line_of(mark) if mark else 1, message)], hint=hint)

    def json(self) -> dict[str, Any]:
        """Return the object that it is. Raises DefinitionError."""
        try:
            found = parse(self.text)
        except json.JSONDecodeError as error:
            if not self.may_be_quoted:
                self.refuse("")
            message = f"it is not JSON: {error.msg}"
            raise DefinitionError([_problem(self.name, error.lineno, message, error.colno)]) from error
        except ValueError as error:
            raise DefinitionError([_problem(self.name, 1, "it is not JSON that can be read")]) from error
        if _MAY_BE_HALF.search(self.text):
            self._require_whole(found)
        if not isinstance(found, dict):
            self.refuse("it is not an object of JSON")
        return found

    def _require_whole(self, found: Any) -> None:
        """JSON can say half of a character, which no file and no message can. Raises DefinitionError."""
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            self.refuse(f"it has half of a character ({half}), which is no text", half)


def one_of_each(file: AuthorText, wanted: Iterable[WantedFile], hint: str) -> tuple[WantedFile, ...]:
    """Return what a lock file names, each once. Raises DefinitionError where it has two hashes of one."""
    found: dict[tuple[str, str, str], WantedFile] = {}
    for one in wanted:
        if found.setdefault((one.name, one.version, one.kind), one).hash != one.hash:
            file.refuse(f"'{one.shown}' has two hashes", one.hash.removeprefix("sha256:"), hint=hint)
    return tuple(found.values())


def read(folder: Path, source: str, name: str, *, missing: str) -> AuthorText:
    """Read the file ``name`` in the author's folder ``source``; ``missing``: what to do where there is none.

    Raises DefinitionError.
    """
    path = name if source == "." else f"{source}/{name}"
    if not has_author_file(folder, path):
        raise DefinitionError([_problem(path, 1, "there is no such file beside the definition")], hint=missing)
    try:
        found = open_author_file(folder, path, _LIMIT_BYTES)
    except OSError as error:
        raise DefinitionError([_problem(path, 1, f"it cannot be read: {error.strerror or error}")]) from error
    try:
        text = found.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DefinitionError([_problem(path, 1, "it is not UTF-8 text")]) from error
    return AuthorText(name=path, data=found.data, text=text, may_be_quoted=found.may_be_quoted)


def there(folder: Path, source: str, name: str) -> bool:
    return has_author_file(folder, name if source == "." else f"{source}/{name}")


def _problem(file: str, line: int, message: str, column: int = 1) -> Problem:
    return Problem(file=file, line=line, column=column, message=message)
