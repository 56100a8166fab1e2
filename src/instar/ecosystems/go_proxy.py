"""Where Go's modules are: the proxies that this machine's ``GOPROXY`` names, asked in its order.

``GOPROXY`` is taken from the environment, from go's own file of settings, or from the machine's go. What go would take
from a repository itself (``direct``, ``GOPRIVATE``) is not taken: no program of version control is run for an image.
"""

from __future__ import annotations

import base64
import fnmatch
import netrc
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from instar import process
from instar.ecosystems.download import Downloads, Missing
from instar.ecosystems.go import escaped
from instar.ecosystems.go_hashes import hash_of
from instar.ecosystems.protocol import WantedFile
from instar.errors import CommandFailed, ComponentMissing, FetchError, HashMismatch
from instar.fetch.cache import Cache
from instar.fetch.network import network_environment
from instar.model.digest import Digest
from instar.store.members import Malformed

_CONFIGURED: Final = "go env GOPROXY, by who calls this, shows which proxies are asked"
_NAMES: Final = ("GOPROXY", "GONOPROXY", "GOPRIVATE")
_ASK_TIMEOUT_S: Final = 60
_LIMIT_BYTES: Final = 1 << 20


class Proxies:
    """``settings``: GOPROXY and what modules it is not for, by their names."""

    def __init__(self, settings: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> None:
        given = _listed(settings.get("GOPROXY", ""))
        try:
            self._proxies = [_without_password(one) for one in given]
        except ValueError as error:  # nothing of it is shown: there may be a password in it
            raise FetchError("cannot read GOPROXY: there is an address in it that is none", hint=_CONFIGURED) from error
        self._private = [one for one in settings.get("GONOPROXY", settings.get("GOPRIVATE", "")).split(",") if one]
        passwords = _passwords(environ) | dict(one for url in given for one in _password(url))
        self._downloads = Downloads(
            configured=_CONFIGURED,
            authorise=lambda url: passwords.get(urlsplit(url).netloc),
            environ=environ,
        )

    @classmethod
    def of_this_machine(cls) -> Proxies:
        """Raises ComponentMissing where nothing names a proxy."""
        settings = read_settings(os.environ)
        return cls(settings if settings.get("GOPROXY") else {**settings, "GOPROXY": _proxy_of_go()})

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        what = f"'{one.name}' {one.version}"
        if any(_covers(pattern, one.name) for pattern in self._private):
            raise FetchError(
                f"cannot fetch {what}: this machine's GOPRIVATE or GONOPROXY takes it from its own repository",
                hint="let a proxy of yours serve it, or copy it with image.files and 'replace' it by that folder",
            )
        missing: Missing | None = None
        for proxy in self._proxies:
            if proxy in ("direct", "off"):
                break
            url = f"{proxy.rstrip('/')}/{escaped(one.name)}/@v/{escaped(one.version)}.{one.kind}"
            try:
                return self._downloads.keep(url, what, cache, expected, lambda path: _check(one, path))
            except Missing as error:
                missing = error
        raise missing or FetchError(f"cannot fetch {what}: GOPROXY names no proxy that can be asked", hint=_CONFIGURED)


def read_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what go's file of settings says, and the environment. Source: go help environment."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/nonexistent"), ".config"))
    file = Path(environ.get("GOENV") or Path(home, "go/env"))
    try:
        with file.open("rb") as opened:
            lines = opened.read(_LIMIT_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z0-9_]+=", line))
    found |= {name: environ[name] for name in _NAMES if environ.get(name)}
    return {name: value for name, value in found.items() if name in _NAMES}


def _check(one: WantedFile, path: Path) -> None:
    try:
        found = hash_of(path, one.kind)
    except Malformed as error:
        raise HashMismatch(f"it is no module's archive: {error}") from error
    if found != one.hash:
        raise HashMismatch(f"its hash is not the one that go.sum has ({one.place or one.hash})")


def _listed(proxies: str) -> list[str]:
    return [one.strip() for one in re.split("[,|]", proxies) if one.strip()]


def _covers(pattern: str, path: str) -> bool:
    """Tell whether a pattern matches the beginning of a module's path. Source: go help private."""
    depth = pattern.rstrip("/").count("/") + 1
    return fnmatch.fnmatchcase("/".join(path.split("/")[:depth]), pattern.rstrip("/"))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _password(url: str) -> list[tuple[str, str]]:
    """Return what an address with a password in it says of who asks, by its host."""
    parts = urlsplit(url)
    if parts.username is None:
        return []
    return [(parts.netloc.rpartition("@")[2], _basic(unquote(parts.username), unquote(parts.password or "")))]


def _passwords(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what ``.netrc`` has, by hosts, as go does."""
    file = environ.get("NETRC") or str(Path(environ.get("HOME", "/nonexistent"), ".netrc"))
    try:
        found = netrc.netrc(file).hosts
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return {}
    return {host: _basic(user, word) for host, (user, _, word) in found.items() if host != "default"}


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _proxy_of_go() -> str:
    """Return the proxies that the machine's go asks when nothing names one."""
    hint = "name one for who calls this: GOPROXY=ADDRESS in its environment or in ~/.config/go/env"
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ComponentMissing("cannot ask a proxy of Go's: none is configured, and this machine has no go", hint=hint)
    environ = network_environment() | {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    try:
        done = process.run([go, "env", "GOPROXY"], timeout_s=_ASK_TIMEOUT_S, env=environ, cwd=Path("/"))
    except CommandFailed as error:
        raise FetchError(f"cannot ask go for its proxies: {error.message}", hint=hint) from error
    return done.stdout.decode("utf-8", "replace").strip()
