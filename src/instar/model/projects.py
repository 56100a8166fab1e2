"""What an image or a stage has of other ecosystems, where that takes more than a folder to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.declaration import key

INSTALLING: Final = ("npm",)  # ecosystems that install into an image, by the key of a part that names their uses
OFFERING: Final = ("go", "cargo", "maven")  # those whose files the lines of ``run`` can read

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class NpmPackages:
    """What a ``package-lock.json`` names, installed below ``to``. ``scripts`` are names of packages."""

    source: str = field(metadata=key("The folder with `package.json` and `package-lock.json`.", "author's path",
        name="from"))
    to: str = field(metadata=key("Where in the image they and `node_modules` are put.", "path inside"))
    dev: bool = field(default=False, metadata=key("Whether what is only for development is installed too."))
    scripts: tuple[str, ...] = field(default=(), metadata=key(
        "Packages whose install scripts are run, as root and without a network. No others are.", "npm package",
        unique=True, expected="a list of packages, such as [bcrypt]"))
    legacy_peer_deps: bool = field(default=False, metadata=key(
        "Whether npm takes packages whose peers do not fit, as it did before version 7: for a lock file that was made "
        "so.", added=True))
    index: str | None = field(default=None, metadata=key(
        "The index that all comes from which `indexes` does not name: a name of this machine's `indexes`.", "name",
        default_about="the one that npm is configured for", added=True))
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=key(
        "Packages that come from an index and from nowhere else, by its name among this machine's `indexes`.",
        "packages of npm by index", added=True))

    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """What comes from which index, as patterns: ``*`` from the one that all else comes from."""
        return {**({self.index: ("*",)} if self.index else {}), **self.indexes}


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonProjects:
    """What a section ``python`` says: which projects of Python, and from which of the machine's indexes."""

    requirements: str = field(metadata=key("The requirements file.", "author's path"))
    index: str | None = field(default=None, metadata=key(
        "The index that all comes from which `indexes` does not name: a name of this machine's `indexes`.", "name",
        default_about="the one that pip is configured for"))
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=key(
        "Projects that come from an index and from nowhere else, by its name among this machine's `indexes`.",
        "projects by index"))
    from_source: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=key(
        "Projects whose wheels are built when they are locked, from their source distributions, in a stage of `build` "
        "with what that takes. The requirements file has each with one version, `NAME==VERSION`.",
        "projects by stage", added=True))

    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """What comes from which index, as patterns: ``*`` from the one that all else comes from."""
        return {**({self.index: ("*",)} if self.index else {}), **self.indexes}


@dataclass(frozen=True, kw_only=True, slots=True)
class MavenProject:
    """A project that Maven builds in the lines of ``run``. ``goals`` are what it does while it is locked."""

    source: str = field(metadata=key("The folder with `pom.xml`.", "author's path", name="from"))
    goals: tuple[str, ...] = field(default=("package",), metadata=key(
        "What Maven does while it is locked: as in the lines of `run`, so that all is there that these need.",
        "goal of Maven", minimum=1, expected="a list of words, such as [-DskipTests, package]"))
