"""What a registry asks of who asks it: a password (Basic), or a token that a token server makes for one (Bearer).

Passwords go to the registry that they are for, and to the one other host that the machine's file says makes its tokens
(``registries.HOST.tokens``); anybody else's tokens are asked for as nobody. Tokens go to the registry alone.
Source: RFC 9110, 11; Docker's "Token Authentication" and "OAuth2 Token Authentication" for registries.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from instar.errors import FetchError, SourceUnreachable
from instar.model.codec import parse
from instar.model.reference import Repository
from instar.registry.transport import Transport, whole

if TYPE_CHECKING:
    from instar.registry.credentials import Credentials

PASSING: Final = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another one next time
_LIMIT_BYTES: Final = 1 << 20
_CHALLENGE: Final = re.compile(r"(?i)\b(basic|bearer)\s")
_PARAMETER: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN: Final = re.compile(r"[!-~]{1,65536}")


class Authorisation:
    """For one repository of one registry. ``find`` looks for credentials, once, when the registry asks for some."""

    def __init__(
        self, transport: Transport, repository: Repository, actions: str, find: Callable[[], Credentials | None]
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._actions = actions
        self._find = find
        self._guard = threading.Lock()
        self._header: str | None = None
        self._looked = False
        self._credentials: Credentials | None = None
        self.stranger: str | None = None  # a token server that no password was sent to

    @property
    def header(self) -> str | None:
        """What stands in a request's ``Authorization``, None for nothing."""
        return self._header

    def answer(self, challenges: str, used: str | None) -> bool:
        """Get what a registry asks for, after it did not take ``used``; tell whether to ask it again with that.

        Raises SourceUnreachable, FetchError: a token server that does not answer, or denies it.
        """
        with self._guard:
            if self._header != used:  # another thread was quicker
                return True
            found = self._found(challenges)
            if found is None or found == used:
                return False
            self._header = found
            return True

    def _found(self, challenges: str) -> str | None:
        asked = _read(challenges)
        if "bearer" in asked:
            return f"Bearer {self._token(asked['bearer'])}"
        if "basic" not in asked or (credentials := self._known()) is None or not credentials.user:
            return None
        return credentials.basic

    def _known(self) -> Credentials | None:
        if not self._looked:
            self._credentials, self._looked = self._find(), True
        return self._credentials

    def _token(self, asked: Mapping[str, str]) -> str:
        host = self._repository.host
        realm = asked.get("realm", "")
        self._transport.require_allowed(realm, sent_by=self._transport.root(host))
        other = urlsplit(realm).netloc
        known = self._known()
        if known is not None and other not in (host, self._transport.settings(host).tokens):
            self.stranger, known = other, None
        scope = f"repository:{self._repository.path}:{self._actions}"
        query = {key: value for key, value in (("service", asked.get("service", "")), ("scope", scope)) if value}
        return self._made(realm, query, known)

    def _made(self, realm: str, query: dict[str, str], known: Credentials | None) -> str:
        headers = {"Accept": "application/json"}
        if known is not None and known.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": "instar",
                "refresh_token": known.identity_token,
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            method, url, body = "POST", realm, urlencode(form).encode()
        else:
            if known is not None:
                headers["Authorization"] = known.basic
            method, url, body = "GET", f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}", None
        response = self._transport.send(method, url, headers=headers, body=body)
        data = whole(response, urlsplit(realm).netloc, self._transport.patience, _LIMIT_BYTES)
        return self._taken(response.status, data, urlsplit(realm).netloc)

    def _taken(self, status: int, data: bytes, server: str) -> str:
        if status in PASSING:
            raise SourceUnreachable(f"cannot get a token for '{self._repository}': '{server}' answers {status}")
        if status != 200:
            raise denied(self._repository, f"'{server}', which makes its tokens, answers {status}", self.stranger)
        try:
            answer = parse(data)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise FetchError(f"cannot get a token for '{self._repository}': what '{server}' answers is none")
        return token


def denied(repository: Repository, cause: str, stranger: str | None) -> FetchError:
    """Return the refusal of a registry, and what may be done about it."""
    hint = f"log in, as who calls instar: podman login {repository.host} (or docker login)"
    if stranger is not None:
        hint = (
            f"its tokens are made by '{stranger}', to which its password is sent only if the machine's file says so: "
            f"registries: {{'{repository.host}': {{tokens: '{stranger}'}}}}"
        )
    return FetchError(f"cannot use '{repository}': {cause}", hint=hint)


def _read(challenges: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each way to answer, by its name in small letters."""
    found: dict[str, dict[str, str]] = {}
    parts = _CHALLENGE.split(challenges[: _LIMIT_BYTES >> 6])
    for name, rest in zip(parts[1::2], parts[2::2], strict=True):
        values = {one[1].lower(): one[2] if one[2] is not None else one[3] for one in _PARAMETER.finditer(rest)}
        found.setdefault(name.lower(), values)
    return found
