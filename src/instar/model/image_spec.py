"""What an author writes about an image and the stages that it is built in, each key declared with its field.

Units and paths are as in ``model.definition``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.declaration import key
from instar.model.image_sources import Archive, OtherBase
from instar.model.projects import INSTALLING, OFFERING, MavenProject, NpmPackages, PythonProjects
from instar.model.slim import Slim

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


NEW_UID: Final = 10001  # of a user that no package makes
STAGES: Final = "build."  # and a stage's name: where ``files`` are taken out of one


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Who an instance's processes are. Never root.

    A number that is None is what the image has for the name, once its packages are there; where it has none, the uid is
    ``NEW_UID`` and the gid is the uid.
    """

    name: str = field(default="app", metadata=key("Name of the user: one that a package makes, or a new one.",
        "user's name"))
    uid: int | None = field(default=None, metadata=key(
        "Number of the user. One that a package gives another number is refused.", low=1, high=65533,
        default_about="what the image has; of a new user `10001`"))
    gid: int | None = field(default=None, metadata=key("Number of the user's group.", low=1, high=65533,
        default_about="what the image has; of a new user its uid", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A file from a URL, put or unpacked at ``to``, or a git repository's tree at ``revision``, which is unpacked.

    It is checked against ``sha256`` (hex)."""

    url: str = field(metadata=key("Where the file is fetched from, once; later it comes from the cache. A git "
        "repository is `git+https://…`.", "address of a file"))
    sha256: str = field(metadata=key("SHA-256 of the file, or of a revision's tree: of one that is not known yet, 64 "
        "zeros; `instar bake` says it. Bytes with another one are refused.", "sha256"))
    to: str = field(metadata=key("Where the file is put, or the folder that it is unpacked into.", "path inside"))
    unpack: bool = field(default=False, metadata=key("Whether it is an archive to unpack."))
    mode: int | None = field(default=None, metadata=key("Permissions of the file.", "mode", default_about="`0644`"))
    revision: str | None = field(default=None, metadata=key("The commit of a git repository, whose tree is unpacked.",
        "commit", added=True))
    platform: str | None = field(default=None, metadata=key("The one platform whose image has it.", "platform",
        default_about="that of every platform", added=True))

    @property
    def is_unpacked(self) -> bool:
        return self.unpack or self.revision is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """A file or tree of the author's, or of a stage, copied to ``to``.

    ``path`` is where it is in the stage that ``source`` names; None of the author's files. ``mode`` is for files; None:
    of the author's 644, or 755 if executable; of a stage's what it is there.
    """

    source: str = field(metadata=key("A file or folder beside the definition; or `build.NAME`, a stage of it.",
        "author's path", name="from"))
    path: str | None = field(default=None, metadata=key("Which file or folder of that stage.", "path inside",
        default_about="none: `from` is a file or folder of your own", added=True))
    to: str = field(metadata=key("Where it is in the image. Of a folder, what is in it is put there.", "path inside"))
    owner: str = field(default="root", metadata=key("Who owns what is copied.", "owner"))
    mode: int | None = field(default=None, metadata=key("Permissions of every file.", "mode",
        default_about="`0644`, or `0755` where the file is executable; of a stage's files what they have there"))
    exclude: tuple[str, ...] = field(default=(), metadata=key(
        "Patterns as in `.gitignore`, of what is left out; of your own files besides `.git`, `__pycache__`, `.env` and "
        "every declared secret.", "pattern", expected="a list of patterns, such as ['*.pyc']"))
    keep: tuple[str, ...] = field(default=(), metadata=key(
        "What is copied only when it is named: `setuid` (the bits set-user-ID, set-group-ID and sticky, also of "
        "folders), `capabilities`, `attributes` (extended, `user.*`), `hardlinks` (names of one file stay that; of a "
        "stage they do anyhow), `links` (those that lead out stay as they are).", "property of files", unique=True,
        expected="a list such as [hardlinks, attributes]", added=True))
    platform: str | None = field(default=None, metadata=key("The one platform whose image has it.", "platform",
        default_about="that of every platform", added=True))

    @property
    def stage(self) -> str | None:
        """The stage that it is taken out of, None where it is a file of the author's."""
        return self.source.removeprefix(STAGES) if self.path is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStage:
    """What a stage of a build is made of. The image is the last of them, and has more to say.

    ``base`` is a text of ``model.base``. ``platform`` is a stage's alone.
    """

    base: str = field(metadata=key("What it stands on: a Debian suite, bootstrapped from locked packages; nothing "
        "(`scratch`); or an image.", ("base", OtherBase)))
    packages: tuple[str, ...] = field(default=(), metadata=key(
        "Debian packages: `name`, `name=version`, or `name=1.2*` for the newest of these.", "package", unique=True,
        expected="a list of packages, such as [curl, ca-certificates]"))
    suites: tuple[str, ...] = field(default=(), metadata=key(
        "Suites that packages may come from besides those of `base`: as this machine's apt sources call them.", "suite",
        unique=True, expected="a list of suites, such as [bookworm-backports]", added=True))
    archives: Mapping[str, Archive] = field(default_factory=dict, metadata=key(
        "Archives of others, each by a name of yours, that some packages come from.", names="name", added=True,
        expected="a section with one section for each archive, such as 'nodesource: {…}'"))
    python: str | None = field(default=None, metadata=key(
        "A requirements file; what it names is installed from locked wheels into `/opt/venv`, which is first on PATH. "
        "A section says which index that comes from.", ("author's path", PythonProjects)))
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # ``PythonProjects.sources`` of ``python``
    from_source: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # that of ``python``
    npm: tuple[NpmPackages, ...] = field(default=(), metadata=key(
        "Folders with a `package-lock.json`: what it names is installed by the image's own npm, without a network.",
        or_one=True, expected="a section such as {from: app, to: /srv/app}, or a list of them", added=True))
    go: tuple[str, ...] = field(default=(), metadata=key(
        "Folders with a `go.mod` and a `go.sum`: the modules that they name are there for go in the lines of `run`.",
        "author's path", or_one=True, expected="a path in the definition's folder, such as '.', or a list of them",
        added=True))
    cargo: tuple[str, ...] = field(default=(), metadata=key(
        "Folders with a `Cargo.toml` and a `Cargo.lock`: the crates that they name are there for cargo in the lines of "
        "`run`.", "author's path", or_one=True, expected="a path in the definition's folder, such as '.', or a list of "
        "them", added=True))
    maven: tuple[MavenProject, ...] = field(default=(), metadata=key(
        "Folders with a `pom.xml`: what building them takes is there for Maven in the lines of `run`.", or_one=True,
        expected="a section such as {from: .}, or a list of them", added=True))
    fetch: tuple[Fetch, ...] = field(default=(), metadata=key("Files from the network, each known by its hash.",
        expected="a list of sections such as {url, sha256, to}"))
    files: tuple[Files, ...] = field(default=(), metadata=key("Files of your own, copied in this order."))
    ignore: str = field(default=".instarignore", metadata=key(
        "What `files` never copies: `.instarignore`, read as `.gitignore` is, or `.dockerignore` as docker reads it.",
        "ignore file", added=True))
    run: tuple[str, ...] = field(default=(), metadata=key(
        "Lines that `/bin/sh` runs as root while the image is baked, without a network; each makes a layer.", "line",
        expected="a list of lines for the shell"))
    run_timeout_ms: int = field(default=600_000, metadata=key("How long one of them may take."))
    env: Mapping[str, str] = field(default_factory=dict, metadata=key(
        "Environment variables of every process in the image.", "variables"))
    strip: tuple[str, ...] = field(default=(), metadata=key(
        "What is left out of what packages bring: `docs` (manuals and documents; licences stay), `locales` (other "
        "languages than English, all encodings but UTF-8), and of the image, at its end, `apt` and `shell`: the tools.",
        "part of packages", unique=True, expected="a list such as [docs, locales]", added=True))
    platform: str | None = field(default=None, metadata=key(
        "The platform that the stage is baked for, whichever the image's is; `run` finds that one in `TARGETPLATFORM` "
        "and `TARGETARCH`. So a compiler makes programs for platforms that it does not run on.", "platform",
        default_about="the image's", added=True))


    @property
    def ecosystems(self) -> tuple[str, ...]:
        """The ecosystems that it has something of."""
        return tuple(name for name in (*INSTALLING, *OFFERING) if getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSpec(BuildStage):
    """What an image is made of. ``platforms`` is empty where it is for the machine that it is made on."""

    platforms: tuple[str, ...] = field(default=(), metadata=key(
        "The platforms that there is an image for, each of which has its own part of the lock.", "platform",
        minimum=1, unique=True, expected="a list of platforms, such as [linux/amd64, linux/arm64]",
        default_about="that of the machine that locks", added=True))
    slim: Slim | None = field(default=None, metadata=key(
        "Whether the image is one layer, with only that of its base in it which the service's commands need.",
        ("only slim", Slim), default_about="its layers are those of its steps", added=True))

    user: User = field(default=User(), metadata=key("Who the service runs as. Never root.", ("user", User),
        default_about="`app`, which is new and has the numbers 10001"))
