"""Who we are to a registry: from the files of docker and podman, and the helpers that they name.

Looked at in this order, the first that knows the registry wins: ``$REGISTRY_AUTH_FILE``; ``containers/auth.json`` of
podman in ``$XDG_RUNTIME_DIR`` and ``~/.config``; ``config.json`` of docker in ``$DOCKER_CONFIG`` or ``~/.docker``.
Source: containers-auth.json(5), docker's credential helper protocol.

A file that another user may write to is refused: it names programs to be run. A helper is named by a word and found
where this machine's programs are, never by a path. No password or token is ever in a message or printed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from instar import durable, process
from instar.errors import CommandFailed, ComponentMissing, HostError
from instar.frozen import dataclass
from instar.model.codec import parse
from instar.model.reference import DOCKER, Repository
from instar.permissions import other_writer

HELPER_TIMEOUT_S: Final = 30.0
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMIT_BYTES: Final = 1 << 20
_PASSED_ON: Final = ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "PASSWORD_STORE_DIR")
_DOCKERS_KEY: Final = "index.docker.io"
# what registries are called in these files and by helpers, where that is not their host
_SERVERS: Final[Mapping[str, tuple[str, ...]]] = {DOCKER: (f"https://{_DOCKERS_KEY}/v1/", _DOCKERS_KEY, DOCKER)}
_NOBODY: Final = "<token>"  # the user that helpers say where they give an identity token


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """``identity_token``: what tokens are asked for with, in place of user and password."""

    user: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(
    repository: Repository, environ: Mapping[str, str] = os.environ, *, timeout_s: float = HELPER_TIMEOUT_S
) -> Credentials | None:
    """Return what this user's files and helpers have for a repository's registry; None: it is asked as nobody.

    Raises HostError for a file that can't be read or used, and a helper that fails.
    """
    for path in _files(environ):
        data = _read(path)
        if data is not None:
            found = _in_file(path, data, repository, environ, timeout_s)
            if found is not None:
                return found
    return None


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    home = environ.get("HOME")
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json"
    if environ.get("XDG_CONFIG_HOME") or home:
        yield Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "containers/auth.json"
    if environ.get("DOCKER_CONFIG") or home:
        yield Path(environ.get("DOCKER_CONFIG") or f"{home}/.docker") / "config.json"


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return what a file says, None where there is none."""
    try:
        status = path.stat()
        data = parse(durable.read(path, _LIMIT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError(f"cannot read credentials in '{path}': {error.strerror}") from error
    except ValueError as error:
        raise HostError(f"cannot read credentials in '{path}': it is not JSON") from error
    who = other_writer(status, (os.geteuid(),))
    if who is not None:
        hint = f"it names programs that are run: chown '{path}' to whoever calls instar, chmod go-w"
        raise HostError(f"cannot use credentials in '{path}': {who} may write to it", hint=hint)
    return data if isinstance(data, dict) else {}


def _in_file(
    path: Path, data: Mapping[str, Any], repository: Repository, environ: Mapping[str, str], timeout_s: float
) -> Credentials | None:
    """A helper for this registry goes before what stands in the file, and that before the one for all."""
    servers = _SERVERS.get(repository.host, (repository.host,))
    helpers = data.get("credHelpers")
    for server in servers:
        own = helpers.get(server) if isinstance(helpers, dict) else None
        if own is not None:
            return _from_helper(path, own, server, environ, timeout_s)
    auths = data.get("auths")
    for entry in _entries(auths if isinstance(auths, dict) else {}, repository):
        found = _from_entry(path, entry)
        if found is not None:
            return found
    store = data.get("credsStore")
    for server in servers if store else ():
        found = _from_helper(path, store, server, environ, timeout_s)
        if found is not None:
            return found
    return None


def _entries(auths: Mapping[str, Any], repository: Repository) -> Iterator[Mapping[str, Any]]:
    """Yield the entries for a repository, the one with the longest name first."""
    named: dict[str, Any] = {}
    for key, entry in auths.items():
        bare = re.sub(r"\Ahttps?://", "", key)
        named.setdefault(re.sub(r"/v[12]/?\Z|/\Z", "", bare), entry)
    parts = str(repository).split("/")
    keys = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    for key in (*keys, *([_DOCKERS_KEY] if repository.host == DOCKER else [])):
        entry = named.get(key)
        if isinstance(entry, dict):
            yield entry


def _from_entry(path: Path, entry: Mapping[str, Any]) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    auth = entry.get("auth")
    if not auth:
        user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        return Credentials(user=user, password=password, identity_token=token) if user or token else None
    try:
        user, colon, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        user, colon, password = "", "", ""
    if not colon:
        raise HostError(f"cannot use credentials in '{path}': an 'auth' in it is not the Base64 of USER:PASSWORD")
    return Credentials(user=user, password=password.rstrip("\0"), identity_token=token)


def _from_helper(path: Path, name: Any, host: str, environ: Mapping[str, str], timeout_s: float) -> Credentials | None:
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        raise HostError(
            f"cannot use the credential helper that '{path}' names: it is called by a word, and never by a path",
            hint="'docker-credential-WORD' has to be among the programs of this machine",
        )
    program = f"docker-credential-{name}"
    passed = {key: environ[key] for key in _PASSED_ON if environ.get(key)}
    try:
        done = process.run(
            [program, "get"],
            input=host.encode(),
            timeout_s=timeout_s,
            env=passed,
            check=False,
            alone=True,
            cwd=process.ANYWHERE,
            umask=process.MASK,
        )
    except ComponentMissing as error:
        raise HostError(f"cannot get credentials for '{host}': '{path}' names {program}, which is not here") from error
    except CommandFailed:  # what it printed may have a password in it
        raise HostError(f"cannot get credentials for '{host}': {program} has not ended in {timeout_s:g} s") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise HostError(f"cannot get credentials for '{host}': {program} failed, with exit status {done.returncode}")
    return _parsed(program, host, done.stdout)


def _parsed(program: str, host: str, output: bytes) -> Credentials:
    try:
        data = parse(output)
        user, secret = data["Username"], data["Secret"]
        if not isinstance(user, str) or not isinstance(secret, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):  # not chained: it would quote what was said
        raise HostError(f"cannot get credentials for '{host}': what {program} says is no answer") from None
    if user == _NOBODY:
        return Credentials(user="", password="", identity_token=secret)
    return Credentials(user=user, password=secret)
