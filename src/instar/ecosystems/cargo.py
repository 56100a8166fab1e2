"""Cargo: what ``Cargo.lock`` names, offered to the lines of ``run`` as a registry in a folder.

A file of settings in cargo's home, which is in the sandbox's ``/tmp``, has it take that folder for the registry. It
unpacks crates itself, and holds each against the checksum in ``Cargo.lock``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from instar.ecosystems import author
from instar.ecosystems.author import AuthorText, one_of_each
from instar.ecosystems.protocol import FileSource, Manifest, WantedFile, offer
from instar.ecosystems.toml import read_toml
from instar.fetch.cache import Cache
from instar.model.lock import Artifact

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_VERSION: Final = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}[0-9A-Za-z.+-]{0,100}\Z")
_CHECKSUM: Final = re.compile(r"[0-9a-f]{64}\Z")
_KINDS: Final = ("dependencies", "dev-dependencies", "build-dependencies")
_ANEW: Final = "cargo writes it anew: cargo update --workspace"
_REGISTRY: Final = "/run/instar/cargo"
_HOME: Final = "/tmp/cargo"  # noqa: S108  the sandbox's own
_SETTINGS: Final = f"""\
[source.crates-io]
replace-with = "instar"

[source.instar]
local-registry = "{_REGISTRY}"
"""


class Cargo:
    name: Final = "cargo"

    def read(self, folder: Path, use: str, architecture: str) -> Manifest:
        manifest = author.read(folder, use, "Cargo.toml", missing="cargo init makes one")
        lock = author.read(folder, use, "Cargo.lock", missing="cargo generate-lockfile makes it")
        packages = _packages(lock)
        _require_fit(manifest, packages)
        return Manifest(wanted=one_of_each(lock, _wanted(lock, packages), _ANEW), files={})

    def source(self) -> FileSource:
        from instar.ecosystems.cargo_registry import Crates

        return Crates.of_this_machine()

    def environment(self) -> Mapping[str, str]:
        return {"CARGO_HOME": _HOME, "CARGO_NET_OFFLINE": "true"}

    def lay_out(self, artifacts: Sequence[Artifact], cache: Cache, folder: Path) -> Mapping[str, Path]:
        """Source: The Cargo Book, Source Replacement (local registry sources), Registry Index."""
        from instar.ecosystems.cargo_index import index_line, index_path

        for one in artifacts:
            crate = cache.verify(one.sha256)
            offer(crate, folder / f"{one.name}-{one.version}.crate", one)
            index = folder / "index" / index_path(one.name)
            index.parent.mkdir(parents=True, exist_ok=True)
            with index.open("a") as file:
                file.write(index_line(crate, one))
        settings = folder.with_name("cargo-settings.toml")
        settings.write_text(_SETTINGS)
        return {_REGISTRY: folder, f"{_HOME}/config.toml": settings}


ECOSYSTEM: Final = Cargo()


def _toml(file: AuthorText) -> dict[str, Any]:
    try:
        return read_toml(file.text)
    except ValueError as error:
        file.refuse(f"it is not TOML: {str(error)[:200]}")


def _packages(lock: AuthorText) -> list[dict[str, Any]]:
    packages = _toml(lock).get("package", [])
    if not isinstance(packages, list) or not all(isinstance(one, dict) for one in packages):
        lock.refuse("its packages cannot be read", hint=_ANEW)
    return packages


def _require_fit(manifest: AuthorText, packages: Sequence[Mapping[str, Any]]) -> None:
    """What Cargo.toml asks for has to be in the lock file. Raises DefinitionError."""
    found = _toml(manifest)
    names = {one.get("name") for one in packages}
    own = found.get("package")
    if isinstance(own, dict) and own.get("name") not in names:
        manifest.refuse(f"'{own.get('name')}' is not in Cargo.lock", "[package]", hint=_ANEW)
    for key, wanted in _dependencies(found):
        name = wanted.get("package", key) if isinstance(wanted, dict) else key
        if name not in names:
            manifest.refuse(f"'{name}' is asked for here, and is not in Cargo.lock", str(key), hint=_ANEW)


def _dependencies(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a manifest asks for, of every kind and for every platform."""
    targets = found.get("target")
    tables = [found, *(targets.values() if isinstance(targets, dict) else ())]
    for table in (one for one in tables if isinstance(one, dict)):
        for kind in _KINDS:
            named = table.get(kind)
            yield from named.items() if isinstance(named, dict) else ()


def _wanted(lock: AuthorText, packages: Sequence[Mapping[str, Any]]) -> Iterator[WantedFile]:
    """Yield the crates that are from the registry: what has no source is the author's own, and comes by ``files``."""
    first: Any = None
    for package in packages:
        name, version, source = package.get("name"), package.get("version"), package.get("source")
        at = f'name = "{name}"'
        if source is None:
            continue
        if not isinstance(name, str) or not isinstance(version, str) or not isinstance(source, str):
            lock.refuse("a package of it has no name, version and source that can be read", at, hint=_ANEW)
        if not _NAME.match(name) or not _VERSION.match(version):
            lock.refuse("this has not the form of a crate's name and version", at, hint=_ANEW)
        if not source.startswith(("registry+", "sparse+")):
            lock.refuse(
                f"'{name}' comes from git, which no registry vouches for", at, hint="ask for a version on the registry"
            )
        if (first := first or source) != source:
            lock.refuse(f"'{name}' is of another registry than others are; those of one are known here", at)
        checksum = package.get("checksum")
        if not isinstance(checksum, str) or not _CHECKSUM.match(checksum):
            lock.refuse(f"'{name}' {version} has no checksum", at, hint=_ANEW)
        yield WantedFile(
            ecosystem="cargo",
            name=name,
            version=version,
            hash=f"sha256:{checksum}",
            place=lock.place(f'{at}\nversion = "{version}"'),
        )
