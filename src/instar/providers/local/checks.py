"""The questions that a release asks about a candidate, and what came instead when one isn't answered as it should be.

What a service or a server answers is shown to people, so a cause is one line of text that can be printed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from instar.model.environment import Check
from instar.providers.base import Probe
from instar.providers.local import health
from instar.providers.local.health import WELL, WELL_PROBE, ill

if TYPE_CHECKING:
    from instar.http_get import Answer, Goal

_PORTS = {"http": 80, "https": 443}


def ask_http(address: str, port: int, check: Check, host: str) -> Probe:
    """GET the check's path from an instance; ``host`` is what its health check calls it."""
    from instar.http_get import Goal

    path = check.path or "/"
    goal = Goal(host=address, port=port, path=_sendable(path), named=check.host or host)
    return _ask(f"GET {path}", goal, check)


def ask_url(check: Check) -> Probe:
    """GET the check's URL from this machine."""
    shown = f"GET {_without_user(check.url or '')}"
    try:
        goal = _goal(check.url or "")
    except ValueError as error:
        return ill(f"{shown}: that is no address to ask ({error})")
    return _ask(shown, goal, check, f"{shown}: ")


def _ask(shown: str, goal: Goal, check: Check, prefix: str = "") -> Probe:
    """``prefix`` says what was asked where the cause alone would not: of an instance, only its port is."""
    from instar import http_get

    timeout_s = check.timeout_ms / 1000
    try:
        answer = http_get.get(goal, wanted=check.contains, timeout_s=timeout_s)
    except TimeoutError:
        return ill(f"{shown} did not answer within {timeout_s:g} s")
    except Exception as error:  # an answer may be wrong in more ways than the library has names for
        refused = isinstance(error, ConnectionRefusedError)
        return dataclasses.replace(ill(_failure(shown, prefix, goal, error)), refused=refused)
    return _judged(shown, answer, check)


def _judged(shown: str, answer: Answer, check: Check) -> Probe:
    well = answer.status in WELL if check.status is None else answer.status == check.status
    if not well:
        wanted = "" if check.status is None else f", not {check.status}"
        return ill(f"{shown} answered {answer.status}{wanted}")
    if answer.found:
        return WELL_PROBE
    if not answer.whole:
        return ill(f"{shown} did not end its answer within {check.timeout_ms / 1000:g} s")
    return ill(f"{shown} does not contain '{check.contains}'")


def _failure(shown: str, prefix: str, goal: Goal, error: Exception) -> str:
    import socket
    import ssl
    from http.client import HTTPException, IncompleteRead, InvalidURL

    match error:
        case socket.gaierror():
            return f"{prefix}the name '{goal.host}' is not known ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"{prefix}the certificate of '{goal.host}' is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"{prefix}port {goal.port} does not speak TLS as it should ({error.reason or error})"
        case InvalidURL() | ValueError():
            return f"{shown}: that is no address to ask ({error})"
        case IncompleteRead():
            return f"{shown} broke off in the middle of its answer"
        case OSError():
            return f"{prefix}{health.refusal(error, goal.port)}"
        case HTTPException():
            return f"{shown} was answered with something that is not HTTP"
        case _:
            return f"{shown} failed: {error}"


def _goal(url: str) -> Goal:
    """Raises ValueError."""
    from instar.http_get import Goal

    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it begins with http:// or https:// and a name")
    if parts.username is not None:
        raise ValueError("a name and a password in it would not be sent")
    usual = _PORTS[parts.scheme]
    port = usual if parts.port is None else parts.port
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode("ascii")
    named = f"[{host}]" if ":" in host else host
    path = _sendable(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
    return Goal(
        host=host,
        port=port,
        path=path,
        named=named if port == usual else f"{named}:{port}",
        tls=parts.scheme == "https",
    )


def _sendable(path: str) -> str:
    """Return it with what may not be in a request as %XX. Source: RFC 3986, 2."""
    from urllib.parse import quote

    return quote(path, safe="!$%&'()*+,/:;=?@~")


def _without_user(url: str) -> str:
    before, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{before}{slashes}{authority.rpartition('@')[2]}{slash}{path}"
