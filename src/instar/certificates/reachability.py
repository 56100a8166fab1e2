"""Does a name lead to this machine's edge? Asked before an authority is, whose failed validations are counted.

Every address of the name is asked, as an authority may take any of them: one without a listener fails it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final

from instar.certificates.door import Door
from instar.errors import NameElsewhere

PATH: Final = "/.well-known/instar/"
PORT: Final = 80
_TIMEOUT_S: Final = 5.0
_MOST_ADDRESSES: Final = 8
_REDIRECTS: Final = range(300, 400)


def addresses_of(name: str) -> tuple[str, ...]:
    """Return the addresses of ``name`` as this machine resolves it. Raises NameElsewhere."""
    try:
        found = socket.getaddrinfo(name, PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NameElsewhere(
            f"cannot order a certificate of '{name}': the name has no address ({cause})",
            hint="give it one in the DNS; the order waits for that",
        ) from error
    return tuple(dict.fromkeys(str(one[4][0]) for one in found))


def require_here(
    name: str, door: Door, *, port: int = PORT, resolve: Callable[[str], Sequence[str]] = addresses_of
) -> None:
    """Raise NameElsewhere, saying what came instead, unless a request to ``name`` comes out at ``door``."""
    addresses = resolve(name)
    if len(addresses) > _MOST_ADDRESSES:
        raise _elsewhere(name, f"it has {len(addresses)} addresses")
    nonce = secrets.token_hex(16)
    door.answer_nonce(nonce)
    try:
        for address in addresses:
            _require_answer(name, address, port, nonce)
    finally:
        door.answer_nonce(None)


def _require_answer(name: str, address: str, port: int, nonce: str) -> None:
    from http.client import HTTPException

    from instar.http_get import Goal, get

    goal = Goal(host=address, port=port, path=f"{PATH}{nonce}", named=name)
    try:
        answer = get(goal, wanted=nonce, timeout_s=_TIMEOUT_S)
    except TimeoutError as error:
        raise _elsewhere(name, f"{address} did not answer within {_TIMEOUT_S:g} s") from error
    except (OSError, HTTPException, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise _elsewhere(name, f"{address} does not answer there: {cause}") from error
    if answer.status in _REDIRECTS:
        raise _elsewhere(name, f"{address} answered with a redirect ({answer.status})")
    if answer.status != 200 or not answer.found:
        what = f"{answer.status}" if answer.status != 200 else "something else"
        raise _elsewhere(name, f"{address} answered {what}, and not what this machine's edge does")


def _elsewhere(name: str, cause: str) -> NameElsewhere:
    return NameElsewhere(
        f"cannot order a certificate of '{name}': the name does not lead here: {cause}",
        hint=f"let its addresses in the DNS be this machine's, with port 80 open; the order waits for that "
        f"(at once, whatever comes back: instar certificates renew {name} --force)",
    )
