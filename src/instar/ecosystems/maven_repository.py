"""Where Maven's files are: the repository that this machine is configured for, and the door by which Maven reaches it.

That is the first mirror of Maven's own settings (``~/.m2/settings.xml`` of who calls this, then the machine's) that
stands for the central repository, with the password of the server of its name; else what the machine's Maven takes for
the central repository. Repositories that a ``pom.xml`` names are not asked: it chooses no hosts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from instar.ecosystems.download import Downloads, Missing
from instar.ecosystems.maven_paths import METADATA, SUMS, MavenPath
from instar.ecosystems.protocol import WantedFile
from instar.errors import ComponentMissing, FetchError, InstarError, StepFailed
from instar.fetch.cache import Cache
from instar.model.digest import Digest
from instar.model.lock import Artifact

_CONFIGURED: Final = "the settings of Maven of who calls this (~/.m2/settings.xml) say which repository is asked"
_GLOBAL: Final = ("/etc/maven/settings.xml", "/usr/share/maven/conf/settings.xml")
_MODELS: Final = ("lib/maven-model-builder*.jar",)
_SUPER_POM: Final = "org/apache/maven/model/pom-4.0.0.xml"
_LIMIT_BYTES: Final = 4 << 20
_VARIABLE: Final = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
_CENTRAL: Final = "central"


class Repository:
    """The repository at ``url``. Safe for threads."""

    def __init__(self, url: str, login: tuple[str, str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._url, self._login = url.rstrip("/"), login
        self._host = urlsplit(self._url)[:2]
        self._downloads = Downloads(configured=_CONFIGURED, authorise=self._authorise, environ=environ)

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> Repository:
        """Raises FetchError, ComponentMissing where nothing says which it is."""
        for file in (Path(environ.get("HOME", "/nonexistent"), ".m2/settings.xml"), *map(Path, _GLOBAL)):
            if found := _configured(file, environ):
                return cls(*found, environ)
        return cls(_central(), None, environ)

    def bring(self, one: WantedFile, cache: Cache, expected: Digest | None) -> Digest:
        group, _, name = one.name.partition("/")
        path = MavenPath(group=group, name=name, version=one.version, kind=one.kind)
        return self.keep(str(path), cache, expected or one.known_sha256)

    def keep(self, path: str, cache: Cache, expected: Digest | None = None) -> Digest:
        """Fetch a file of the repository into ``cache``. Raises Missing, FetchError, HashMismatch."""
        return self._downloads.keep(self._at(path), f"'{path}'", cache, expected, lambda file: None)

    def page(self, path: str) -> bytes:
        """Return a small file of the repository. Raises Missing, FetchError."""
        return self._downloads.page(self._at(path), f"'{path}'")

    def _at(self, path: str) -> str:
        return f"{self._url}/{quote(path)}"

    def _authorise(self, url: str) -> str | None:
        if self._login is None or urlsplit(url)[:2] != self._host:
            return None
        return f"Basic {base64.b64encode(':'.join(self._login).encode()).decode()}"


class Door:
    """Answers Maven from a repository, and keeps what it was asked for. Safe for threads."""

    def __init__(self, repository: Repository, cache: Cache) -> None:
        self._repository, self._cache = repository, cache
        self._guard = threading.Lock()
        self._kept: dict[str, Digest] = {}
        self._pages: dict[str, bytes] = {}
        self._failure: InstarError | None = None

    def __call__(self, path: str) -> tuple[int, bytes | Path]:
        path = path.lstrip("/")
        try:
            return self._answer(path)
        except Missing:
            return 404, b""
        except InstarError as error:
            with self._guard:
                self._failure = self._failure or error
            return 502, b""

    def artifacts(self) -> Sequence[Artifact]:
        """Return what was asked for and is there."""
        found = []
        for path, sha256 in sorted(self._kept.items()):
            one = MavenPath.parse(path)
            assert one is not None
            found.append(
                Artifact(
                    ecosystem="maven",
                    name=f"{one.group}/{one.name}",
                    version=one.version,
                    kind=one.kind,
                    hash=f"sha256:{sha256.hex}",
                    sha256=sha256,
                )
            )
        return found

    @contextlib.contextmanager
    def own_failure(self) -> Iterator[None]:
        """Have a failure of the repository be told, in the place of what Maven makes of it."""
        try:
            yield
        except StepFailed as error:
            if self._failure is not None:
                raise self._failure from error
            raise

    def _answer(self, path: str) -> tuple[int, bytes | Path]:
        whole, _, ending = path.rpartition(".")
        if ending in SUMS:
            return self._sum(whole) if ending == "sha1" else (404, b"")
        if path.rpartition("/")[2] == METADATA and ".." not in path:
            return 200, self._page(path)
        if MavenPath.parse(path) is None:
            return 404, b""
        with self._guard:
            known = self._kept.get(path)
        known = known or self._repository.keep(path, self._cache)
        with self._guard:
            self._kept[path] = known
        found = self._cache.find(known)
        return (200, found) if found is not None else (404, b"")

    def _page(self, path: str) -> bytes:
        if path not in self._pages:
            self._pages[path] = self._repository.page(path)
        return self._pages[path]

    def _sum(self, path: str) -> tuple[int, bytes]:
        """Return the sum of what was given for ``path``: Maven asks for it afterwards."""
        if path in self._pages:
            return 200, hashlib.sha1(self._pages[path], usedforsecurity=False).hexdigest().encode()
        with self._guard:
            known = self._kept.get(path)
        file = self._cache.find(known) if known else None
        if file is None:
            return 404, b""
        with file.open("rb") as opened:
            return 200, hashlib.file_digest(opened, "sha1").hexdigest().encode()


def _configured(file: Path, environ: Mapping[str, str]) -> tuple[str, tuple[str, str] | None] | None:
    """Return the address of a mirror in a file of settings, and who asks it. Raises FetchError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_LIMIT_BYTES)
    except OSError:
        return None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise FetchError(f"cannot read Maven's settings in '{file}': they have a document type, which is not read")
    try:
        settings = ElementTree.fromstring(data)  # noqa: S314  the machine's own, and without entities
    except ElementTree.ParseError as error:
        raise FetchError(f"cannot read Maven's settings in '{file}': they are no XML") from error
    for tag in settings.iter():
        tag.tag = tag.tag.rpartition("}")[2]
    for mirror in settings.iterfind("mirrors/mirror"):
        url = _text(mirror, "url", environ)
        if url and _stands_for_central(_text(mirror, "mirrorOf", environ)):
            return url, _login(settings, _text(mirror, "id", environ), file, environ)
    return None


def _stands_for_central(patterns: str) -> bool:
    """Source: Maven, Guide to Mirror Settings."""
    given = [one.strip() for one in patterns.split(",")]
    return f"!{_CENTRAL}" not in given and not {"*", "external:*", _CENTRAL}.isdisjoint(given)


def _login(settings: ElementTree.Element, name: str, file: Path, environ: Mapping[str, str]) -> tuple[str, str] | None:
    for server in settings.iterfind("servers/server"):
        if _text(server, "id", environ) != name:
            continue
        user, password = _text(server, "username", environ), _text(server, "password", environ)
        if password.startswith("{"):
            raise FetchError(
                f"cannot use the password of '{name}' in '{file}': it is encrypted, which only Maven can undo",
                hint="let it be a variable there: ${env.NAME}",
            )
        return (user, password) if user else None
    return None


def _text(element: ElementTree.Element, name: str, environ: Mapping[str, str]) -> str:
    found = (element.findtext(name) or "").strip()
    return _VARIABLE.sub(lambda known: environ.get(known[1], ""), found)


def _central() -> str:
    """Return what the machine's Maven takes for the central repository: it is in a file of its own."""
    hint = f"install maven, or name a mirror: {_CONFIGURED}"
    program = shutil.which("mvn")
    if program is None:
        raise ComponentMissing(
            "cannot ask a repository of Maven's: none is configured, and this machine has no mvn", hint=hint
        )
    for pattern in _MODELS:
        for jar in sorted(Path(os.path.realpath(program)).parent.parent.glob(pattern)):
            with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(jar) as archive:
                found = re.search(rb"<id>central</id>.*?<url>\s*(https?://[^<\s]+)", archive.read(_SUPER_POM), re.S)
                if found:
                    return found[1].decode()
    raise FetchError("cannot ask Maven for its repository: it names none that can be read", hint=hint)
