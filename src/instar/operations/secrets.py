"""Secrets: read from the author's files when a release is made, kept by digest for root alone, never printed."""

from __future__ import annotations

import contextlib
import os
import secrets as random
from collections.abc import Callable, Mapping
from pathlib import Path

from instar.definition.beside import read_beside
from instar.errors import Refused
from instar.model.definition import Environment
from instar.model.digest import Digest
from instar.model.keyed import keyed_digest
from instar.model.state import StateDirectory

MAX_BYTES = 1024 * 1024


def keep_secrets(state: StateDirectory, folder: Path, environment: Environment) -> Mapping[str, Digest]:
    """Keep the present content of every declared secret under its digest, and return name → digest.

    The digest is keyed with a random key of this state directory: a ledger or a plan that shows it doesn't let
    anybody try guesses against it. Raises Refused when a file can't be read.
    """
    if not environment.secrets:
        return {}
    state.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_once(state.secret_key, random.token_bytes(32))
    contents = _read(folder, environment)
    digests = _digests(state, contents)
    for name, content in contents.items():
        _write_whole(state.secret(digests[name]), content)
    return digests


def look_at_secrets(state: StateDirectory, folder: Path, environment: Environment) -> Mapping[str, Digest]:
    """Return the digests that :func:`keep_secrets` would, and write nothing."""
    return _digests(state, _read(folder, environment)) if environment.secrets else {}


def _digests(state: StateDirectory, contents: Mapping[str, bytes]) -> Mapping[str, Digest]:
    key = state.secret_key.read_bytes() if state.secret_key.exists() else random.token_bytes(32)
    return {name: keyed_digest(key, content) for name, content in contents.items()}


def _read(folder: Path, environment: Environment) -> Mapping[str, bytes]:
    return {name: _content(name, folder, source) for name, source in environment.secrets.items()}


def _content(name: str, folder: Path, source: str) -> bytes:
    try:
        return read_beside(folder, source, MAX_BYTES)
    except OSError as error:
        raise Refused(f"cannot read secret '{name}' from '{source}': {error.strerror}") from error


def _write_once(path: Path, content: bytes) -> None:
    """Write a file that nobody else writes otherwise; one that is there stays."""
    if not path.exists():
        _write(path, content, lambda temporary: os.link(temporary, path))


def _write_whole(path: Path, content: bytes) -> None:
    """Write a secret, unless it is there: one that was damaged is there no more."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    _write(path, content, lambda temporary: temporary.rename(path))


def _write(path: Path, content: bytes, put: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        put(temporary)
    temporary.unlink(missing_ok=True)
