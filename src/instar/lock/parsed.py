"""The text of instar.lock → a Lock. It is checked to the last character: names, versions and paths of it become
addresses and arguments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from instar.definition import archive_forms
from instar.lock.checked import LINE, WrongLock, fit, listed, require_keys, require_unique, seconds_of, shown
from instar.lock.project_id import FORM
from instar.model import names
from instar.model.architectures import architecture_of, platform_of
from instar.model.base import IMAGE, OCI
from instar.model.digest import Digest
from instar.model.lock import (
    ASKED,
    BAKE_FORMATS,
    ESSENTIAL,
    Artifact,
    BaseImage,
    Installed,
    InstalledPackage,
    Lock,
    Package,
    Requested,
    RequestedArchive,
    SourceBuild,
    Suite,
    Wheel,
    package_order,
)

_ADDED: Mapping[int, tuple[str, ...]] = {
    1: (),
    2: ("id",),
    3: ("id", "base", "installed", "artifacts", "resolved", "build", "platforms"),
}  # version → its keys besides those of the first
VERSIONS = tuple(_ADDED)  # those that are read; version 1 has no ``why`` either

_KEYS = ("instar-lock", "bake-format", "architecture", "requested", "suites", "packages", "python", "wheels")
_OF_THE_WHOLE = ("instar-lock", "bake-format", "architecture")
_NOT_OF_A_STAGE = ("instar-lock", "bake-format", "id", "build", "platforms")
_NOT_OF_A_PLATFORM = (*_OF_THE_WHOLE, "id", "platforms")
_PACKAGE_KEYS = ("name", "version", "architecture", "size", "sha256", "label", "suite", "path", "step")
_PACKAGE_SET = frozenset(_PACKAGE_KEYS)
_WHEEL_KEYS = ("name", "version", "filename", "sha256")
_ARCHIVE_KEYS = ("name", "suites", "components", "packages")
_ARTIFACT_KEYS = ("ecosystem", "name", "version", "hash", "sha256")
_SUITE_KEYS = ("label", "suite", "date")
_REQUESTED_KEYS = ("base", "packages", "requirements")
_REQUESTED_LATER = ("archives", "indexes", "from-source")
_BUILD_KEYS = ("stage", "inputs", "filename", "sha256", "requires")

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*\Z")
_PACKAGE_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~-]*\Z")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_PLATFORM = re.compile(r"linux/[a-z0-9][a-z0-9-]{0,20}\Z")
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,200}\Z")
_SUITE = re.compile(r"[a-z0-9][A-Za-z0-9.-]*\Z")
_SUITE_OF_OTHERS = re.compile(archive_forms.SUITE + r"\Z")
_NAME = re.compile(names.NAME.pattern + r"\Z")
_PATH = re.compile(r"(?![./])(?!.*(?:/\.|//))[A-Za-z0-9.+:~_/%,=@-]+\.deb\Z")
_STEP = re.compile(r"(?:base|packages)\Z")
_WHEEL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
_WHEEL_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_-]*\Z")
_FILENAME = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9][A-Za-z0-9._+!]*-[A-Za-z0-9._+!-]+\.whl\Z")
_WHEEL_PATH = re.compile(r"(?!\.{1,2}/|/)(?!.*(?:/\.{1,2}/|//))[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,4000}\.whl\Z", re.I)
_SOURCE_FILENAME = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9][A-Za-z0-9._+!-]*-[A-Za-z0-9._+!]+\.tar\.gz\Z")
_ECOSYSTEM = re.compile(r"[a-z]{1,20}\Z")
_ARTIFACT_NAME = re.compile(r"(?!.*(?:/\.|//|/\Z))(?=.{1,300}\Z)[A-Za-z0-9@~_][A-Za-z0-9@~_.!+/-]*\Z")
_ARTIFACT_VERSION = re.compile(r"(?=.{1,200}\Z)[0-9A-Za-z][0-9A-Za-z.!+_-]*\Z")
_ARTIFACT_HASH = re.compile(r"[a-z0-9]{1,10}[:-][A-Za-z0-9+/=]{8,200}\Z")
_ARTIFACT_KIND = re.compile(r"(?!.*\.\.)[a-z0-9][A-Za-z0-9._-]{0,100}(?::[a-z0-9.]{1,20})?\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PYTHON = re.compile(r"3\.\d{1,3}\Z")
_BASE = re.compile(r"(?:debian:[a-z][a-z0-9-]*|scratch|(?:oci|image):[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1000})\Z")
_RELEASE = re.compile(r"(?:debian|ubuntu):[a-z][a-z0-9-]{0,39}\Z")
_PYTHON_PATH = re.compile(r"(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*){1,8}/python3\.\d{1,3}\Z")
_ID = re.compile(FORM + r"\Z")
_PACKAGE_WHY = re.compile(rf"(?:{ESSENTIAL}|{ASKED}|needed by [a-z0-9][a-z0-9+.-]*)\Z")
_WHEEL_WHY = re.compile(rf"(?:{ASKED}|needed by [a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\Z")


def lock_of(data: Any) -> Lock:
    if not isinstance(data, dict) or "instar-lock" not in data:
        raise WrongLock("it is not a lock: expected an object with 'instar-lock'")
    _require_versions(data)
    is_first = data["instar-lock"] == 1
    require_keys(data, _KEYS, "the lock", optional=_ADDED[data["instar-lock"]])
    why = () if is_first else ("why",)
    archive, index = (("archive",), ("index", "path", "built")) if data["instar-lock"] >= 3 else ((), ())
    packages = listed(data, "packages", lambda entry: _package(entry, (*why, *archive)))
    wheels = listed(data, "wheels", lambda entry: _wheel(entry, (*why, *index)))
    require_unique([package.name for package in packages], "package")
    require_unique([wheel.name for wheel in wheels], "wheel")
    artifacts = listed(data, "artifacts", _artifact) if "artifacts" in data else []
    require_unique([f"{one.ecosystem} {one.shown} {one.hash}" for one in artifacts], "artifact")
    python = _python(data, wheels)
    requested = _read_requested(
        data["requested"], () if is_first else ("suites", *_REQUESTED_LATER) if archive else ("suites",)
    )
    suites = listed(data, "suites", lambda entry: _suite(entry, archive))
    _require_archives([*packages, *suites], requested)
    _require_asked(wheels, requested)
    architecture = fit(data["architecture"], _ARCHITECTURE, "architecture")
    base = _read_base(data, requested.base)
    _require_of(architecture, packages, base)
    return Lock(
        bake_format=data["bake-format"],
        architecture=architecture,
        requested=requested,
        suites=tuple(suites),
        packages=tuple(sorted(packages, key=package_order)),
        python=python,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        artifacts=tuple(sorted(artifacts, key=lambda one: one.order)),
        resolved=_resolved(data.get("resolved", {})),
        id=fit(data["id"], _ID, "id") if "id" in data else None,
        base=base,
        installed=_read_installed(data, requested.base),
        build=_stages(data),
        platforms=_platforms(data),
    )


def _python(data: Mapping[str, Any], wheels: Sequence[Wheel]) -> str | None:
    python = None if data["python"] is None else fit(data["python"], _PYTHON, "python")
    if wheels and python is None:
        raise WrongLock("there are wheels, and 'python' is null")
    return python


def _require_of(architecture: str, packages: Sequence[Package], base: BaseImage | None) -> None:
    """What is locked for one architecture is of no other."""
    other = next((one for one in packages if one.architecture not in (architecture, "all")), None)
    if other is not None:
        name = shown(other.name)
        raise WrongLock(f"the package {name} is for {other.architecture}, and this part for {architecture}")
    if base is not None and base.platform != platform_of(architecture):
        raise WrongLock(f"the base is for {base.platform}, and this part for {platform_of(architecture)}")


def _stages(data: Mapping[str, Any]) -> dict[str, Lock]:
    """Read what is locked for each stage: it has the form of a lock, without what belongs to the whole."""
    stages = data.get("build", {})
    if not isinstance(stages, dict):
        raise WrongLock("build: expected an object")
    found = {}
    for name, stage in stages.items():
        fit(name, _NAME, "build: the name of a stage")
        if not isinstance(stage, dict):
            raise WrongLock(f"build.{name}: expected an object")
        found[name] = _part(data, stage, f"build.{name}", _NOT_OF_A_STAGE)
    return found


def _platforms(data: Mapping[str, Any]) -> dict[str, Lock]:
    """Read what is locked for each further platform: it has the form of a lock, too."""
    platforms = data.get("platforms", {})
    if not isinstance(platforms, dict):
        raise WrongLock("platforms: expected an object")
    found = {}
    for name, one in sorted(platforms.items()):
        if fit(name, _PLATFORM, "platforms: the name of one") == platform_of(data["architecture"]):
            raise WrongLock(f"platforms: {shown(name)} is what the lock itself is for")
        if not isinstance(one, dict):
            raise WrongLock(f"platforms.{name}: expected an object")
        whole = {**data, "architecture": architecture_of(name)}
        found[name] = _part(whole, one, f"platforms.{name}", _NOT_OF_A_PLATFORM)
    return found


def _part(whole: Mapping[str, Any], part: Mapping[str, Any], name: str, not_its_own: Collection[str]) -> Lock:
    """Read a part of a lock, which has not the keys ``not_its_own``; what belongs to the ``whole`` it has of that."""
    if own := sorted(part.keys() & set(not_its_own)):
        raise WrongLock(f"{name}: unknown key {shown(own[0])}")
    try:
        return lock_of({**{key: whole[key] for key in _OF_THE_WHOLE}, **part})
    except WrongLock as error:
        raise WrongLock(f"{name}: {error}") from error


def _read_base(data: Mapping[str, Any], asked: str) -> BaseImage | None:
    """Return the image that the base is: there is one where one was asked for, and nowhere else."""
    if ("base" in data) != asked.startswith(OCI):
        raise WrongLock(f"base: there is {'one' if 'base' in data else 'none'}, and {shown(asked)} was asked for")
    if "base" not in data:
        return None
    from instar.lock.base_image import base_of  # few locks have one

    return base_of(data["base"])


def _read_installed(data: Mapping[str, Any], asked: str) -> Installed | None:
    if "installed" not in data:
        return None
    if not asked.startswith((OCI, IMAGE)):
        raise WrongLock(f"installed: it is there, and {shown(asked)} was asked for, which is no image")
    entry = data["installed"]
    require_keys(entry, ("release", "packages"), "installed", optional=("python",))
    packages = listed(entry, "packages", _installed_package)
    require_unique([one.name for one in packages], "installed package")
    return Installed(
        release=fit(entry["release"], _RELEASE, "installed: release"),
        packages=tuple(sorted(packages, key=lambda one: one.name)),
        python=fit(entry["python"], _PYTHON_PATH, "installed: python") if "python" in entry else None,
    )


def _installed_package(entry: Any) -> InstalledPackage:
    name, _, rest = fit(entry, LINE, "installed").partition(" ")
    version, _, architecture = rest.partition(" ")
    return InstalledPackage(
        name=fit(name, _PACKAGE_NAME, "name"),
        version=fit(version, _PACKAGE_VERSION, "version"),
        architecture=fit(architecture, _ARCHITECTURE, "architecture"),
    )


def _require_versions(data: Mapping[str, Any]) -> None:
    version, bake_format = data["instar-lock"], data.get("bake-format")
    if type(version) is not int or version not in VERSIONS:
        newer = type(version) is int and version > max(VERSIONS)
        raise WrongLock(
            f"it was made by a newer Instar (version {version})" if newer else f"unknown version {shown(version)}"
        )
    if type(bake_format) is not int or bake_format not in BAKE_FORMATS:
        newer = type(bake_format) is int and bake_format > max(BAKE_FORMATS)
        known = ", ".join(str(one) for one in BAKE_FORMATS)
        why = "it was made by a newer Instar: " if newer else ""
        raise WrongLock(f"{why}this one cannot bake format {shown(bake_format)}, only {known}")


def _package(entry: Any, why: Collection[str]) -> Package:
    if not isinstance(entry, dict) or entry.keys() != _PACKAGE_SET:
        require_keys(entry, _PACKAGE_KEYS, "package", optional=why)
    size_bytes = entry["size"]
    if type(size_bytes) is not int or size_bytes < 0:
        raise WrongLock(f"size: expected a number of bytes, found {shown(size_bytes)}")
    return Package(
        name=fit(entry["name"], _PACKAGE_NAME, "name"),
        version=fit(entry["version"], _PACKAGE_VERSION, "version"),
        architecture=fit(entry["architecture"], _ARCHITECTURE, "architecture"),
        size_bytes=size_bytes,
        sha256=Digest.from_hex(fit(entry["sha256"], _SHA256, "sha256")),
        label=fit(entry["label"], _LABEL, "label"),
        suite=fit(entry["suite"], _SUITE_OF_OTHERS if "archive" in entry else _SUITE, "suite"),
        path=fit(entry["path"], _PATH, "path"),
        step="base" if fit(entry["step"], _STEP, "step") == "base" else "packages",
        why=fit(entry["why"], _PACKAGE_WHY, "why") if "why" in entry else None,
        archive=fit(entry["archive"], _NAME, "archive") if "archive" in entry else None,
    )


def _wheel(entry: Any, why: Collection[str]) -> Wheel:
    require_keys(entry, _WHEEL_KEYS, "wheel", optional=why)
    return Wheel(
        name=fit(entry["name"], _WHEEL_NAME, "name"),
        version=fit(entry["version"], _WHEEL_VERSION, "version"),
        filename=fit(entry["filename"], _FILENAME, "filename"),
        sha256=Digest.from_hex(fit(entry["sha256"], _SHA256, "sha256")),
        why=fit(entry["why"], _WHEEL_WHY, "why") if "why" in entry else None,
        index=fit(entry["index"], _NAME, "index") if "index" in entry else None,
        path=fit(entry["path"], _WHEEL_PATH, "path") if "path" in entry else None,
        built=_build(entry["built"]) if "built" in entry else None,
    )


def _build(entry: Any) -> SourceBuild:
    require_keys(entry, _BUILD_KEYS, "built", optional=("index",))
    requires = listed(entry, "requires", lambda one: _wheel(one, ("why", "index")))
    require_unique([wheel.name for wheel in requires], "wheel")
    return SourceBuild(
        stage=fit(entry["stage"], _NAME, "stage"),
        inputs=Digest.from_hex(fit(entry["inputs"], _SHA256, "inputs")),
        filename=fit(entry["filename"], _SOURCE_FILENAME, "filename"),
        sha256=Digest.from_hex(fit(entry["sha256"], _SHA256, "sha256")),
        index=fit(entry["index"], _NAME, "index") if "index" in entry else None,
        requires=tuple(requires),
    )


def _indexes_of(wheel: Wheel) -> Iterator[str]:
    """Yield the indexes that a wheel is from, or what it is built from."""
    build = wheel.built
    named = (wheel.index, *((build.index, *(one.index for one in build.requires)) if build else ()))
    yield from (index for index in named if index)


def _require_asked(wheels: Sequence[Wheel], requested: Requested) -> None:
    """What is built is what was asked to be, where it was asked to be; an index is one that was asked for."""
    unknown = {index for wheel in wheels for index in _indexes_of(wheel)} - {name for name, _ in requested.indexes}
    if unknown:
        raise WrongLock(f"the index {shown(min(unknown))} is none that was asked for")
    asked = {(stage, project) for stage, projects in requested.from_source for project in projects}
    for wheel in wheels:
        if wheel.built is not None and (wheel.built.stage, wheel.name) not in asked:
            raise WrongLock(f"the wheel {shown(wheel.name)} is built, and was not asked to be")


def _artifact(entry: Any) -> Artifact:
    require_keys(entry, _ARTIFACT_KEYS, "artifact", optional=("kind", "index"))
    return Artifact(
        ecosystem=fit(entry["ecosystem"], _ECOSYSTEM, "ecosystem"),
        name=fit(entry["name"], _ARTIFACT_NAME, "name"),
        version=fit(entry["version"], _ARTIFACT_VERSION, "version"),
        hash=fit(entry["hash"], _ARTIFACT_HASH, "hash"),
        sha256=Digest.from_hex(fit(entry["sha256"], _SHA256, "sha256")),
        kind=fit(entry["kind"], _ARTIFACT_KIND, "kind") if "kind" in entry else "",
        index=fit(entry["index"], _NAME, "index") if "index" in entry else None,
    )


def _resolved(found: Any) -> dict[str, Digest]:
    if not isinstance(found, dict):
        raise WrongLock("resolved: expected an object")
    return {
        fit(name, _ECOSYSTEM, "resolved"): Digest.from_hex(fit(value, _SHA256, "resolved"))
        for name, value in found.items()
    }


def _suite(entry: Any, archive: Collection[str]) -> Suite:
    require_keys(entry, _SUITE_KEYS, "suite", optional=archive)
    date = seconds_of(entry["date"], "date")
    return Suite(
        label=fit(entry["label"], _LABEL, "label"),
        suite=fit(entry["suite"], _SUITE_OF_OTHERS if "archive" in entry else _SUITE, "suite"),
        date=date,
        archive=fit(entry["archive"], _NAME, "archive") if "archive" in entry else None,
    )


def _requested_archive(entry: Any) -> RequestedArchive:
    require_keys(entry, _ARCHIVE_KEYS, "archive", optional=("key", "as-of"))
    return RequestedArchive(
        name=fit(entry["name"], _NAME, "name"),
        suites=tuple(listed(entry, "suites", lambda one: fit(one, _SUITE_OF_OTHERS, "suite"))),
        components=tuple(listed(entry, "components", lambda one: fit(one, LINE, "component"))),
        packages=tuple(listed(entry, "packages", lambda one: fit(one, LINE, "package"))),
        key=Digest.from_hex(fit(entry["key"], _SHA256, "key")) if "key" in entry else None,
        as_of=fit(entry["as-of"], LINE, "as-of") if "as-of" in entry else None,
    )


def _requested_index(entry: Any) -> tuple[str, tuple[str, ...]]:
    require_keys(entry, ("name", "projects"), "index")
    projects = listed(entry, "projects", lambda one: fit(one, LINE, "project"))
    return fit(entry["name"], _NAME, "name"), tuple(projects)


def _requested_build(entry: Any) -> tuple[str, tuple[str, ...]]:
    require_keys(entry, ("stage", "projects"), "from-source")
    projects = listed(entry, "projects", lambda one: fit(one, _WHEEL_NAME, "project"))
    return fit(entry["stage"], _NAME, "stage"), tuple(projects)


def _require_archives(entries: Sequence[Package | Suite], requested: Requested) -> None:
    require_unique([one.name for one in requested.archives], "archive")
    unknown = {one.archive for one in entries if one.archive} - {one.name for one in requested.archives}
    if unknown:
        raise WrongLock(f"the archive {shown(min(unknown))} is none that was asked for")


def _read_requested(entry: Any, optional: Collection[str]) -> Requested:
    require_keys(entry, _REQUESTED_KEYS, "requested", optional=optional)
    return Requested(
        base=fit(entry["base"], _BASE, "base"),
        packages=tuple(listed(entry, "packages", lambda one: fit(one, LINE, "package"))),
        requirements=tuple(listed(entry, "requirements", lambda one: fit(one, LINE, "requirement"))),
        suites=tuple(listed(entry, "suites", lambda one: fit(one, _SUITE, "suite")) if "suites" in entry else ()),
        archives=tuple(listed(entry, "archives", _requested_archive) if "archives" in entry else ()),
        indexes=tuple(listed(entry, "indexes", _requested_index) if "indexes" in entry else ()),
        from_source=tuple(listed(entry, "from-source", _requested_build) if "from-source" in entry else ()),
    )
