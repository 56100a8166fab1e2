"""The text of instar.lock → a Lock. It is checked to the last character: names, versions and paths of it become
addresses and arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from instar.lock.project_id import FORM
from instar.model.digest import Digest
from instar.model.lock import (
    ASKED,
    BAKE_FORMATS,
    ESSENTIAL,
    Artifact,
    Lock,
    Package,
    Requested,
    Suite,
    Wheel,
    package_order,
)

T = TypeVar("T")

_ADDED: Mapping[int, tuple[str, ...]] = {
    1: (),
    2: ("id",),
    3: ("id", "artifacts"),
}  # version → its keys besides those of the first
VERSIONS = tuple(_ADDED)  # those that are read; version 1 has no ``why`` either

_KEYS = ("instar-lock", "bake-format", "architecture", "requested", "suites", "packages", "python", "wheels")
_PACKAGE_KEYS = ("name", "version", "architecture", "size", "sha256", "label", "suite", "path", "step")
_PACKAGE_SET = frozenset(_PACKAGE_KEYS)
_WHEEL_KEYS = ("name", "version", "filename", "sha256")
_ARTIFACT_KEYS = ("ecosystem", "name", "version", "hash", "sha256")
_SUITE_KEYS = ("label", "suite", "date")
_REQUESTED_KEYS = ("base", "packages", "requirements")

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*\Z")
_PACKAGE_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~-]*\Z")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,200}\Z")
_SUITE = re.compile(r"[a-z0-9][A-Za-z0-9.-]*\Z")
_PATH = re.compile(r"(?![./])(?!.*(?:/\.|//))[A-Za-z0-9.+:~_/%,=@-]+\.deb\Z")
_STEP = re.compile(r"(?:base|packages)\Z")
_WHEEL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
_WHEEL_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_-]*\Z")
_FILENAME = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9][A-Za-z0-9._+!]*-[A-Za-z0-9._+!-]+\.whl\Z")
_ECOSYSTEM = re.compile(r"[a-z]{1,20}\Z")
_ARTIFACT_NAME = re.compile(r"(?!.*(?:/\.|//|/\Z))(?=.{1,300}\Z)[A-Za-z0-9@~_][A-Za-z0-9@~_.!+/-]*\Z")
_ARTIFACT_VERSION = re.compile(r"(?=.{1,200}\Z)[0-9A-Za-z][0-9A-Za-z.!+_-]*\Z")
_ARTIFACT_HASH = re.compile(r"[a-z0-9]{1,10}[:-][A-Za-z0-9+/=]{8,200}\Z")
_ARTIFACT_KIND = re.compile(r"[a-z]{1,20}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PYTHON = re.compile(r"3\.\d{1,3}\Z")
_BASE = re.compile(r"[a-z]+:[a-z][a-z0-9-]*\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")
_ID = re.compile(FORM + r"\Z")
_PACKAGE_WHY = re.compile(rf"(?:{ESSENTIAL}|{ASKED}|needed by [a-z0-9][a-z0-9+.-]*)\Z")
_WHEEL_WHY = re.compile(rf"(?:{ASKED}|needed by [a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\Z")
_SHOWN_CHARACTERS = 100
_DIGITS_LIMIT = 20


class Wrong(Exception):
    """What is wrong with the file, to be told with its name."""


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Wrong(f"the key {_twice([key for key, _ in pairs])} is there twice")
    return found


def int_of(text: str) -> int:
    """Python itself refuses to read a number of more than some thousand digits, with an error of its own."""
    if len(text) > _DIGITS_LIMIT:
        raise Wrong(f"a number has {len(text):,} digits")
    return int(text)


def constant_of(text: str) -> NoReturn:
    raise Wrong(f"it is not JSON: {text} is no number")


def lock_of(data: Any) -> Lock:
    if not isinstance(data, dict) or "instar-lock" not in data:
        raise Wrong("it is not a lock: expected an object with 'instar-lock'")
    _require_versions(data)
    is_first = data["instar-lock"] == 1
    _require_keys(data, _KEYS, "the lock", optional=_ADDED[data["instar-lock"]])
    why = () if is_first else ("why",)
    packages = _listed(data, "packages", lambda entry: _package(entry, why))
    wheels = _listed(data, "wheels", lambda entry: _wheel(entry, why))
    _require_unique([package.name for package in packages], "package")
    _require_unique([wheel.name for wheel in wheels], "wheel")
    artifacts = _listed(data, "artifacts", _artifact) if "artifacts" in data else []
    _require_unique([f"{one.ecosystem} {one.shown} {one.hash}" for one in artifacts], "artifact")
    python = None if data["python"] is None else _fit(data["python"], _PYTHON, "python")
    if wheels and python is None:
        raise Wrong("there are wheels, and 'python' is null")
    return Lock(
        bake_format=data["bake-format"],
        architecture=_fit(data["architecture"], _ARCHITECTURE, "architecture"),
        requested=_read_requested(data["requested"], () if is_first else ("suites",)),
        suites=tuple(_listed(data, "suites", _suite)),
        packages=tuple(sorted(packages, key=package_order)),
        python=python,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        artifacts=tuple(sorted(artifacts, key=lambda one: one.order)),
        id=_fit(data["id"], _ID, "id") if "id" in data else None,
    )


def _require_versions(data: Mapping[str, Any]) -> None:
    version, bake_format = data["instar-lock"], data.get("bake-format")
    if type(version) is not int or version not in VERSIONS:
        newer = type(version) is int and version > max(VERSIONS)
        raise Wrong(
            f"it was made by a newer Instar (version {version})" if newer else f"unknown version {_shown(version)}"
        )
    if type(bake_format) is not int or bake_format not in BAKE_FORMATS:
        newer = type(bake_format) is int and bake_format > max(BAKE_FORMATS)
        known = ", ".join(str(one) for one in BAKE_FORMATS)
        why = "it was made by a newer Instar: " if newer else ""
        raise Wrong(f"{why}this one cannot bake format {_shown(bake_format)}, only {known}")


def _require_keys(data: Any, keys: tuple[str, ...], where: str, *, optional: Collection[str] = ()) -> None:
    if not isinstance(data, dict):
        raise Wrong(f"{where}: expected an object")
    if missing := sorted(set(keys) - data.keys()):
        raise Wrong(f"{where}: {missing[0]!r} is missing")
    if unknown := sorted(data.keys() - {*keys, *optional}):
        raise Wrong(f"{where}: unknown key {_shown(unknown[0])}")


def _listed(data: Mapping[str, Any], key: str, build: Callable[[Any], T]) -> list[T]:
    entries = data[key]
    if not isinstance(entries, list):
        raise Wrong(f"{key}: expected a list")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(build(entry))
        except Wrong as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            is_name = isinstance(name, str) and len(name) <= _SHOWN_CHARACTERS and _LINE.match(name)
            raise Wrong(f"{key}, entry {number}{f' ({name})' if is_name else ''}: {error}") from error
    return found


def _package(entry: Any, why: Collection[str]) -> Package:
    if not isinstance(entry, dict) or entry.keys() != _PACKAGE_SET:
        _require_keys(entry, _PACKAGE_KEYS, "package", optional=why)
    size_bytes = entry["size"]
    if type(size_bytes) is not int or size_bytes < 0:
        raise Wrong(f"size: expected a number of bytes, found {_shown(size_bytes)}")
    return Package(
        name=_fit(entry["name"], _PACKAGE_NAME, "name"),
        version=_fit(entry["version"], _PACKAGE_VERSION, "version"),
        architecture=_fit(entry["architecture"], _ARCHITECTURE, "architecture"),
        size_bytes=size_bytes,
        sha256=Digest.from_hex(_fit(entry["sha256"], _SHA256, "sha256")),
        label=_fit(entry["label"], _LABEL, "label"),
        suite=_fit(entry["suite"], _SUITE, "suite"),
        path=_fit(entry["path"], _PATH, "path"),
        step="base" if _fit(entry["step"], _STEP, "step") == "base" else "packages",
        why=_fit(entry["why"], _PACKAGE_WHY, "why") if "why" in entry else None,
    )


def _wheel(entry: Any, why: Collection[str]) -> Wheel:
    _require_keys(entry, _WHEEL_KEYS, "wheel", optional=why)
    return Wheel(
        name=_fit(entry["name"], _WHEEL_NAME, "name"),
        version=_fit(entry["version"], _WHEEL_VERSION, "version"),
        filename=_fit(entry["filename"], _FILENAME, "filename"),
        sha256=Digest.from_hex(_fit(entry["sha256"], _SHA256, "sha256")),
        why=_fit(entry["why"], _WHEEL_WHY, "why") if "why" in entry else None,
    )


def _artifact(entry: Any) -> Artifact:
    _require_keys(entry, _ARTIFACT_KEYS, "artifact", optional=("kind",))
    return Artifact(
        ecosystem=_fit(entry["ecosystem"], _ECOSYSTEM, "ecosystem"),
        name=_fit(entry["name"], _ARTIFACT_NAME, "name"),
        version=_fit(entry["version"], _ARTIFACT_VERSION, "version"),
        hash=_fit(entry["hash"], _ARTIFACT_HASH, "hash"),
        sha256=Digest.from_hex(_fit(entry["sha256"], _SHA256, "sha256")),
        kind=_fit(entry["kind"], _ARTIFACT_KIND, "kind") if "kind" in entry else "",
    )


def _suite(entry: Any) -> Suite:
    from datetime import datetime

    _require_keys(entry, _SUITE_KEYS, "suite")
    text = _fit(entry["date"], _DATE, "date")
    try:
        date = int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise Wrong(f"date: {text!r} is none") from error
    return Suite(label=_fit(entry["label"], _LABEL, "label"), suite=_fit(entry["suite"], _SUITE, "suite"), date=date)


def _read_requested(entry: Any, suites: Collection[str]) -> Requested:
    _require_keys(entry, _REQUESTED_KEYS, "requested", optional=suites)
    return Requested(
        base=_fit(entry["base"], _BASE, "base"),
        packages=tuple(_listed(entry, "packages", lambda one: _fit(one, _LINE, "package"))),
        requirements=tuple(_listed(entry, "requirements", lambda one: _fit(one, _LINE, "requirement"))),
        suites=tuple(_listed(entry, "suites", lambda one: _fit(one, _SUITE, "suite")) if "suites" in entry else ()),
    )


def _fit(value: Any, form: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{what}: expected text, found {_shown(value)}")
    if not form.match(value):
        raise Wrong(f"{what}: {_shown(value)} has not the form of one")
    return value


def _require_unique(names: Sequence[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise Wrong(f"the {what} {_twice(names)} is there twice")


def _twice(names: Sequence[str]) -> str:
    seen = set[str]()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return _shown(name)


def _shown(value: Any) -> str:
    """Return a value for a message: in one line, and not longer than one wants to read."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
