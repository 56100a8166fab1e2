"""Where secrets come from: files beside the definition, and sources that the machine's own file names.

A definition comes from whoever can propose a change. It names a source by a word, and only who writes the machine's
file says what that is: so no definition has root run a command or read a file. What a command prints is in no message,
neither is what a file or a variable holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

from instar import process
from instar.errors import CommandFailed, ComponentMissing, HostError, InstarError, Refused
from instar.frozen import dataclass
from instar.model.environment import Environment, SecretSource
from instar.model.machine import SecretSettings
from instar.model.state import machine_file

MAX_BYTES: Final = 1024 * 1024
MAX_VARIABLE_BYTES: Final = 64 * 1024  # Linux takes one of twice that, its name with it
MAX_PRINTED_BYTES: Final = 64 * 1024  # by a command, on both its streams


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What the machine's file names, for a service's environments; ``environ`` is the caller's, ``identities`` a file
    of the machine's with age's."""

    service: str = ""
    named: Mapping[str, SecretSettings] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    identities: str | None = None


NO_SOURCES: Final = Sources()


def read_secrets(folder: Path, environment: Environment, sources: Sources) -> Mapping[str, bytes]:
    """Return what each secret of an environment is now.

    Raises:
        Refused: a file beside the definition cannot be read, or the environment may not take a source.
        HostError: this machine has no such source, or it gives nothing that is of use.
        ComponentMissing: the program that a source names is not here.
    """
    found = {name: _content(name, folder, environment, one, sources) for name, one in environment.secrets.items()}
    return {**found, **{name: _as_variable(name, found[name]) for name in environment.secret_variables}}


def _as_variable(name: str, value: bytes) -> bytes:
    """Return a secret as a variable has it, and then its file too: one value has one digest."""
    value = value.rstrip(b"\r\n")
    about = f"cannot give secret '{name}' as an environment variable"
    if b"\0" in value or len(value) > MAX_VARIABLE_BYTES:
        cause = f"it is larger than {MAX_VARIABLE_BYTES:,} bytes" if b"\0" not in value else "it has a zero byte in it"
        raise Refused(f"{about}: {cause}", hint=f"without 'variable', it is the file /run/secrets/{name}")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{about}: it is no UTF-8 text", hint=f"it can be the file /run/secrets/{name} alone") from None
    return value


def _content(name: str, folder: Path, environment: Environment, secret: SecretSource, sources: Sources) -> bytes:
    if secret.source is not None:
        return _from_source(name, secret.source, f"{sources.service}/{environment.name}", sources)
    from instar.definition.author_files import read_author_file
    from instar.operations.age_files import MAX_FILE_BYTES, decrypted, find_identities

    file, limit_bytes = (secret.age, MAX_FILE_BYTES) if secret.age is not None else (secret.file, MAX_BYTES)
    assert file is not None  # a secret has one of the three
    about = f"cannot read secret '{name}' from '{file}'"
    try:
        data = read_author_file(folder, file, limit_bytes)
    except OSError as error:
        hint = f"it is looked for below the definition's folder, '{folder}', and no link is followed"
        raise Refused(f"{about}: {error.strerror}", hint=hint) from error
    if secret.age is None:
        return data
    value = decrypted(data, find_identities(sources.identities, sources.environ), about)
    if len(value) > MAX_BYTES:
        raise Refused(f"{about}: it is larger than {MAX_BYTES:,} bytes")
    return value


def _from_source(name: str, source: str, environment: str, sources: Sources) -> bytes:
    found, file = sources.named.get(source), machine_file(sources.environ)
    if found is None:
        known = f"it names {', '.join(sorted(sources.named))}" if sources.named else "it names none"
        raise HostError(
            f"cannot read secret '{name}': this machine's own file names no source '{source}' ({known})",
            hint=f"write secrets.{source} into {file}: docs/machine.md",
        )
    if found.environments and environment not in found.environments:
        raise Refused(
            f"cannot read secret '{name}': '{environment}' may not take the source '{source}'",
            hint=f"who may, secrets.{source}.environments in {file} says",
        )
    about = f"cannot read secret '{name}' from the source '{source}'"
    if found.variable is not None:
        return _of_variable(found.variable, sources.environ, about)
    if found.file is not None:
        return _of_file(Path(found.file), about)
    return _printed(found, about, f"secrets.{source} in {file}")


def _of_variable(variable: str, environ: Mapping[str, str], about: str) -> bytes:
    value = os.fsencode(environ.get(variable, ""))
    if not value:
        raise HostError(
            f"{about}: the variable '{variable}' is not set, or empty",
            hint=f"sudo passes it on with --preserve-env={variable}",
        )
    return _checked(value, f"{about}: the variable '{variable}'")


def _of_file(path: Path, about: str) -> bytes:
    from instar.definition.author_files import open_author_file

    try:
        found = open_author_file(path.parent, path.name, MAX_BYTES)
    except OSError as error:
        cause = error.strerror or str(error)
        raise HostError(f"{about}: '{path}': {cause[:1].lower()}{cause[1:]}") from error
    if found.status.st_mode & stat.S_IROTH:
        raise HostError(f"{about}: everybody on this machine may read '{path}'", hint=f"chmod o-r '{path}'")
    if not found.data:
        raise HostError(f"{about}: '{path}' is empty")
    return found.data


def _printed(settings: SecretSettings, about: str, where: str) -> bytes:
    """Return what a command prints, without the line ends at its end. Its environment is clean."""
    program = settings.command[0]
    hint = f"its words are {where}; what runs goes on"
    about = f"{about}: '{program}'"
    timeout_s = settings.timeout_ms / 1000
    try:
        done = process.run(
            settings.command,
            timeout_s=timeout_s,
            cwd=process.ANYWHERE,
            umask=process.MASK,
            check=False,
            alone=True,
            most_bytes=MAX_PRINTED_BYTES,
        )
    except ComponentMissing as error:
        raise ComponentMissing(f"{about} is not there", hint=hint) from error
    except CommandFailed as error:
        raise _failed(error, about, timeout_s, hint) from None  # what it printed goes with it
    except (OSError, ValueError) as error:  # a word with NUL in it, or too many of them
        raise HostError(f"{about} cannot be run: {error}", hint=hint) from error
    if done.returncode != 0:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        raise HostError(f"{about} failed: {how}", hint=f"run it by hand to see why: {hint}")
    value = done.stdout.rstrip(b"\r\n")
    if not value:
        raise HostError(f"{about} printed nothing", hint=hint)
    return _checked(value, f"{about} printed what")


def _failed(error: CommandFailed, about: str, timeout_s: float, hint: str) -> InstarError:
    if isinstance(error.__cause__, OSError):
        return HostError(f"{about} cannot be run: {error.__cause__.strerror}", hint=hint)
    if isinstance(error.__cause__, TimeoutExpired):
        return HostError(f"{about} did not end within {timeout_s:g} s: it was killed with its children", hint=hint)
    return HostError(f"{about} printed more than {MAX_PRINTED_BYTES:,} bytes: it was killed", hint=hint)


def _checked(value: bytes, about: str) -> bytes:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise HostError(
            f"{about} is no UTF-8 text", hint="what is no text comes from a file, or is printed in base64"
        ) from None
    return value
