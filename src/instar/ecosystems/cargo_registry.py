"""Where crates are: what this machine's cargo takes for the registry, and where that has its files.

A registry says in its index where its files are. The index is the one that cargo's own settings have in place of the
registry (``[source.crates-io] replace-with``), if it is sparse; else the machine's cargo is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from instar import process
from instar.ecosystems.download import Downloads, sent_to
from instar.ecosystems.protocol import WantedFile
from instar.errors import CommandFailed, ComponentMissing, FetchError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.network import network_environment
from instar.model.digest import Digest

_CONFIGURED: Final = "the settings of cargo of who calls this (~/.cargo/config.toml) say which registry is asked"
_PASSED: Final = ("CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "RUSTUP_")
_ASK_TIMEOUT_S: Final = 300
_MARKERS: Final = ("{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}")


class Crates:
    """The files of a registry, whose index says that they are at ``template``."""

    def __init__(self, template: str, downloads: Downloads, index: str = "") -> None:
        self._template = template
        self._downloads = downloads
        self._index = index

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> Crates:
        """Raises ComponentMissing where neither settings nor a cargo name a registry."""
        home = Path(environ.get("CARGO_HOME") or Path(environ.get("HOME", "/nonexistent"), ".cargo"))
        settings = _settings(home)
        name, index = _replacement(settings)
        token = environ.get(f"CARGO_REGISTRIES_{name.upper().replace('-', '_')}_TOKEN") or _token(home, name)
        http = settings.get("http")
        ca = http.get("cainfo") if isinstance(http, dict) else None
        host = _host(index)
        downloads = Downloads(
            configured=_CONFIGURED,
            authorise=lambda url: token if token and urlsplit(url).netloc == host else None,
            ca=environ.get("CARGO_HTTP_CAINFO") or (ca if isinstance(ca, str) else None),
            environ=environ,
        )
        if index:
            page = downloads.page(f"{index.rstrip('/')}/config.json", "the settings of the registry of crates")
        else:
            page = _settings_by_cargo(home, environ)
        return cls(_template(page), downloads, index)

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        what = f"'{one.name}' {one.version}"
        checksum = one.known_sha256
        address = sent_to(self._index, self._address(one), what) if self._index else self._address(one)
        return self._downloads.keep(address, what, cache, expected or checksum, lambda path: None)

    def _address(self, one: WantedFile) -> str:
        if not any(marker in self._template for marker in _MARKERS):
            return f"{self._template.rstrip('/')}/{one.name}/{one.version}/download"
        from instar.ecosystems.cargo_index import index_path

        prefix = index_path(one.name).rpartition("/")[0]
        given = (one.name, one.version, prefix, prefix.lower(), one.hash.removeprefix("sha256:"))
        found = self._template
        for marker, value in zip(_MARKERS, given, strict=True):
            found = found.replace(marker, value)
        return found


def _host(index: str) -> str:
    try:
        return urlsplit(index).netloc
    except ValueError as error:
        raise FetchError("cannot ask the registry of crates: its address is none", hint=_CONFIGURED) from error


def _settings(home: Path) -> dict[str, Any]:
    for name in ("config.toml", "config"):
        if found := _read(home / name):
            return found
    return {}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise FetchError(f"cannot read cargo's settings in '{file}': they are no TOML that can be read") from error


def _replacement(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the address of the sparse index that is in place of the registry; ("crates-io", "") for
    none."""
    sources, name = settings.get("source"), "crates-io"
    seen = set[str]()
    while isinstance(sources, dict) and isinstance(one := sources.get(name), dict) and name not in seen:
        seen.add(name)
        other = one.get("replace-with")
        if not isinstance(other, str):
            index = one.get("registry")
            return name, index.removeprefix("sparse+") if isinstance(index, str) and index.startswith("sparse+") else ""
        name = other
    registries = settings.get("registries")
    one = registries.get(name) if isinstance(registries, dict) else None
    index = one.get("index") if isinstance(one, dict) else None
    return name, index.removeprefix("sparse+") if isinstance(index, str) and index.startswith("sparse+") else ""


def _token(home: Path, name: str) -> str | None:
    for file in ("credentials.toml", "credentials"):
        registries = _read(home / file).get("registries")
        one = registries.get(name) if isinstance(registries, dict) else None
        token = one.get("token") if isinstance(one, dict) else None
        if isinstance(token, str):
            return token
    return None


def _template(page: bytes) -> str:
    try:
        found = json.loads(page)["dl"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise FetchError("cannot ask the registry of crates: its index does not say where its files are")
    return found


def _settings_by_cargo(home: Path, environ: Mapping[str, str]) -> bytes:
    """Have the machine's cargo ask its registry for anything, and return what it has noted of the registry."""
    cargo = shutil.which("cargo") or shutil.which(str(home / "bin/cargo"))
    if cargo is None:
        raise ComponentMissing(
            "cannot ask a registry of crates: none is configured, and this machine has no cargo",
            hint="name one in ~/.cargo/config.toml: [source.crates-io] replace-with, and a 'sparse+…' registry",
        )
    with tempfile.TemporaryDirectory(prefix="instar-cargo-") as made:
        folder = Path(made)
        (folder / "home").mkdir()
        for name in ("config.toml", "config"):
            if (home / name).is_file():
                shutil.copy(home / name, folder / "home" / name)
        (folder / "src").mkdir()
        (folder / "src/lib.rs").touch()
        text = '[package]\nname = "instar-asks"\nversion = "0.0.0"\n[dependencies]\ncfg-if = "1"\n[workspace]\n'
        (folder / "Cargo.toml").write_text(text)
        passed = {name: value for name, value in environ.items() if name.startswith(_PASSED)}
        own = {"HOME": environ.get("HOME", "/nonexistent"), "CARGO_HOME": str(folder / "home")}
        command = [cargo, "generate-lockfile", "--manifest-path", str(folder / "Cargo.toml")]
        try:
            environment = {**network_environment(environ), **passed, **own}
            process.run(command, timeout_s=_ASK_TIMEOUT_S, env=environment, cwd=Path("/"))
        except CommandFailed as error:
            raise SourceUnreachable(f"cannot ask the registry of crates: {error.message}", hint=_CONFIGURED) from error
        for noted in (folder / "home/registry/index").glob("*/config.json"):
            return noted.read_bytes()
    raise FetchError("cannot ask the registry of crates: cargo has noted nothing of it", hint=_CONFIGURED)
