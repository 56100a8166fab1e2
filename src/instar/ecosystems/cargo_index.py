"""A crate → what a registry's index has of it, by the ``Cargo.toml`` in it. Source: The Cargo Book, Registry Index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from instar.ecosystems.toml import read_toml
from instar.errors import BakeError
from instar.model.lock import Artifact
from instar.store.compression import gunzipped
from instar.store.members import Malformed, Members, Stream

_UNPACKED_LIMIT_BYTES: Final = 1 << 30
_MANIFEST_LIMIT_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 20
_KINDS: Final = {"dependencies": "normal", "build-dependencies": "build"}


def index_path(name: str) -> str:
    """Return where in an index the lines of a crate are."""
    lower = name.lower()
    if len(lower) < 4:
        return f"{len(lower)}/{lower}" if len(lower) < 3 else f"3/{lower[0]}/{lower}"
    return f"{lower[:2]}/{lower[2:4]}/{lower}"


def index_line(crate: Path, one: Artifact) -> str:
    """Return the line of a crate. Raises BakeError for what is none."""
    try:
        found = _manifest(crate, f"{one.name}-{one.version}/Cargo.toml")
        own = _table(found, "package")
        if (own.get("name"), own.get("version")) != (one.name, one.version):
            raise Malformed(f"inside is '{own.get('name')} {own.get('version')}'")
        return f"{json.dumps(_line(found, one), sort_keys=True, allow_nan=False)}\n"
    except (ValueError, RecursionError, TypeError) as error:  # TOML says dates, and what JSON says not
        raise BakeError(
            f"cannot use the crate '{one.name}' {one.version}: {str(error)[:200]}", hint="choose another version of it"
        ) from error


def _line(found: Mapping[str, Any], one: Artifact) -> dict[str, Any]:
    features = _features(found)
    plain = {name: given for name, given in features.items() if not any(_is_new(each) for each in given)}
    return {
        "name": one.name,
        "vers": one.version,
        "deps": list(_dependencies(found)),
        "cksum": one.sha256.hex,
        "features": plain,
        "features2": {name: given for name, given in features.items() if name not in plain},
        "yanked": False,
        "links": _table(found, "package").get("links"),
        "v": 2,
    }


def _manifest(crate: Path, name: str) -> Mapping[str, Any]:
    with crate.open("rb") as file:
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        members = Members(Stream(gunzipped(chunks), limit_bytes=_UNPACKED_LIMIT_BYTES), marked_end=True)
        for entry in members:
            if entry.name == name.encode():
                if entry.size > _MANIFEST_LIMIT_BYTES:
                    raise Malformed("its Cargo.toml is too large to be one")
                return read_toml(b"".join(members.content()).decode())
    raise Malformed("there is no Cargo.toml in it")


def _dependencies(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    targets = [(None, found), *_table(found, "target").items()]
    for target, table in targets:
        for section, kind in _KINDS.items():
            for name, given in _table(table if isinstance(table, dict) else {}, section).items():
                wanted = {"version": given} if isinstance(given, str) else given if isinstance(given, dict) else {}
                yield {
                    "name": name,
                    "req": wanted.get("version", "*"),
                    "features": wanted.get("features", []),
                    "optional": wanted.get("optional", False),
                    "default_features": wanted.get("default-features", wanted.get("default_features", True)),
                    "target": target,
                    "kind": kind,
                    **({"package": wanted["package"]} if "package" in wanted else {}),
                }


def _features(found: Mapping[str, Any]) -> dict[str, list[str]]:
    features = _table(found, "features")
    if not all(isinstance(given, list) and all(isinstance(each, str) for each in given) for given in features.values()):
        raise Malformed("its features cannot be read")
    return features


def _is_new(feature: str) -> bool:
    return feature.startswith("dep:") or "?/" in feature


def _table(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise Malformed(f"its '{name}' cannot be read")
    return table
