"""One repository of a registry, asked by digest. What it answers is believed where a hash says that it is so.

A passing failure (no answer, 429, 5xx) is tried again, each time later, and as the registry says by ``Retry-After``.
Redirects are followed for what is read; another host gets no credentials of this one. Whatever an error says has no
password, token or signed address in it. Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urljoin

from instar.cancellation import Cancellation
from instar.errors import FetchError, HashMismatch, ImageNotFound, PartsUnknown, SourceUnreachable
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.reference import Repository
from instar.registry.authorisation import PASSING, Authorisation, denied
from instar.registry.transport import Patience, Transport, pieces, whole
from instar.store.manifest import INDEX_TYPES, MANIFEST_TYPES, media_type

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from instar.registry.credentials import Credentials

MANIFEST_LIMIT_BYTES: Final = 4 << 20
_SOME_BYTES: Final = 1 << 16  # more than an answer can bring that is too slow
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 5
_MOST_LOGINS: Final = 4  # of one request: a token may have ended, and another thread been quicker
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{1,60}")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_PARTS_UNKNOWN: Final = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
DIGEST_HEADER: Final = "Docker-Content-Digest"
ACCEPT: Final = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
R = TypeVar("R")


class Tries:
    """How often something has failed without anything that came of it, and the pauses in between."""

    def __init__(self, patience: Patience, cancellation: Cancellation) -> None:
        self._patience = patience
        self._cancellation = cancellation
        self._failed = 0

    def came(self, count: int) -> None:
        """So many bytes came of it; if that is something, begin to count anew."""
        if count >= _SOME_BYTES:
            self._failed = 0

    def after(self, error: FetchError) -> None:
        """Wait until it makes sense to try again. Raises ``error`` when it was tried often enough, and Cancelled."""
        self._failed += 1
        patience = self._patience
        told_s = error.retry_after_s if "retry_after_s" in vars(error) else None  # by the registry itself
        if self._failed >= patience.tries or (told_s or 0) > patience.longest_pause_s:
            if error.retry_after_s is not None:
                when = f" in {told_s:,.0f} s" if told_s else " later"
                error.hint = f"try again{when}: what came so far is not lost" + (
                    f"; {error.hint}" if error.hint else ""
                )
            raise error
        own_s = min(patience.first_pause_s * 2 ** (self._failed - 1), patience.longest_pause_s)
        self._cancellation.pause(max(told_s or 0, own_s * random.uniform(0.75, 1.25)))  # noqa: S311
        self._cancellation.check()


class Client:
    """A repository, to read from (``actions`` is ``pull``) or to write to as well (``pull,push``). Safe for threads."""

    def __init__(
        self,
        repository: Repository,
        transport: Transport,
        cancellation: Cancellation,
        *,
        actions: str = "pull",
        environ: Mapping[str, str],
    ) -> None:
        self.repository = repository
        self.patience = transport.patience
        self._transport = transport
        self._cancellation = cancellation
        self._environ = environ
        self._authorisation = Authorisation(transport, repository, actions, self._credentials)

    @property
    def root(self) -> str:
        return self._transport.root(self.repository.host)

    def _credentials(self) -> Credentials | None:
        from instar.registry.credentials import find_credentials

        return find_credentials(self.repository, self._environ)

    def tries(self) -> Tries:
        return Tries(self.patience, self._cancellation)

    def persistently(self, ask: Callable[[], R]) -> R:
        """Return what ``ask`` does, tried again where it may come to more. Raises SourceUnreachable, Cancelled."""
        tries = self.tries()
        while True:
            try:
                return ask()
            except SourceUnreachable as error:
                tries.after(error)

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest, to the byte.

        Raises ImageNotFound, HashMismatch for other bytes than the digest's, FetchError for what is no manifest.
        """
        what = f"{self.repository}@{digest}"
        data, told, _ = self.persistently(lambda: self._manifest(digest, what))
        if Digest.of(data) != digest:
            raise HashMismatch(f"cannot pull '{what}': the registry has other bytes ({Digest.of(data)})")
        return _require_kind(data, told, what)

    def tagged(self, tag: str) -> bytes:
        """Return the manifest that a tag is on now, to the byte. Raises as :meth:`manifest` does."""
        what = f"{self.repository}:{tag}"
        data, told, said = self.persistently(lambda: self._manifest(tag, what))
        if said not in (None, Digest.of(data)):
            raise HashMismatch(f"cannot pull '{what}': the bytes that come are not those that the registry says")
        return _require_kind(data, told, what)

    def _manifest(self, name: str, what: str) -> tuple[bytes, str, str | None]:
        """Return what the registry gives for a manifest, what it says that it is, and which digest it says of it."""
        with self.asking("GET", f"manifests/{name}", headers=ACCEPT) as response:
            if response.status == 404:
                raise ImageNotFound(f"cannot pull '{what}': '{self.repository.host}' does not have it")
            told = response.headers.get("Content-Type", "").partition(";")[0].strip()
            data = whole(response, self.repository.host, self.patience, MANIFEST_LIMIT_BYTES)
            return data, told, response.headers.get(DIGEST_HEADER)

    def has_manifest(self, digest: Digest, size_bytes: int | None = None) -> bool:
        """Ask whether a manifest is there, under its digest and of its size where that is known."""
        return self.persistently(lambda: self._has(f"manifests/{digest}", digest, size_bytes))

    def has_blob(self, digest: Digest, size_bytes: int) -> bool:
        """Ask whether a blob is there, under its digest and of its size."""
        return self.persistently(lambda: self._has(f"blobs/{digest}", digest, size_bytes))

    def _has(self, path: str, digest: Digest, size_bytes: int | None) -> bool:
        with self.asking("HEAD", path, headers=ACCEPT if path.startswith("manifests/") else None) as response:
            same = size_bytes is None or _length(response) in (None, size_bytes)
            return response.status == 200 and same and response.headers.get(DIGEST_HEADER, digest) == digest

    def put_manifest(self, name: str, data: bytes) -> str | None:
        """Have a manifest in the registry, under its digest or as a tag; return which image's list of attachments it
        has been entered in, if it has. Raises PartsUnknown, SourceUnreachable, FetchError."""
        headers = {"Content-Type": media_type(data)}

        def put() -> str | None:
            with self.asking("PUT", f"manifests/{name}", headers=headers, body=data, ok=(201,)) as response:
                return response.headers.get("OCI-Subject")

        return self.persistently(put)

    @contextlib.contextmanager
    def blob(self, digest: Digest, size_bytes: int, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Give the bytes of a blob from ``offset`` on, or from 0 where the registry gives no parts; and from where.

        Raises ImageNotFound, FetchError for an answer that says another length or digest.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        what = f"'{digest.short}' of '{self.repository}'"
        with self.asking("GET", f"blobs/{digest}", headers=headers, ok=(200, 206, 404, 416)) as response:
            if response.status == 404:
                raise ImageNotFound(f"cannot pull {what}: the registry does not have it")
            start = _start(response, offset, size_bytes, what)
            told = _length(response)
            if told not in (None, size_bytes - start):
                raise HashMismatch(f"cannot pull {what}: {told:,} bytes come, and not {size_bytes - start:,}")
            said = response.headers.get(DIGEST_HEADER, digest)
            if said != digest:
                raise HashMismatch(f"cannot pull {what}: the registry says that it gives another blob")
            yield start, pieces(response, self.repository.host, self.patience)

    @contextlib.contextmanager
    def asking(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        ok: tuple[int, ...] = (200, 404),
    ) -> Iterator[BaseHTTPResponse]:
        """Ask once, and give the answer, if it is one of ``ok``; ``path`` is below the repository's.

        Raises SourceUnreachable, with how long a registry wants to be left alone if it says so; FetchError.
        """
        url = f"{self.root}/v2/{self.repository.path}/{path}"
        response = self.once(method, url, headers=headers or {}, body=lambda: body)
        try:
            if response.status not in ok:
                raise self.refusal(response)
            yield response
        finally:
            leave(response)

    def once(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Callable[[], bytes | Iterator[bytes] | None] = lambda: None,
    ) -> BaseHTTPResponse:
        """Ask once, with what the registry wants to know of us, and where it sends us. Raises SourceUnreachable,
        FetchError."""
        follows = method in ("GET", "HEAD")
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._authorised(method, url, headers, body)
            if response.status not in _REDIRECTS or not follows:
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = self.resolved(url, location)
        raise FetchError(f"cannot use '{self.repository}': it sends us on and on")

    def resolved(self, url: str, location: str) -> str:
        """Return where a registry sends us from ``url``. Raises FetchError for where we do not go."""
        try:
            found = urljoin(url, location)
        except ValueError:
            found = ""
        self._transport.require_allowed(found, sent_by=url)
        return found

    def _authorised(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Callable[[], bytes | Iterator[bytes] | None],
    ) -> BaseHTTPResponse:
        own = url.startswith(f"{self.root}/")
        for _ in range(_MOST_LOGINS):
            used = self._authorisation.header if own else None
            sent = {**headers, "Authorization": used} if used is not None else headers
            response = self._transport.send(method, url, headers=sent, body=body())
            if response.status != 401 or not own:
                return response
            challenges = response.headers.get("WWW-Authenticate", "")
            response.close()
            if not self._authorisation.answer(challenges, used):
                break
        raise denied(self.repository, "it asks for another login", self._authorisation.stranger)

    def refusal(self, response: BaseHTTPResponse) -> FetchError:
        """Return what an answer means that was not wanted."""
        if response.status in PASSING:
            cause = f"cannot use '{self.repository}': it answers {response.status}"
            return SourceUnreachable(cause, retry_after_s=_retry_after_s(response))
        codes = _codes(response, self.repository.host, self.patience)
        cause = f"it answers {response.status}" + (f" ({', '.join(codes)})" if codes else "")
        if response.status in (401, 403):
            return denied(self.repository, cause, self._authorisation.stranger)
        kind = FetchError if _PARTS_UNKNOWN.isdisjoint(codes) else PartsUnknown
        return kind(f"cannot use '{self.repository}': {cause}")


def _require_kind(data: bytes, told: str, what: str) -> bytes:
    """Return a manifest if it is what the registry says that it is. Raises FetchError."""
    try:
        kind = media_type(data)
    except ValueError as error:
        came = f"what came as {told or 'nothing'!r:.100} is no manifest"
        raise FetchError(f"cannot pull '{what}': {came}: {error}") from error
    if told != kind:
        said = f"the registry says that it is {told or 'nothing'!r:.100}, it says {kind!r:.100}"
        raise FetchError(f"cannot pull '{what}': {said}")
    return data


def leave(response: BaseHTTPResponse) -> None:
    """Give the connection back for the next request, unless more of this answer may come on it."""
    response.release_conn() if response.length_remaining == 0 else response.close()


def _length(response: BaseHTTPResponse) -> int | None:
    """Return how many bytes an answer says that it has, None where it says nothing, or what is no such number."""
    text = response.headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def _start(response: BaseHTTPResponse, offset: int, size_bytes: int, what: str) -> int:
    """Return from where on the bytes come that an answer has."""
    if response.status == 200:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and found and (int(found[1]), int(found[3])) == (offset, size_bytes):
        return offset
    raise HashMismatch(f"cannot pull {what}: asked for its bytes from {offset:,} on, the registry gives others")


def _retry_after_s(response: BaseHTTPResponse) -> float | None:
    """Return how long a registry wants to be left alone. Source: RFC 9110, 10.2.3."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _codes(response: BaseHTTPResponse, host: str, patience: Patience) -> list[str]:
    """Return the codes in an error of a registry's. What it says in words may be anything."""
    try:
        errors = parse(whole(response, host, patience, 1 << 16))["errors"]
        found = [str(one.get("code", "")) for one in errors[:5]]
    except (SourceUnreachable, FetchError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [code for code in found if _CODE.fullmatch(code)]
