"""Maven: what building a project takes, found out by Maven itself while it is locked, and offered to the lines of
``run`` as a repository in a folder.

A ``pom.xml`` names plugins and libraries, each of which names others, by rules that only Maven knows, and plugins ask
for more while they run. So Maven does once, on what the stage leaves, what the lines will do: by nobody, in a network
whose one door leads to the repository that this machine is configured for. What went through it is what is locked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from instar.ecosystems import author
from instar.ecosystems.maven_paths import MavenPath, metadata_of
from instar.ecosystems.protocol import BUILD_FOLDER, DOOR, FileSource, Manifest, OpenSandbox, offer
from instar.errors import DefinitionError, Problem
from instar.fetch.cache import Cache
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.image_spec import Files, ImageSpec
from instar.model.lock import Artifact, Lock
from instar.model.progress import Report
from instar.model.projects import MavenProject

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart

_POM: Final = "pom.xml"
_LEFT_OUT: Final = frozenset({"target", "node_modules", ".git"})
_DEEPEST: Final = 100  # Python's own walk ends at some hundred folders
_MOST_FOLDERS: Final = 20_000
_REPOSITORY: Final = "/run/instar/maven"
_HOME: Final = "/tmp/maven"  # noqa: S108  the sandbox's own
_SETTINGS: Final = """\
<settings>
  <mirrors><mirror><id>instar</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors>
</settings>
"""
_LINE: Final = """\
command -v mvn >/dev/null || {{ echo "there is no mvn in the stage: add maven and a JDK to its packages"; exit 127; }}
printf %s {settings} >{sandbox}/settings.xml
mkdir {sandbox}/project
cp -R {top}/. {sandbox}/project
cd {sandbox}/project/{folder}
exec mvn -B -ntp -Dstyle.color=never -s {sandbox}/settings.xml -Dmaven.repo.local={sandbox}/repository {goals} 2>&1
"""


class Maven:
    name: Final = "maven"

    def read(self, folder: Path, use: MavenProject, architecture: str) -> Manifest:
        author.read(folder, use.source, _POM, missing="mvn archetype:generate makes one")
        found = {name: author.read(folder, use.source, name, missing="").data for name in _poms(folder, use.source)}
        whole = [use.source, list(use.goals), [[name, Digest.of(found[name])] for name in sorted(found)]]
        return Manifest(wanted=(), files={}, asked=Digest.from_hex(hashlib.sha256(canonical(whole)).hexdigest()))

    def source(self) -> FileSource:
        from instar.ecosystems.maven_repository import Repository

        return Repository.of_this_machine()

    def environment(self) -> Mapping[str, str]:
        return {"MAVEN_OPTS": f"-Duser.home={_HOME}"}

    def lay_out(self, artifacts: Sequence[Artifact], cache: Cache, folder: Path) -> Mapping[str, Path]:
        """Source: Maven Repository Layout; what it has of versions is what is locked."""
        for one in artifacts:
            path = folder / str(MavenPath.of(one))
            path.parent.mkdir(parents=True, exist_ok=True)
            offer(cache.verify(one.sha256), path, one)
            with path.open("rb") as file:
                _write_sum(path, hashlib.file_digest(file, "sha1").hexdigest())
        for name, data in metadata_of(artifacts).items():
            path = folder / name
            path.write_bytes(data)
            _write_sum(path, hashlib.sha1(data, usedforsecurity=False).hexdigest())
        settings = folder.with_name("maven-settings.xml")
        settings.write_text(_SETTINGS.format(url=f"file://{_REPOSITORY}"))
        return {_REPOSITORY: folder, f"{_HOME}/.m2/settings.xml": settings}

    def resolve(
        self, use: MavenProject, part: ImagePart, lock: Lock, cache: Cache, open_sandbox: OpenSandbox, report: Report
    ) -> Sequence[Artifact]:
        from instar.ecosystems.maven_repository import Door, Repository

        top, folder = _in_the_stage(part, use.source)
        door = Door(Repository.of_this_machine(), cache)
        line = _LINE.format(
            settings=shlex.quote(_SETTINGS.format(url=DOOR)),
            sandbox=BUILD_FOLDER,
            top=shlex.quote(top),
            folder=shlex.quote(folder),
            goals=shlex.join(use.goals),
        )
        with (
            open_sandbox(_without_lines(part), lock, "lock", f"maven {use.source}") as sandbox,
            door.own_failure(),
        ):
            sandbox.run(
                ["/bin/sh", "-euc", line], env={"MAVEN_OPTS": f"-Duser.home={BUILD_FOLDER}"}, shown={}, answers=door
            )
        return door.artifacts()


ECOSYSTEM: Final = Maven()


def _poms(folder: Path, source: str) -> Iterator[str]:
    """Yield what decides what Maven asks for, below the author's folder: links lead nowhere."""
    top = folder / source
    for number, (place, folders, files) in enumerate(os.walk(top)):
        if number > _MOST_FOLDERS:
            break
        inside = Path(place).relative_to(top)
        folders[:] = sorted(set(folders) - _LEFT_OUT) if len(inside.parts) < _DEEPEST else []
        for name in files:
            if name == _POM or inside.parts[:1] == (".mvn",):
                yield str(inside / name)


def _in_the_stage(part: ImagePart, source: str) -> tuple[str, str]:
    """Return where the author's files are in the stage, and where below that the project is. Raises DefinitionError."""
    found = next(filter(None, (_place(files, source) for files in part.made.files if files.path is None)), None)
    if found is None:
        advice = f"add it to 'files', as in {{from: {source}, to: /src}}"
        message = f"nothing brings '{source}' here, for Maven to look at: {advice}"
    elif found[0] == "/":
        message = f"'{source}' is brought to '/', where all else is too: bring it to a folder of its own, such as /src"
    else:
        return found
    line, column = part.loaded.places.find(*part.path, "maven")
    raise DefinitionError([Problem(file=part.loaded.file, line=line, column=column, message=message)])


def _place(files: Files, source: str) -> tuple[str, str] | None:
    """Return where an entry of ``files`` puts a project: the folder, and where below it; None where it does not."""
    if files.source == posixpath.normpath(posixpath.join(source, _POM)):
        return posixpath.dirname(files.to), "."
    inside = posixpath.relpath(source, files.source)
    return None if inside == ".." or inside.startswith("../") else (posixpath.normpath(files.to), inside)


def _without_lines(part: ImagePart) -> ImagePart:
    """Return the part as it is before its lines are run."""
    made = dataclasses.replace(part.made, run=(), go=(), cargo=(), maven=())
    if isinstance(made, ImageSpec):
        made = dataclasses.replace(made, slim=None, strip=())
    return dataclasses.replace(part, made=made)


def _write_sum(path: Path, sha1: str) -> None:
    path.with_name(f"{path.name}.sha1").write_text(sha1)
