"""A file by its URL and SHA-256, streamed into the cache."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

from instar.errors import FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.network import CONNECT_TIMEOUT_S, RETRIES
from instar.model.digest import Digest
from instar.model.image_spec import Fetch

SIZE_LIMIT_BYTES = 4 << 30
_TIMEOUT_S = 3600
_BLOCK_BYTES = 1 << 18
_LENGTH = re.compile(r"[0-9]{1,18}")
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another one next time


def fetch_file(
    file: Fetch, cache: Cache, *, limit_bytes: int = SIZE_LIMIT_BYTES, timeout_s: float = _TIMEOUT_S
) -> None:
    """Fetch ``file`` into the cache, whole or not at all. Proxies and certificates are the environment's.

    Raises:
        SourceUnreachable: the URL does not answer, or not in time.
        FetchError: it answers that this cannot be had, or sends more than ``limit_bytes``.
        HashMismatch: the bytes are not those that the definition says.
    """
    expected = Digest.from_hex(file.sha256)
    for left in range(RETRIES, -1, -1):
        try:
            _fetch(file.url, expected, cache, limit_bytes, timeout_s)
            return
        except SourceUnreachable:
            if not left:
                raise


def _fetch(url: str, expected: Digest, cache: Cache, limit_bytes: int, timeout_s: float) -> None:
    answer = _open(url)
    try:
        cache.add(_blocks(url, answer, limit_bytes, time.monotonic() + timeout_s), expected)
    except HashMismatch as error:
        raise HashMismatch(
            f"cannot fetch '{url}': {error.message.partition(': ')[2]}",
            hint="if the file was changed on purpose, write its new sha256 into the definition",
        ) from error
    finally:
        answer.close()


def _open(url: str) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_Redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "instar", "Accept-Encoding": "identity"})  # noqa: S310
    try:
        answer: http.client.HTTPResponse = opener.open(request, timeout=CONNECT_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        kind = SourceUnreachable if error.code in _PASSING else FetchError
        raise kind(f"cannot fetch '{url}': it answers {error.code} {error.reason}", hint="check the URL") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host that no URL can have
        raise _unreachable(url, error) from error
    return answer


def _blocks(url: str, answer: http.client.HTTPResponse, limit_bytes: int, deadline: float) -> Iterator[bytes]:
    size_bytes = 0
    while block := _block(url, answer):
        size_bytes += len(block)
        if size_bytes > limit_bytes:
            raise FetchError(f"cannot fetch '{url}': it is larger than {limit_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise SourceUnreachable(f"cannot fetch '{url}': it is too slow: {size_bytes:,} bytes so far")
        yield block
    told = answer.headers.get("Content-Length", "")
    if _LENGTH.fullmatch(told) and int(told) != size_bytes:
        raise SourceUnreachable(f"cannot fetch '{url}': it broke off after {size_bytes:,} of {int(told):,} bytes")


def _block(url: str, answer: http.client.HTTPResponse) -> bytes:
    """Return what has arrived: waiting for a whole block would let a trickle pass every time limit."""
    try:
        return answer.read1(_BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> SourceUnreachable:
    cause = getattr(error, "reason", None) or str(error) or type(error).__name__
    return SourceUnreachable(f"cannot fetch '{url}': {cause}", hint="check the URL, the network and its proxy")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects between web addresses only, and never from an encrypted one to a plain one."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise urllib.error.URLError(f"it redirects to '{newurl}'")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
