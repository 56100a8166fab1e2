"""What the router does with the head of a request before an application sees it, and with that of an answer: pure.

An application believes what the router says about where a request came from, so a client must not be able to say it
too: neither in the same name nor in one that an application reads as the same. WSGI, CGI and PHP read ``X_Real_IP`` as
``X-Real-IP``, others any sign that is no letter and no digit as "_": a name with such a sign goes no further. Nor does
what a client lists in ``Connection``: a server behind would drop those headers, and with them what the router said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar.model.definition import Headers

LARGEST_BYTES: Final = 1 << 20
MOST: Final = 4_000

# Only a client on this machine is believed: a server in front, which ends TLS.
_LOCAL: Final = "  acl local src 127.0.0.0/8 ::1"
_FIRST: Final = (
    _LOCAL,
    "  http-request del-header Proxy",
    "  http-request del-header Forwarded unless local",
    "  http-request del-header X-Real-IP unless local",
    "  http-request del-header X-Forwarded- -m beg unless local",
    "  http-request set-header X-Forwarded-For %[src] unless { req.hdr(X-Forwarded-For) -m found }",
    "  http-request set-header X-Forwarded-Host %[req.hdr(Host)] unless { req.hdr(X-Forwarded-Host) -m found }",
    "  http-request set-header X-Forwarded-Proto http unless { req.hdr(X-Forwarded-Proto) -m found }",
)
_DROPPED: Final = (
    "  http-request del-header [^A-Za-z0-9-] -m reg",
    "  http-request del-header Proxy",
    "  http-request del-header Proxy-Connection",
    "  http-request del-header Keep-Alive",
)
# Another protocol than HTTP may follow in the same connection, but not HTTP/2: its requests would not pass here.
_CONNECTION: Final = (
    "  acl to-http req.hdr(Upgrade) -m beg -i h2 http/",
    "  acl upgrade req.hdr(Connection) -i upgrade",
    "  acl upgrade-to req.hdr(Upgrade) -m found",
    "  http-request del-header HTTP2-Settings",
    "  http-request del-header Upgrade if to-http or !upgrade",
    "  http-request set-header Connection upgrade if upgrade-to",
    "  http-request del-header Connection unless upgrade-to",
)
# It would make of the connection a tunnel to the server, whose requests would not pass here either.
_NO_TUNNEL: Final = "  http-request deny deny_status 405 if { method CONNECT }"
# Of "GET https://user@name/path" a service gets the path: it may believe what the client says of the way it came.
_WHOLE: Final = "{ req.ver -m beg 1. } !{ url -m beg / } !{ url -m str * }"
_ORIGIN: Final = (
    f"  http-request set-uri / if {_WHOLE} !{{ path -m beg / }}",
    f"  http-request set-uri %[pathq] if {_WHOLE}",
)
_SAID_BY_OTHERS: Final = (
    "  http-request del-header Forwarded unless local",
    "  http-request del-header X-Forwarded -m beg unless local",
    "  http-request del-header X-Real-IP unless local",
    "  http-request del-header X-Client-IP unless local",
    "  http-request del-header X-Cluster-Client-IP unless local",
    "  http-request del-header Client-IP unless local",
)
_CERTIFICATE: Final = "  http-request del-header Client-Cert -m beg unless local"
_SAID: Final = (
    "  http-request set-header X-Forwarded-For %[src] unless { req.fhdr(X-Forwarded-For) -m found }",
    "  http-request set-header X-Forwarded-Host %[req.fhdr(Host)] unless { req.fhdr(X-Forwarded-Host) -m found }",
)
UNGUESSED: Final = 6  # the form of a router's file in which nobody guesses how long an answer stays fresh
_UNGUESSED: Final = (
    "  http-response set-header Cache-Control no-cache if { res.fhdr(Last-Modified) -m found }"
    " !{ res.fhdr(Cache-Control) -m found } !{ res.fhdr(Expires) -m found }",
)
_PROTO: Final = "  http-request set-header X-Forwarded-Proto {} unless {{ req.fhdr(X-Forwarded-Proto) -m found }}"


def rules(form: int, *, proxied: bool) -> Sequence[str]:
    """Return the rules of a frontend. ``proxied``: a server in front may say to which of its ports a client came."""
    if form == 1:
        return _FIRST
    https = [_PROTO.format("https") + " or !{ dst_port 443 }"] if proxied else []
    first = [*([_NO_TUNNEL] if form > 2 else []), *(_ORIGIN if form > 4 else [])]
    others = [*_SAID_BY_OTHERS, *([_CERTIFICATE] if form > 4 else ())]
    return (_LOCAL, *first, *_DROPPED, *_CONNECTION, *others, *_SAID, *https, _PROTO.format("http"))


def answers(form: int) -> Sequence[str]:
    """Return the rules for what a service answers: it says itself how long an answer stays fresh, or it is asked for
    again. Browsers would guess that from how old the answer says that it is, and times in an image are made up."""
    return _UNGUESSED if form >= UNGUESSED else ()


def rules_of_the_edge() -> Sequence[str]:
    """Return the rules of the machine's edge, whose clients are believed nothing, wherever they are. A router that it
    asks needs none: no request comes to it otherwise. (Names with other signs the edge drops by an option.)"""
    unsaid = (line.removesuffix(" unless local") for line in (*_SAID_BY_OTHERS, _CERTIFICATE))
    here = ("For %[src]", "Host %[req.fhdr(Host)]", "Port %[dst_port]")
    said = (f"  http-request set-header X-Forwarded-{what}" for what in here)
    return (*_ORIGIN, *_DROPPED[1:], *_CONNECTION, *unsaid, *said)


def room(headers: Headers) -> Sequence[str]:
    """Return how much HAProxy must be able to hold: the head as it came, what it notes about each line of it, and
    what the rules add."""
    return (f"  tune.bufsize {buffer_bytes(headers)}", f"  tune.http.maxhdr {headers.count + 1}")


def buffer_bytes(headers: Headers) -> int:
    return headers.size_bytes + 16 * headers.count + 2_048


def refusal(headers: Headers) -> str:
    """Return the answer for who asked when that of the service has no room. (HAProxy's own, 400, is for a request.)"""
    allowed = f"its headers are longer than {headers.size_bytes // 1024} kB or {headers.count} lines"
    why = f"the service did not answer as it should, or {allowed}"
    return f'  http-error status 502 content-type text/plain string "{why}\\n"'
