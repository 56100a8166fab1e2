"""What of a router's file says which requests are logged, and how: pure. ``access_writer.py`` writes the log.

A line is shorter than what a pipe takes at once (4,096 bytes), so that no two of them mingle: what a client says is
cut, and HAProxy writes it as JSON in ASCII, in which a byte has six at the most. It has no query, no cookie and no
header but the host's name and, of a server in front on this machine, the address that it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PIPE: Final = "INSTAR_ACCESS"  # the variable of the pipe's descriptor
METHOD_BYTES, HOST_BYTES, PATH_BYTES = 20, 128, 400

_SAID: Final = "req.hdr_ip(X-Forwarded-For,-1)"
_FORM: Final = ",".join(
    (
        r"{\"method\":\"%[var(txn.log_method),json(utf8s)]\"",
        r"\"host\":\"%[var(txn.log_host),json(utf8s)]\"",
        r"\"path\":\"%[var(txn.log_path),json(utf8s)]\"",
        r"\"protocol\":\"%[var(txn.log_protocol),json(utf8s)]\"",
        r"\"status\":%ST",
        r"\"bytes\":%B",
        r"\"ms\":%Ta}",
    )
)
_RULES: Final = (
    f'  log "fd@${{{PIPE}}}" len 4096 format raw local0 info',
    f'  log-format "%[date(0,ms)] %si:%sp %ci %[var(txn.log_client)] {_FORM}"',
    "  option dontlognull",
    f"  http-request set-var(txn.log_client) {_SAID} if {{ src 127.0.0.0/8 ::1 }}",
    f"  http-request set-var(txn.log_method) method,bytes(0,{METHOD_BYTES})",
    f"  http-request set-var(txn.log_host) req.fhdr(Host),bytes(0,{HOST_BYTES})",
    f"  http-request set-var(txn.log_path) path,bytes(0,{PATH_BYTES})",
    "  http-request set-var-fmt(txn.log_protocol) HTTP/%[req.ver,bytes(0,8)]",
)


def rules(logged: bool) -> Sequence[str]:
    """Return the rules of a frontend, which come before all that changes or refuses a request."""
    return _RULES if logged else ()


def silence(needed: bool) -> Sequence[str]:
    """Return the rule for a request that a retired HAProxy sends through the door once more, where it is logged."""
    return ("  http-request set-log-level silent if { var(txn.again) -m bool }",) if needed else ()
