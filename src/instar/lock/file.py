"""instar.lock: a Lock as a file that people commit, review and merge.

JSON with one line a package and a wheel, in a fixed order, so that a diff shows what changed and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NoReturn

from instar import durable
from instar.definition.author_files import AuthorFile, open_author_file, read_author_file
from instar.errors import LockError, LockMissing
from instar.lock.checked import WrongLock, constant_of, int_of, object_of
from instar.lock.parsed import lock_of
from instar.lock.project_id import SIZE_LIMIT_BYTES
from instar.lock.written import dump
from instar.model.lock import Lock

_HINT = "take the file from version control, or make it anew: instar lock"


def read(path: Path) -> Lock:
    """Read the lock at ``path``. What order its entries stand in makes no difference.

    Raises:
        LockMissing: there is none.
        LockError: it is not a lock, or one that this Instar cannot bake from.
    """
    found = _opened(path)
    try:
        return _parsed(path, found.data)
    except LockError as error:
        if found.may_be_quoted:
            raise
        cause = "it is not a lock that can be used; why would show what it says, and only root may read it"
        raise LockError(f"cannot read '{path}': {cause}", hint=error.hint) from None


def _parsed(path: Path, data: bytes) -> Lock:
    text = _decoded(path, data)
    try:
        return lock_of(json.loads(text, object_pairs_hook=object_of, parse_int=int_of, parse_constant=constant_of))
    except json.JSONDecodeError as error:
        _refuse(path, f"line {error.lineno}: it is not JSON: {error.msg}", error)
    except RecursionError as error:
        _refuse(path, "it is not a lock: it is nested too deeply", error)
    except WrongLock as error:
        _refuse(path, str(error), error)


def write(path: Path, lock: Lock) -> None:
    """Write ``lock`` to ``path``, whole or not at all. Under sudo the file belongs to its folder's owner."""
    data = dump(lock).encode()
    try:
        with contextlib.suppress(OSError):  # none, or none that is one
            if read_author_file(path.parent, path.name, len(data)) == data:
                return
        durable.write(path, data, mode=0o644, as_folder=os.geteuid() == 0 and "SUDO_UID" in os.environ)
    except OSError as error:
        raise LockError(f"cannot write '{path}': {error.strerror or error}") from error


def _opened(path: Path) -> AuthorFile:
    try:
        return open_author_file(path.parent, path.name, SIZE_LIMIT_BYTES)
    except FileNotFoundError as error:
        raise LockMissing(f"cannot read '{path}': there is no lock", hint="make one: instar lock") from error
    except OSError as error:
        _refuse(path, error.strerror or str(error), error)


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(path, "it is not UTF-8 text", error)


def _refuse(path: Path, cause: str, error: Exception | None = None) -> NoReturn:
    newer = "newer Instar" in cause
    hint = "use the Instar that made it, or a newer one" if newer else _HINT
    raise LockError(f"cannot read '{path}': {cause}", hint=hint) from error
