"""HAProxy's own check of a server, as text: pure.

HAProxy's check of HTTP takes the first answer for the only one, also an interim one (RFC 9110, 15.2). So the request is
sent and the answer read as text: a pattern passes over the interim answers to the final one. Of an answer that is no
good nothing is said but the digits of its status: what HAProxy says of a check is read by others, and by people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

PATH: Final = re.compile(r"/[A-Za-z0-9/._~!*()@:&;=+,%?-]{0,1023}", re.ASCII)
HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?(:[0-9]{1,5})?", re.ASCII)

_INTERIM: Final = r"^(HTTP/1\.[01] 1[0-9][02-9][^\n]*\n([^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.[01] "
_FINAL: Final = r"res.payload(0,0),regsub(\"" + _INTERIM.replace("\\", "\\\\") + r"([0-9]+)[^\\x01]*\",\"\\3\")"
_DIGITS: Final = r",bytes(0,3),regsub(\"[^0-9]\",\"\",g)"  # whatever the answer was, no more than three


def rules(form: int, path: str | None, host: str) -> Sequence[str]:
    """Return the lines of a backend. ``path`` None: to connect is enough, and needs none."""
    if path is None:
        return ()
    if form == 1:
        return (
            "  option httpchk",
            f"  http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {host} hdr User-Agent instar hdr Accept */*",
            "  http-check expect status 200-399",
        )
    head = rf"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: instar\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    status = _FINAL + (_DIGITS if form > 2 else "")
    return (
        "  option tcp-check",
        "  tcp-check connect",
        f'  tcp-check send "{head}"',
        f'  tcp-check expect comment "an answer" rstring "{_INTERIM}[2-9][0-9][0-9]"',
        f'  tcp-check expect min-recv 1 error-status L7STS on-error "answered %[{status}]"'
        f' rstring "{_INTERIM}[23][0-9][0-9]"',
    )
