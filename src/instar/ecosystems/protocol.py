"""What an ecosystem can do: read the author's lock file, find the files that it names, and hand them to its tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from instar.errors import BakeError, StepFailed
from instar.fetch.cache import Cache
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.lock import Artifact, Lock
from instar.model.progress import Report

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedFile:
    """A file that the author's lock file names, with the ecosystem's own ``hash`` of it; ``place`` is where it does.

    ``index``: the one that it comes from, by this machine's name of it; None: as the ecosystem's tool is configured.
    """

    ecosystem: str
    name: str
    version: str
    hash: str
    kind: str = ""
    place: str = ""
    index: str | None = None

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What tells it from others, and finds it in a lock (:attr:`Artifact.order`)."""
        return self.ecosystem, self.name, self.version, self.kind, self.hash

    @property
    def shown(self) -> str:
        return f"{self.name} {self.version}{f' ({self.kind})' if self.kind else ''}"

    @property
    def known_sha256(self) -> Digest | None:
        """Its SHA-256, where that is the ecosystem's own hash."""
        return Digest.from_hex(self.hash.removeprefix("sha256:")) if self.hash.startswith("sha256:") else None

    def locked(self, sha256: Digest) -> Artifact:
        return Artifact(
            ecosystem=self.ecosystem,
            name=self.name,
            version=self.version,
            hash=self.hash,
            sha256=sha256,
            kind=self.kind,
            index=self.index,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What the author's files say. ``files``: what they hold, by their names; ``notes``: what its author has to know
    when it is locked. ``asked``: of files that do not name any, what they ask for comes to: the lock alone names them.
    """

    wanted: tuple[WantedFile, ...]
    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    asked: Digest | None = None


class FileSource(Protocol):
    """Where an ecosystem's files are fetched from, by the machine's own configuration. Safe for threads."""

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        """Fetch a file into ``cache``, whole or not at all, checked by its own hash and by ``expected``.

        Raises SourceUnreachable, FetchError, HashMismatch.
        """


class Workroom(Protocol):
    """The root of the image that a step works on. Paths are those in the image."""

    def exists(self, path: str) -> bool: ...

    def put(self, path: str, content: bytes) -> None:
        """Write a file of root's, and the folders above it."""

    def run(self, argv: Sequence[str], *, env: Mapping[str, str], shown: Mapping[str, Path]) -> None:
        """Run a command in the sandbox. Raises StepFailed."""

    def say(self, text: str) -> None: ...

    def failed(self, cause: str, *, hint: str | None = None) -> StepFailed: ...


Answers: TypeAlias = Callable[[str], tuple[int, "bytes | Path"]]
"""Answers a request of the sandbox for a path: a status of HTTP, and what is sent."""

DOOR: Final = "{door}"  # in the words of a command in a sandbox: the address of who answers


class StageSandbox(Protocol):
    """What the steps of a stage leave, to run the code of others on while a lock is made: as nobody.
    Nothing of what it writes is kept."""

    @property
    def epoch(self) -> int: ...

    def exists(self, path: str) -> bool: ...

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return what is in a regular file, at most ``limit_bytes``; None where there is none."""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        shown: Mapping[str, Path],
        answers: Answers | None = None,
    ) -> None:
        """Run a command, which may write in :data:`BUILD_FOLDER` and reaches ``answers`` alone. Raises StepFailed."""

    def failed(self, cause: str, *, hint: str | None = None) -> StepFailed: ...


BUILD_FOLDER: Final = "/build"  # a folder of who runs commands in a sandbox, which is there until it is closed


class OpenSandbox(Protocol):
    """Makes sandboxes. Raises NotRoot, and what fetching and baking a stage raise."""

    def __call__(self, part: ImagePart, lock: Lock, verb: str, what: str) -> AbstractContextManager[StageSandbox]:
        """Bake the stage ``part``, by ``lock``, which has those that it takes from; give a sandbox on what it leaves.

        ``verb`` and ``what`` say in errors what it is for: "build 'acme 1.0'".
        """


class Ecosystem(Protocol):
    """``ECOSYSTEM`` of a module. What an image has of it are the values of the key of its name, each a use."""

    @property
    def name(self) -> str:
        """The key of the image that names its inputs, the kind of its steps, and what a lock calls it."""

    def read(self, folder: Path, use: Any, architecture: str) -> Manifest:
        """Read the author's files of one use, below the definition's ``folder``. Raises DefinitionError."""

    def source(self) -> FileSource:
        """Raises FetchError, ComponentMissing where nothing says where to fetch from."""


class Installing(Ecosystem, Protocol):
    """One that installs into the image, in a step of its own."""

    def given(self, use: Any) -> Any:
        """Return what of a use changes what is installed, besides its files and artifacts."""

    def install(
        self,
        use: Any,
        manifest: Manifest,
        artifacts: Sequence[Artifact],
        cache: Cache,
        path: str,
        room: Workroom,
    ) -> None:
        """Install ``artifacts``, which are in ``cache``. ``path``: the image's PATH. Raises StepFailed, FetchError."""


class Offering(Ecosystem, Protocol):
    """One whose files the lines of ``run`` can read in the sandbox; no step leaves anything of them."""

    def environment(self) -> Mapping[str, str]:
        """Return what has the ecosystem's own tool look there, and nowhere else. A part of the lines' keys."""

    def lay_out(self, artifacts: Sequence[Artifact], cache: Cache, folder: Path) -> Mapping[str, Path]:
        """Make in ``folder``, which is new, what the tool expects of ``artifacts``, which are in ``cache``.

        Returns where in the sandbox which file or folder is to be seen. Raises BakeError, FetchError.
        """


def offer(file: Path, path: Path, one: Artifact) -> None:
    """Put a file of the cache at ``path``. Raises BakeError where another is there: two uses mean others."""
    try:
        path.hardlink_to(file)
    except FileExistsError as error:
        raise BakeError(
            f"cannot offer '{one.name}' {one.version}: two lock files of {one.ecosystem} have different hashes of it",
            hint="one of them is not what it was made for: have both made anew",
        ) from error


class Resolving(Offering, Protocol):
    """One whose author's files name no files with hashes: its own tool finds out which, while it is locked."""

    def resolve(
        self, use: Any, part: ImagePart, lock: Lock, cache: Cache, open_sandbox: OpenSandbox, report: Report
    ) -> Sequence[Artifact]:
        """Return what one use of the part asks for, in ``cache``. ``lock`` is the part's, with the stages above.

        Raises DefinitionError, FetchError, StepFailed, NotRoot.
        """
