"""Secrets: read from the author's files when a release is made, kept by digest for root alone, never printed."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets as random
from collections.abc import Mapping
from pathlib import Path

from instar.errors import Refused
from instar.model.definition import Environment
from instar.model.digest import Digest
from instar.model.state import StateDirectory

MAX_BYTES = 1024 * 1024
_KEY_NAME = "key"


def keep_secrets(state: StateDirectory, folder: Path, environment: Environment) -> Mapping[str, Digest]:
    """Keep the present content of every declared secret under its digest, and return name → digest.

    The digest is keyed with a random key of this state directory: a ledger or a plan that shows it doesn't let
    anybody try guesses against it. Raises Refused when a file can't be read.
    """
    if not environment.secrets:
        return {}
    state.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = _key(state)
    return {name: _keep(state, key, name, folder / source) for name, source in environment.secrets.items()}


def _keep(state: StateDirectory, key: bytes, name: str, source: Path) -> Digest:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise Refused(f"cannot read secret '{name}' from '{source.name}': {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise Refused(f"cannot take secret '{name}': '{source.name}' is larger than 1 MiB")
    digest = Digest.from_hex(hmac.new(key, content, "sha256").hexdigest())
    _write_once(state.secret(digest), content)
    return digest


def _key(state: StateDirectory) -> bytes:
    path = state.secrets / _KEY_NAME
    _write_once(path, random.token_bytes(32))
    return path.read_bytes()


def _write_once(path: Path, content: bytes) -> None:
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
