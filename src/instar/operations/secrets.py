"""Secrets: read when a release is made, kept by digest for root alone, never printed."""

from __future__ import annotations

import contextlib
import re
import secrets as random
from collections.abc import Mapping
from pathlib import Path

from instar import durable
from instar.errors import HostError
from instar.model.digest import Digest
from instar.model.environment import Environment
from instar.model.keyed import keyed_digest
from instar.model.state import StateDirectory
from instar.operations.secret_sources import NO_SOURCES, Sources, read_secrets

KEY_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}")


def keep_secrets(
    state: StateDirectory, folder: Path, environment: Environment, sources: Sources = NO_SOURCES
) -> Mapping[str, Digest]:
    """Keep the present content of every declared secret under its digest, and return name → digest.

    The digest is keyed with a random key of this state directory: a ledger or a plan that shows it doesn't let
    anybody try guesses against it. Raises what :func:`secret_sources.read_secrets` does.
    """
    if not environment.secrets:
        return {}
    key = find_key(state) or make_key(state)
    contents = read_secrets(folder, environment, sources)
    digests = _digests(key, contents)
    for name, content in contents.items():
        keep_value(state, digests[name], content)
    return digests


def keep_value(state: StateDirectory, digest: Digest, value: bytes) -> None:
    """Keep a secret under its digest, unless it is there: one that was damaged is there no more."""
    state.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(OSError):
        if durable.read(state.secret(digest)) == value:
            return
    durable.write(state.secret(digest), value)


def look_at_secrets(
    state: StateDirectory, folder: Path, environment: Environment, sources: Sources = NO_SOURCES
) -> Mapping[str, Digest]:
    """Return the digests that :func:`keep_secrets` would, and write nothing."""
    if not environment.secrets:
        return {}
    key = find_key(state) or random.token_bytes(KEY_BYTES)
    return _digests(key, read_secrets(folder, environment, sources))


def make_key(state: StateDirectory) -> bytes:
    """Make the key of the digests, or return the one that another process has just made."""
    put_key(state, random.token_bytes(KEY_BYTES))
    key = find_key(state)
    assert key is not None  # nobody removes it
    return key


def put_key(state: StateDirectory, key: bytes) -> None:
    """Write the key of the digests, where there is none; one that is there stays."""
    state.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not state.secret_key.exists():
        durable.write_once(state.secret_key, key)


def find_key(state: StateDirectory) -> bytes | None:
    """Return the key of the digests; None where no secret was ever kept.

    Raises HostError where it is lost or damaged: with another one every secret would have another digest, every
    release would be another, and nobody could tell whether what an instance has is what it was given.
    """
    path = state.secret_key
    kept = secret_files(state)
    try:
        key = durable.read(path)
    except FileNotFoundError:
        if kept:
            raise _unusable(path, "it is lost") from None
        return None
    except OSError as error:
        raise HostError(f"cannot read '{path}': {error.strerror}") from error
    others = len(kept) > 1 and not any(_is_of(key, one) for one in kept)  # of a single one nobody knows which is other
    if len(key) != KEY_BYTES:
        raise _unusable(path, "it is damaged")
    if others:
        raise _unusable(path, "it, or every secret that is kept beside it, is damaged")
    return key


def secret_files(state: StateDirectory) -> list[Path]:
    """Return the file of each secret that is kept, whose name is its digest."""
    if not state.secrets.is_dir():
        return []
    return [path for path in state.secrets.iterdir() if _DIGEST.fullmatch(path.name)]


def _is_of(key: bytes, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return keyed_digest(key, durable.read(path)).hex == path.name
    return False


def _unusable(path: Path, how: str) -> HostError:
    return HostError(
        f"cannot use '{path}': {how}, and the digests of all kept secrets are made with it",
        hint="what runs goes on; put it back from a copy, or, where the ledger is shared, from a machine that has it "
        "(instar ledger key export | import); without one: move "
        f"'{path.parent}' away and deploy every environment that has secrets again, which makes new releases",
    )


def _digests(key: bytes, contents: Mapping[str, bytes]) -> Mapping[str, Digest]:
    return {name: keyed_digest(key, content) for name, content in contents.items()}
