"""Where a file is in a repository of Maven's, and what it is by that path. Source: Maven Repository Layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from instar.frozen import dataclass
from instar.model.lock import Artifact

METADATA: Final = "maven-metadata.xml"
SUMS: Final = ("sha1", "md5", "sha256", "sha512", "asc")
_PATH: Final = re.compile(
    r"(?P<group>[A-Za-z0-9_][A-Za-z0-9_-]*(?:/[A-Za-z0-9_][A-Za-z0-9_-]*)*)/(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"/(?P<version>[0-9A-Za-z][0-9A-Za-z._+-]*)/(?P=name)-(?P=version)(?P<rest>[.-][A-Za-z0-9][A-Za-z0-9._-]*)\Z"
)
_ENDING: Final = re.compile(r"(?P<classifier>.+?)\.(?P<ending>tar\.gz|tar\.bz2|[a-z0-9]{1,10})\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class MavenPath:
    """``kind`` is how the file's name ends: "jar", or with a classifier "linux-x86_64:jar"."""

    group: str
    name: str
    version: str
    kind: str

    @classmethod
    def parse(cls, path: str) -> MavenPath | None:
        """Return what a path of a repository says; None for what is no file of a version, or one that changes."""
        match = _PATH.match(path)
        if match is None or ".." in path or match["version"].endswith("-SNAPSHOT"):
            return None
        kind = match["rest"][1:]
        if match["rest"].startswith("-"):
            parts = _ENDING.match(kind)
            if parts is None:
                return None
            kind = f"{parts['classifier']}:{parts['ending']}"
        return cls(group=match["group"].replace("/", "."), name=match["name"], version=match["version"], kind=kind)

    @classmethod
    def of(cls, one: Artifact) -> MavenPath:
        group, _, name = one.name.partition("/")
        return cls(group=group, name=name, version=one.version, kind=one.kind)

    def __str__(self) -> str:
        classifier, colon, ending = self.kind.partition(":")
        end = f"-{classifier}.{ending}" if colon else f".{self.kind}"
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.name}-{self.version}{end}"


def metadata_of(artifacts: Sequence[Artifact]) -> Mapping[str, bytes]:
    """Return, by their paths, the files that say which versions there are: those that are locked."""
    versions: dict[tuple[str, str], list[str]] = {}
    for path in map(MavenPath.of, artifacts):
        known = versions.setdefault((path.group, path.name), [])
        if path.version not in known:
            known.append(path.version)
    return {
        f"{group.replace('.', '/')}/{name}/{METADATA}": _metadata(group, name, known)
        for (group, name), known in sorted(versions.items())
    }


def _metadata(group: str, name: str, versions: Sequence[str]) -> bytes:
    listed = "".join(f"<version>{escape(one)}</version>" for one in versions)
    last = escape(versions[-1])
    return (
        f"<metadata><groupId>{escape(group)}</groupId><artifactId>{escape(name)}</artifactId><versioning>"
        f"<latest>{last}</latest><release>{last}</release><versions>{listed}</versions></versioning></metadata>\n"
    ).encode()
