"""Wheels that are built from source distributions: while they are locked, and again where a machine has them not.

Which file, which wheels building it takes, and what comes of it are all in the lock. What is built on another machine
has to be the same wheel, bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from instar.definition.parts import ImagePart, parts_of
from instar.ecosystems.sdist import Build, read_build_system
from instar.ecosystems.sdist_index import SourceIndexes
from instar.errors import DefinitionError, HashMismatch, Problem, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.indexes import source_of
from instar.fetch.requirements import Requirement
from instar.fetch.target import WheelTarget, best_wheel, version_parts
from instar.model.architectures import platform_of
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.lock import PYTHON, Lock, SourceBuild, Wheel
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.ecosystems.protocol import OpenSandbox


def build_wheels(
    part: ImagePart,
    requirements: Sequence[Requirement],
    target: WheelTarget,
    stages: Mapping[str, Lock],
    kept: Mapping[str, Wheel],
    cache: Cache,
    open_sandbox: OpenSandbox | None,
    report: Report,
) -> tuple[Wheel, ...]:
    """Return the wheels that the part has built from source, sorted by name. Those of ``kept`` that still fit stay.

    ``stages``: what is locked for those that stand above. Raises DefinitionError, FetchError, StepFailed, NotRoot.
    """
    found = []
    for stage, projects in part.made.from_source.items():
        for project in projects:
            one, version = _pinned(project, requirements, part)
            inputs, known = _inputs(stages[stage]), kept.get(project)
            if known and known.built and _fits(known, known.built, one, version, stage, inputs):
                found.append(known)
                continue
            if open_sandbox is None:
                raise ResolveError(f"{one.place}: cannot build '{project}': there is nothing to build it on")
            report(Progress(stage="lock", text=part.named(f"building {project} {version}"), kind="running"))
            index = source_of(project, part.made.indexes)
            making = _Making(part, one, project, version, stage, stages, index, cache, open_sandbox)
            found.append(making.made(target, inputs))
    return tuple(sorted(found, key=lambda wheel: wheel.name))


def build_missing(loaded: Loaded, lock: Lock, cache: Cache, open_sandbox: OpenSandbox, report: Report) -> None:
    """Build what the cache has not of the wheels that are built. Raises FetchError, HashMismatch, StepFailed."""
    for part in (one.for_platform(platform_of(lock.architecture)) for one in parts_of(loaded)):
        for wheel in lock.of(part.stage).wheels:
            if wheel.built is None or cache.is_whole(wheel.sha256):
                continue
            report(Progress(stage="fetch", text=part.named(f"building {wheel.name} {wheel.version}"), kind="running"))
            _build_again(part, wheel, wheel.built, lock, cache, open_sandbox)


def bring_built(
    part: ImagePart, wheels: Sequence[Wheel], stages: Mapping[str, Lock], cache: Cache, open_sandbox: OpenSandbox | None
) -> None:
    """Build those of ``wheels``, which are locked, that the cache has not. Raises as :func:`build_missing` does."""
    for wheel in wheels:
        if wheel.built is not None and cache.find(wheel.sha256) is None and open_sandbox is not None:
            lock = dataclasses.replace(stages[wheel.built.stage], build=dict(stages))
            _build_again(part, wheel, wheel.built, lock, cache, open_sandbox)


def _build_again(
    part: ImagePart, wheel: Wheel, built: SourceBuild, lock: Lock, cache: Cache, open_sandbox: OpenSandbox
) -> None:
    if not cache.is_whole(built.sha256):
        with cache.workspace() as folder:
            indexes = SourceIndexes(built.index, folder)
            indexes.bring(indexes.find(wheel.name, wheel.version), cache, built.sha256)
    stage = _stage(part, built.stage)
    _bring_wheels(built.requires, lock.of(built.stage), cache)
    system = read_build_system(cache.verify(built.sha256), built.filename)
    with open_sandbox(stage, lock, "build", f"{wheel.name} {wheel.version}") as sandbox:
        _, made = Build(sandbox, cache, built.filename, built.sha256, system).wheel(built.requires)
    if made != wheel.sha256:
        raise HashMismatch(
            f"cannot use '{wheel.filename}': what is built of '{built.filename}' here (SHA-256 {made.hex}) is not what"
            f" the lock has ({wheel.sha256.hex})",
            hint="building it does not give the same twice, or the stage is another than when it was locked: instar"
            f" lock --update {wheel.name}",
        )


def _stage(part: ImagePart, name: str) -> ImagePart:
    """Return a stage for the platform that ``part`` is for."""
    stage = next(one for one in parts_of(part.loaded) if one.stage == name)
    return stage.for_platform(part.target) if part.target else stage


class _Making:
    """One project of a part that is built, for the first time."""

    def __init__(
        self,
        part: ImagePart,
        asked: Requirement,
        project: str,
        version: str,
        stage: str,
        stages: Mapping[str, Lock],
        index: str | None,
        cache: Cache,
        open_sandbox: OpenSandbox,
    ) -> None:
        self._part, self._asked, self._project, self._version = part, asked, project, version
        self._stage, self._stages, self._index = stage, stages, index
        self._cache, self._open_sandbox = cache, open_sandbox

    def made(self, target: WheelTarget, inputs: Digest) -> Wheel:
        filename, sha256 = self._source()
        system = read_build_system(self._cache.verify(sha256), filename)
        requires = self._solved(system.requires, filename)
        stage = _stage(self._part, self._stage)
        beneath = dataclasses.replace(self._stages[self._stage], build=dict(self._stages))
        with self._open_sandbox(stage, beneath, "build", f"{self._project} {self._version}") as sandbox:
            build = Build(sandbox, self._cache, filename, sha256, system)
            if more := build.more_requires(requires):
                requires = self._solved((*system.requires, *more), filename)
            name, wheel = build.wheel(requires)
            if best_wheel([name], target.ranks()) is None:
                raise sandbox.failed(f"it made '{name}', which is not for Python {target.python} of the image")
        built = SourceBuild(
            stage=self._stage, inputs=inputs, filename=filename, sha256=sha256, requires=requires, index=self._index
        )
        return Wheel(name=self._project, version=self._version, filename=name, sha256=wheel, built=built)

    def _source(self) -> tuple[str, Digest]:
        """Bring the source distribution into the cache. Raises FetchError, ResolveError."""
        with self._cache.workspace() as folder:
            indexes = SourceIndexes(self._index, folder)
            found = indexes.find(self._project, self._version)
            sha256 = indexes.bring(found, self._cache, None)
        if self._asked.hashes and sha256.hex not in self._asked.hashes:
            raise ResolveError(
                f"{self._asked.place}: cannot lock '{self._project}': the SHA-256 of '{found.filename}' is"
                f" {sha256.hex}, which is not a hash that is written there"
            )
        return found.filename, sha256

    def _solved(self, requires: Sequence[str], filename: str) -> tuple[Wheel, ...]:
        """Return the wheels that building takes, in the cache. Raises ResolveError, FetchError."""
        from instar.fetch.python import solve_wheels

        if not requires:
            return ()
        lock = self._stages[self._stage]
        if PYTHON not in {package.name for package in lock.all_packages}:
            raise ResolveError(
                f"{self._asked.place}: cannot build '{self._project}': the stage '{self._stage}' has no Python",
                hint=f"add {PYTHON} to the packages of the stage, and what compiling takes: python3-dev, gcc",
            )
        target = WheelTarget.of(_python_of(lock), lock.architecture, lock.all_packages)
        asked = [
            Requirement(file=f"{self._asked.place}: what '{filename}' is built with", line=1, text=one)
            for one in requires
        ]
        wheels = solve_wheels(asked, target, self._cache, sources=self._part.made.indexes)
        wheels = tuple(dataclasses.replace(wheel, why=None) for wheel in wheels)
        _bring_wheels(wheels, lock, self._cache)
        return wheels


def _bring_wheels(wheels: Sequence[Wheel], lock: Lock, cache: Cache) -> None:
    from instar.fetch.wheels import fetch_wheels

    missing = [wheel for wheel in wheels if not cache.is_whole(wheel.sha256)]
    for index in sorted({wheel.index for wheel in missing}, key=str):
        fetch_wheels([wheel for wheel in missing if wheel.index == index], _python_of(lock), cache, index)


def _python_of(lock: Lock) -> str:
    major, minor = version_parts(lock.all_packages, PYTHON)
    return f"{major}.{minor}"


def _pinned(project: str, requirements: Sequence[Requirement], part: ImagePart) -> tuple[Requirement, str]:
    """Return the line that asks for a project, and the one version that it names. Raises DefinitionError."""
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement as Parsed

    one = next((one for one in requirements if one.name == project and one.path is None), None)
    if one is None:
        line, column = part.loaded.places.find(*part.path, "python", "from_source")
        message = (
            f"'{project}' is built from source, and {part.made.python} does not ask for it: write {project}==VERSION"
        )
        raise DefinitionError([_problem(part.loaded.file, line, column, message)])
    try:
        versions = list(Parsed(one.text).specifier)
    except InvalidRequirement:
        versions = []
    if len(versions) != 1 or versions[0].operator != "==" or versions[0].version.endswith("*"):
        raise DefinitionError(
            [one.problem(f"'{one.text}' is built from source: write which version, {project}==VERSION")]
        )
    return one, versions[0].version


def _problem(file: str, line: int, column: int, message: str) -> Problem:
    return Problem(file=file, line=line, column=column, message=message)


def _fits(known: Wheel, built: SourceBuild, one: Requirement, version: str, stage: str, inputs: Digest) -> bool:
    same = (known.version, built.stage, built.inputs) == (version, stage, inputs)
    return same and (not one.hashes or built.sha256.hex in one.hashes)


def _inputs(lock: Lock) -> Digest:
    """Return what all that is locked for a stage comes to."""
    whole = {
        "packages": sorted(package.sha256 for package in lock.packages),
        "wheels": sorted(wheel.sha256 for wheel in lock.wheels),
        "artifacts": sorted(artifact.sha256 for artifact in lock.artifacts),
        "base": lock.base.key if lock.base else "",
    }
    return Digest.from_hex(hashlib.sha256(canonical(whole)).hexdigest())
