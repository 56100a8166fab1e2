"""Where source distributions of Python are: the indexes that pip is configured for, and those that a definition names.

pip and uv run what they find in one to know what it is; so here a project's page is read, and the file fetched by its
hash. A password goes to the host of its index alone.

Source: PyPA specifications, "Simple repository API"; PEP 625.
"""

from __future__ import annotations

import base64
import json
import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from instar import process
from instar.ecosystems.download import Downloads, Missing, sent_to
from instar.errors import CommandFailed, FetchError, HashMismatch
from instar.fetch.cache import Cache
from instar.fetch.index import PipConfiguration, pip_command, pip_environment, read_index
from instar.fetch.indexes import find_index, write_certificates
from instar.fetch.requirements import normal_name
from instar.frozen import dataclass
from instar.model.digest import Digest

_PAGE: Final = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_SUFFIX: Final = ".tar.gz"
_DEFAULT: Final = re.compile(r"\(default\s+(https?://[^\s)]+)\)")
_HASH: Final = re.compile(r"sha256=([0-9a-f]{64})")
_CONFIGURED: Final = "pip config list shows which indexes are asked"
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSource:
    """A source distribution, and where it is. ``url``: without anybody's password, or a path of this machine."""

    filename: str
    url: str
    sha256: Digest | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """An index, its address without who asks; ``login``: the user and the password, for its host alone."""

    url: str
    login: tuple[str, str] | None = None


class SourceIndexes:
    """The indexes that one project comes from: the one of that ``name`` on this machine, or (None) those of pip."""

    def __init__(self, name: str | None, folder: Path, environ: Mapping[str, str] = os.environ) -> None:
        """``folder`` is empty, and lasts as long as this does. Raises FetchError, HostError."""
        pip = read_index(environ)
        named = find_index(name, environ) if name is not None else None
        if named is not None:
            login = (named.login.user, named.login.password) if named.login else None
            self._places, self._folders = [_Place(url=named.url.rstrip("/"), login=login)], list[Path]()
            certificates = write_certificates([named], folder / "certificates.pem", pip.cert)
        else:
            self._places = [_place(url, environ) for url in _addresses(pip)]
            self._folders = [Path(one).expanduser() for one in pip.find_links if "://" not in one]
            certificates = None
        ca = str(certificates) if certificates else pip.cert
        proxies = dict.fromkeys(("http_proxy", "https_proxy"), pip.proxy) if pip.proxy else {}
        self._downloads = Downloads(
            configured=_CONFIGURED, authorise=self._authorise, ca=ca, environ={**environ, **proxies}
        )

    def find(self, project: str, version: str) -> FoundSource:
        """Return the source distribution of a version. Raises FetchError, SourceUnreachable."""
        for folder in self._folders:
            for path in sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else ():
                if _is(path.name, project, version):
                    return FoundSource(filename=path.name, url=str(path), sha256=None)
        there = False
        for place in self._places:
            address = f"{place.url}/{project}/"
            try:
                page = self._downloads.page(address, f"the page of '{project}'", accept=_PAGE)
            except Missing:
                continue
            there = True
            for filename, url, known in files_of(page, address):
                if _is(filename, project, version):
                    allowed = sent_to(address, url, f"'{project}' {version}")
                    return FoundSource(filename=filename, url=allowed, sha256=known)
        what = f"{version} of it has no source distribution ({_SUFFIX})" if there else "no index that is asked has it"
        raise FetchError(f"cannot build '{project}': {what}", hint=_CONFIGURED)

    def bring(self, found: FoundSource, cache: Cache, expected: Digest | None) -> Digest:
        """Fetch it into the cache. Raises SourceUnreachable, FetchError, HashMismatch."""
        wanted = expected or found.sha256
        if expected and found.sha256 and expected != found.sha256:
            raise HashMismatch(
                f"cannot fetch '{found.filename}': the index has another file (SHA-256 {found.sha256.hex}) than the"
                f" lock says ({expected.hex})",
                hint=f"if that is meant: instar lock --update {normal_name(found.filename.rpartition('-')[0])}",
            )
        if "://" in found.url:
            return self._downloads.keep(found.url, f"'{found.filename}'", cache, wanted, lambda path: None)
        with Path(found.url).open("rb") as file:
            return cache.add(iter(lambda: file.read(_BLOCK_BYTES), b""), wanted)

    def _authorise(self, url: str) -> str | None:
        parts = urlsplit(url)
        for place in self._places:
            own = urlsplit(place.url)
            if place.login and (own.scheme, own.netloc) == (parts.scheme, parts.netloc):
                return f"Basic {base64.b64encode(':'.join(place.login).encode()).decode()}"
        return None


def _addresses(pip: PipConfiguration) -> list[str]:
    if pip.no_index:
        return []
    return [pip.index_url or _index_of_pip(), *pip.extra_index_urls]


def _place(url: str, environ: Mapping[str, str]) -> _Place:
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    if parts.username is not None:
        return _Place(url=bare, login=(unquote(parts.username), unquote(parts.password or "")))
    file = Path(environ.get("NETRC") or Path(environ.get("HOME", "/nonexistent"), ".netrc"))
    try:
        known = netrc.netrc(file).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        known = None
    return _Place(url=bare, login=(known[0], known[2] or "") if known else None)


def _index_of_pip() -> str:
    """Return the index that pip asks when nothing names one: it says so itself."""
    try:
        done = process.run(pip_command("download", "--help"), timeout_s=60, env=pip_environment())
    except CommandFailed as error:
        raise FetchError(f"cannot ask pip for its index: {error.message}", hint=_CONFIGURED) from error
    found = _DEFAULT.search(" ".join(done.stdout.decode("utf-8", "replace").split()))
    if found is None:
        raise FetchError("cannot ask pip for its index: it names none", hint="pip config set global.index-url ADDRESS")
    return found[1]


def _is(filename: str, project: str, version: str) -> bool:
    from packaging.version import InvalidVersion, Version

    name, _, given = filename.removesuffix(_SUFFIX).rpartition("-")
    if not filename.endswith(_SUFFIX) or normal_name(name) != project:
        return False
    try:
        return Version(given) == Version(version)
    except InvalidVersion:
        return given == version


def files_of(page: bytes, address: str) -> Iterator[tuple[str, str, Digest | None]]:
    """Yield the name, the address and the hash of each file on a page, in either of its forms."""
    text = page.decode("utf-8", "replace")
    links = _of_json(text) if text.lstrip().startswith("{") else _of_html(text)
    for filename, href, sha256 in links:
        try:
            yield filename, urljoin(address, href).partition("#")[0], Digest.from_hex(sha256) if sha256 else None
        except ValueError:
            continue


def _of_json(text: str) -> Sequence[tuple[str, str, str | None]]:
    try:
        files: Any = json.loads(text).get("files", [])
        found = [(one["filename"], one["url"], one.get("hashes", {}).get("sha256")) for one in files]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError("cannot read the page of an index: it is none", hint=_CONFIGURED) from error
    return [one for one in found if isinstance(one[0], str) and isinstance(one[1], str)]


def _of_html(text: str) -> Sequence[tuple[str, str, str | None]]:
    links = _Links()
    links.feed(text)
    return [
        (unquote(urlsplit(href).path).rpartition("/")[2], href, known[1] if (known := _HASH.search(href)) else None)
        for href in links.found
    ]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.found.append(href)
