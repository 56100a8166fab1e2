"""A Lock → the text of its file: one line a package and a wheel, in a fixed order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instar.model.base import is_debian
from instar.model.digest import Digest
from instar.model.lock import (
    Artifact,
    BaseImage,
    Installed,
    Lock,
    Package,
    Requested,
    RequestedArchive,
    SourceBuild,
    Suite,
    Wheel,
    package_order,
)


def dump(lock: Lock) -> str:
    """Return the text of the file."""
    entries = {
        "instar-lock": str(_version(lock)),
        "bake-format": str(lock.bake_format),
        **({"id": _json(lock.id)} if lock.id is not None else {}),
        "architecture": _json(lock.architecture),
        **_entries(lock),
        **_platforms(lock.platforms),
    }
    return f"{_object(entries)}\n"


def _entries(lock: Lock) -> dict[str, str]:
    """Return what is locked for the image, or for a stage."""
    stages = {name: _inner(_stage(lock, lock.build[name])) for name in sorted(lock.build)}
    return {
        "requested": _requested(lock.requested),
        **({"base": _base(lock.base)} if lock.base is not None else {}),
        **({"installed": _installed(lock.installed)} if lock.installed is not None else {}),
        "suites": _lines([_suite_entry(suite) for suite in lock.suites]),
        "packages": _lines([_package_entry(package) for package in sorted(lock.packages, key=package_order)]),
        "python": _json(lock.python),
        "wheels": _lines([_wheel_entry(wheel) for wheel in sorted(lock.wheels, key=lambda wheel: wheel.name)]),
        **_artifacts(lock.artifacts),
        **_resolved(lock.resolved),
        **({"build": _inner(stages)} if stages else {}),
    }


def _stage(lock: Lock, stage: Lock) -> dict[str, str]:
    """Return what is locked for a stage; of one that has a platform of its own, which architecture that is."""
    own = {"architecture": _json(stage.architecture)} if stage.architecture != lock.architecture else {}
    return {**own, **_entries(stage)}


def _platforms(platforms: Mapping[str, Lock]) -> dict[str, str]:
    named = {name: _inner(_entries(platforms[name])) for name in sorted(platforms)}
    return {"platforms": _inner(named)} if named else {}


def _object(entries: Mapping[str, str]) -> str:
    return "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in entries.items()) + "\n}"


def _inner(entries: Mapping[str, str]) -> str:
    """Return the text of an object that stands in another."""
    return _object(entries).replace("\n", "\n  ")


def _version(lock: Lock) -> int:
    """Return the least version that has what is in the lock, so that an older Instar reads all that it can bake."""
    asked = lock.requested
    is_new = asked.archives or asked.indexes or lock.artifacts or lock.resolved or lock.build or lock.platforms
    has_own_wheels = any(wheel.path or wheel.built for wheel in lock.wheels)
    return 3 if is_new or has_own_wheels or not is_debian(asked.base) else 2


def _artifacts(artifacts: Sequence[Artifact]) -> dict[str, str]:
    entries = [_artifact_entry(one) for one in sorted(artifacts, key=lambda one: one.order)]
    return {"artifacts": _lines(entries)} if entries else {}


def _resolved(resolved: Mapping[str, Digest]) -> dict[str, str]:
    return {"resolved": _json({name: resolved[name].hex for name in sorted(resolved)})} if resolved else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(entries: Sequence[Any], indent: str = "    ") -> str:
    if not entries:
        return "[]"
    return "[\n" + ",\n".join(indent + _json(entry) for entry in entries) + f"\n{indent[:-2]}]"


def _requested(requested: Requested) -> str:
    suites = f',\n    "suites": {_json(list(requested.suites))}' if requested.suites else ""
    entries = [_archive_entry(archive) for archive in requested.archives]
    archives = f',\n    "archives": {_lines(entries, "      ")}' if entries else ""
    named = [{"name": name, "projects": projects} for name, projects in requested.indexes]
    indexes = f',\n    "indexes": {_lines(named, "      ")}' if named else ""
    built = [{"stage": stage, "projects": projects} for stage, projects in requested.from_source]
    sources = f',\n    "from-source": {_lines(built, "      ")}' if built else ""
    return (
        f'{{\n    "base": {_json(requested.base)},\n    "packages": {_lines(requested.packages, "      ")},\n'
        f'    "requirements": {_lines(requested.requirements, "      ")}{suites}{archives}{indexes}{sources}\n  }}'
    )


def _archive_entry(archive: RequestedArchive) -> dict[str, Any]:
    return {
        "name": archive.name,
        "suites": archive.suites,
        "components": archive.components,
        "packages": archive.packages,
        **({} if archive.key is None else {"key": archive.key.hex}),
        **({} if archive.as_of is None else {"as-of": archive.as_of}),
    }


def _base(base: BaseImage) -> str:
    from instar.lock.base_image import entry_of  # few locks have one

    *rest, (last, layers) = entry_of(base).items()
    return (
        "{\n"
        + "".join(f'    "{key}": {_json(value)},\n' for key, value in rest)
        + (f'    "{last}": {_lines(layers, "      ")}\n  }}')
    )


def _installed(installed: Installed) -> str:
    python = f',\n    "python": {_json(installed.python)}' if installed.python is not None else ""
    packages = [f"{one.name} {one.version} {one.architecture}" for one in installed.packages]
    return f'{{\n    "release": {_json(installed.release)}{python},\n    "packages": {_lines(packages, "      ")}\n  }}'


def _suite_entry(suite: Suite) -> dict[str, Any]:
    from datetime import UTC, datetime

    date = datetime.fromtimestamp(suite.date, UTC).isoformat().replace("+00:00", "Z")
    return {"label": suite.label, "suite": suite.suite, "date": date, **_archive(suite.archive)}


def _package_entry(package: Package) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "size": package.size_bytes,
        "sha256": package.sha256.hex,
        "label": package.label,
        "suite": package.suite,
        "path": package.path,
        "step": package.step,
        **_archive(package.archive),
        **_why_entry(package.why),
    }


def _wheel_entry(wheel: Wheel) -> dict[str, Any]:
    return {
        "name": wheel.name,
        "version": wheel.version,
        "filename": wheel.filename,
        "sha256": wheel.sha256.hex,
        **({} if wheel.index is None else {"index": wheel.index}),
        **({} if wheel.path is None else {"path": wheel.path}),
        **({} if wheel.built is None else {"built": _build_entry(wheel.built)}),
        **_why_entry(wheel.why),
    }


def _build_entry(build: SourceBuild) -> dict[str, Any]:
    return {
        "stage": build.stage,
        "inputs": build.inputs.hex,
        "filename": build.filename,
        "sha256": build.sha256.hex,
        **({} if build.index is None else {"index": build.index}),
        "requires": [_wheel_entry(wheel) for wheel in build.requires],
    }


def _archive(name: str | None) -> dict[str, str]:
    return {} if name is None else {"archive": name}


def _artifact_entry(one: Artifact) -> dict[str, str]:
    return {
        "ecosystem": one.ecosystem,
        "name": one.name,
        "version": one.version,
        **({"kind": one.kind} if one.kind else {}),
        "hash": one.hash,
        "sha256": one.sha256.hex,
        **({} if one.index is None else {"index": one.index}),
    }


def _why_entry(why: str | None) -> dict[str, str]:
    return {} if why is None else {"why": why}
