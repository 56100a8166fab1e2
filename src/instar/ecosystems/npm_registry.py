"""Where npm's packages are: the machine's own npm configuration, read as data, and the registries that it names.

Read are the caller's ``~/.npmrc``, the machine's ``npmrc`` and ``npm_config_…`` of the environment; a ``.npmrc`` beside
a definition never is. Where none of them names a registry, the machine's npm is asked for its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from instar import process
from instar.ecosystems import npm_hashes
from instar.ecosystems.download import Downloads, Missing, sent_to
from instar.ecosystems.protocol import WantedFile
from instar.errors import CommandFailed, ComponentMissing, FetchError, HashMismatch
from instar.fetch.cache import Cache
from instar.fetch.indexes import TOKEN_USER, find_index
from instar.frozen import dataclass
from instar.model.digest import Digest

_GLOBAL: Final = ("/etc/npmrc", "/usr/local/etc/npmrc", "/usr/etc/npmrc")
_LINE: Final = re.compile(r"\s*([^;#=\s][^=]*?)\s*=\s*(.*?)\s*\Z")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FROM_ENVIRONMENT: Final = ("registry", "cafile", "proxy", "https_proxy", "noproxy")
_CONFIGURED: Final = "npm config list, in the home of who calls this, shows which registry is asked; ~/.npmrc says it"
_SHORT: Final = "application/vnd.npm.install-v1+json"
_LIMIT_BYTES: Final = 1 << 20
_ASK_TIMEOUT_S: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class NpmConfiguration:
    """npm's settings by their names; the environment's are among them."""

    settings: Mapping[str, str]

    def registry(self, name: str) -> str | None:
        """Return the address of the registry that has a package, without the slash at its end."""
        scope = name.partition("/")[0] if name.startswith("@") else None
        own = self.settings.get(f"{scope}:registry") if scope else None
        found = own or self.settings.get("registry")
        return found.rstrip("/") if found else None

    def authorisation(self, url: str) -> str | None:
        """Return what a request for ``url`` says of who asks: only what is configured for that very host and path."""
        parts = urlsplit(url)
        at = f"//{parts.netloc}{parts.path}"
        while "/" in at[2:]:
            at = at.rpartition("/")[0]
            if token := self.settings.get(f"{at}/:_authToken"):
                return f"Bearer {token}"
            if basic := self.settings.get(f"{at}/:_auth"):
                return f"Basic {basic}"
            user, password = self.settings.get(f"{at}/:username"), self.settings.get(f"{at}/:_password")
            if user and password:
                return f"Basic {base64.b64encode(user.encode() + b':' + _decoded(password, at)).decode()}"
        return None

    def proxies(self, environ: Mapping[str, str]) -> dict[str, str]:
        told = {
            "http_proxy": self.settings.get("proxy"),
            "https_proxy": self.settings.get("https_proxy") or self.settings.get("proxy"),
            "no_proxy": self.settings.get("noproxy"),
        }
        return {**environ, **{name: value for name, value in told.items() if value and value not in ("null", "false")}}


def _decoded(password: str, at: str) -> bytes:
    try:
        return base64.b64decode(password, validate=True)
    except ValueError as error:
        raise FetchError(
            f"cannot use the password for '{at}/': its '_password' is not base64", hint=_CONFIGURED
        ) from error


def read_configuration(environ: Mapping[str, str] = os.environ) -> NpmConfiguration:
    """Read the machine's configuration. What cannot be read says nothing. Raises FetchError."""
    named = {name.lower(): value for name, value in environ.items() if name.lower().startswith("npm_config_") and value}
    files = [named["npm_config_globalconfig"]] if "npm_config_globalconfig" in named else list(_GLOBAL)
    files.append(named.get("npm_config_userconfig") or str(Path(environ.get("HOME", "/nonexistent"), ".npmrc")))
    settings: dict[str, str] = {}
    for file in files:
        settings |= _settings(Path(file), environ)
    for name in _FROM_ENVIRONMENT:
        if value := named.get(f"npm_config_{name}"):
            settings[name] = value
    return NpmConfiguration(settings=settings)


def _settings(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a file says. Source: npm's documentation, npmrc."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            value = match[2]
            value = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
            name = match[1] if match[1].startswith(("//", "@")) else match[1].replace("-", "_")
            found[name] = _VARIABLE.sub(lambda known: environ.get(known[1], ""), value)
    return found


class Registries:
    """Those that npm is configured for, and those that definitions name. Each is looked for when it is first asked."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str | None, Registry] = {}

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        """Raises ComponentMissing where nothing names a registry, HostError for a password that cannot be read."""
        with self._guard:
            if one.index not in self._known:
                named = one.index is not None
                self._known[one.index] = Registry.named(str(one.index)) if named else Registry.of_this_machine()
            registry = self._known[one.index]
        return registry.bring(one, cache, expected)


class Registry:
    """The registries of a configuration."""

    def __init__(
        self,
        configuration: NpmConfiguration,
        environ: Mapping[str, str] = os.environ,
        configured: str = _CONFIGURED,
    ) -> None:
        self._configuration = configuration
        self._downloads = Downloads(
            configured=configured,
            authorise=configuration.authorisation,
            ca=configuration.settings.get("cafile"),
            environ=configuration.proxies(environ),
        )

    @classmethod
    def of_this_machine(cls) -> Registry:
        """Raises ComponentMissing where nothing names a registry."""
        found = read_configuration()
        if found.settings.get("registry"):
            return cls(found)
        return cls(NpmConfiguration(settings={**found.settings, "registry": _registry_of_npm()}))

    @classmethod
    def named(cls, name: str, environ: Mapping[str, str] = os.environ) -> Registry:
        """Return the index that this machine calls ``name``. Raises FetchError, HostError, MachineFileError."""
        index = find_index(name, environ)
        parts = urlsplit(index.url.rstrip("/"))
        at = f"//{parts.netloc}{parts.path}/"
        settings = {"registry": index.url, **({"cafile": index.ca} if index.ca else {})}
        if index.login is not None and index.login.user == TOKEN_USER:
            settings[f"{at}:_authToken"] = index.login.password
        elif index.login is not None:
            settings[f"{at}:username"] = index.login.user
            settings[f"{at}:_password"] = base64.b64encode(index.login.password.encode()).decode()
        return cls(NpmConfiguration(settings=settings), environ, f"indexes.{name} in this machine's own file says it")

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        registry = self._configuration.registry(one.name)
        assert registry is not None
        what = f"'{one.name}' {one.version}"
        base = one.name.rpartition("/")[2]
        url = f"{registry}/{one.name}/-/{quote(f'{base}-{one.version}.tgz')}"

        def check(path: Path) -> None:
            kind, digest = npm_hashes.digest(one.hash)
            with path.open("rb") as file:
                if hashlib.file_digest(file, kind).digest() != digest:
                    raise HashMismatch(f"its hash is not the one that package-lock.json has ({one.place or one.hash})")

        try:
            return self._downloads.keep(url, what, cache, expected, check)
        except Missing:
            return self._downloads.keep(self._address(registry, one, what), what, cache, expected, check)

    def _address(self, registry: str, one: WantedFile, what: str) -> str:
        """Return where the registry itself says that a file is. Raises Missing, FetchError."""
        url = f"{registry}/{one.name.replace('/', '%2f')}"
        page = self._downloads.page(url, what, accept=_SHORT)
        try:
            address = json.loads(page)["versions"][one.version]["dist"]["tarball"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Missing(
                f"cannot fetch {what}: '{urlsplit(registry).hostname}' has no such version",
                hint="it was taken back, or is on a registry that this machine does not ask: npm view"
                f" {one.name}@{one.version}",
            ) from error
        if not isinstance(address, str):
            raise FetchError(f"cannot fetch {what}: its registry's answer is none of a registry of npm's")
        return sent_to(url, address, what)


def _registry_of_npm() -> str:
    """Return the registry that the machine's npm asks when nothing names one."""
    hint = "write it into ~/.npmrc of who calls this: registry=ADDRESS"
    if shutil.which("npm") is None:
        raise ComponentMissing(
            "cannot ask a registry of npm: none is configured, and this machine has no npm", hint=hint
        )
    environ = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="instar-npm-") as nowhere:  # npm writes what it did into its cache
        ask = ["npm", "--prefix", "/", "--cache", nowhere, "config", "get", "registry"]
        try:
            done = process.run(ask, timeout_s=_ASK_TIMEOUT_S, env=environ)
        except CommandFailed as error:
            raise FetchError(f"cannot ask npm for its registry: {error.message}", hint=hint) from error
    found = done.stdout.decode("utf-8", "replace").strip()
    if not re.match(r"https?://\S+\Z", found):
        raise FetchError("cannot ask npm for its registry: it names none", hint=hint)
    return found
