"""One GET, from the resolving of a name to the end of what is wanted of the answer, within its time.

A name server may be silent, and a server may answer a byte at a time, so that no time-out of a single call bounds the
whole: the exchange is made by a thread of its own, which is given up when its time is over. Redirects are not
followed, and this machine's proxies not used.
"""

from __future__ import annotations

import socket
import ssl
import threading
from http.client import HTTPConnection, HTTPResponse

from instar.frozen import dataclass
from instar.threads import begin
from instar.waiting import Deadline

BODY_LIMIT = 1 << 20
_PIECE_BYTES = 65_536
_GOODBYE_S = 0.05
_INTERIM = (100, *range(102, 200))  # Source: RFC 9110, 15.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """Whom to ask for what. ``host`` is a name or an address; ``named`` is what the request calls it."""

    host: str
    port: int
    path: str
    named: str
    tls: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``found``: what was wanted is in the body, or nothing was. Not ``whole``: the time was over before the end."""

    status: int
    found: bool
    whole: bool = True


def get(goal: Goal, *, wanted: str | None = None, timeout_s: float) -> Answer:
    """Ask once, and look for ``wanted`` in the first MiB of what is answered.

    Raises TimeoutError when no status came in time (one that came without its body in time is not ``whole``), OSError,
    http.client.HTTPException, ValueError for a goal that cannot be asked.
    """
    attempt = _Attempt(goal, wanted, Deadline.after(timeout_s))
    begin(attempt.run, "http-get")
    if attempt.ended.wait(timeout_s):
        return attempt.outcome()
    try:
        return attempt.so_far()
    finally:
        attempt.give_up()  # what it cuts would look like an answer's end


class _Attempt:
    def __init__(self, goal: Goal, wanted: str | None, deadline: Deadline) -> None:
        self.ended = threading.Event()
        self._goal = goal
        self._wanted = wanted
        self._deadline = deadline
        self._guard = threading.Lock()
        self._given_up = False
        self._socket: socket.socket | None = None
        self._status: int | None = None
        self._outcome: Answer | Exception | None = None

    def outcome(self) -> Answer:
        if isinstance(self._outcome, Answer):
            return self._outcome
        if self._outcome is None or isinstance(self._outcome, TimeoutError):
            return self.so_far()
        raise self._outcome

    def so_far(self) -> Answer:
        if self._status is None:
            raise TimeoutError
        return Answer(status=self._status, found=self._wanted is None, whole=False)

    def run(self) -> None:
        try:
            self._exchange()
        except Exception as error:  # whoever waits is told
            self._outcome = self._outcome or error
        finally:
            self.ended.set()
            with self._guard:
                if self._socket is not None:
                    self._socket.close()
                self._socket = None

    def give_up(self) -> None:
        """Have the thread end as soon as it can: what it waits for on its socket comes to nothing."""
        with self._guard:
            self._given_up = True
            if self._socket is not None:
                _cut(self._socket)

    def _exchange(self) -> None:
        goal = self._goal
        self._connect()
        assert self._socket is not None
        connection = HTTPConnection(goal.host, goal.port)
        connection.sock = self._socket
        headers = {"Host": goal.named, "User-Agent": "instar", "Accept": "*/*", "Connection": "close"}
        self._socket.settimeout(self._deadline.require_s())
        connection.request("GET", goal.path, headers=headers)
        with self._final(connection.getresponse()) as response:
            self._status = response.status
            self._outcome = Answer(status=response.status, found=self._finds(response))
            self.ended.set()
            self._let_finish(response)

    def _connect(self) -> None:
        """Try one address after the other, each with its share of the time that is left."""
        places = socket.getaddrinfo(self._goal.host, self._goal.port, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _, address) in enumerate(places):
            left = self._deadline.require_s()
            made = self._holding(socket.socket(family, kind, protocol))
            made.settimeout(left / (len(places) - index))
            try:
                made.connect(address)
            except OSError:
                made.close()
                if index + 1 == len(places):
                    raise
            else:
                break
        if self._goal.tls:
            self._secure(made)

    def _secure(self, plain: socket.socket) -> None:
        secured = ssl.create_default_context().wrap_socket(
            plain, server_hostname=self._goal.host, do_handshake_on_connect=False
        )
        self._holding(secured)
        secured.settimeout(self._deadline.require_s())
        secured.do_handshake()

    def _holding(self, made: socket.socket) -> socket.socket:
        """Keep the socket where it can be cut; when nobody waits any more, go no further."""
        with self._guard:
            if self._given_up:
                made.close()
                raise TimeoutError
            self._socket = made
        return made

    def _final(self, response: HTTPResponse) -> HTTPResponse:
        """Return the answer that interim ones (the library knows only 100) come before."""
        while response.status in _INTERIM and self._socket is not None:
            self._socket.settimeout(self._deadline.require_s())
            response.headers = None  # type: ignore[assignment]  # so it reads another head
            response.begin()
        return response

    def _finds(self, response: HTTPResponse) -> bool:
        if self._wanted is None:
            return True
        wanted, body = _encoded(self._wanted, response.headers.get_content_charset()), b""
        while len(body) < BODY_LIMIT:
            chunk = self._more(response, self._deadline)
            start = max(0, len(body) - len(wanted))
            body = (body + chunk)[:BODY_LIMIT]
            if body.find(wanted, start) >= 0:
                return True
            if not chunk:
                return False
        return False

    def _more(self, response: HTTPResponse, deadline: Deadline) -> bytes:
        if response.isclosed() or self._socket is None:  # it closes itself, and its socket, at its end
            return b""
        self._socket.settimeout(deadline.require_s())
        return response.read1(_PIECE_BYTES)

    def _let_finish(self, response: HTTPResponse) -> None:
        """Take the rest of the answer for a moment: a server that is cut off would log an error each time."""
        deadline, taken = Deadline.after(_GOODBYE_S), 0
        while taken < BODY_LIMIT and (chunk := self._more(response, deadline)):
            taken += len(chunk)


def _cut(connection: socket.socket) -> None:
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would take its state from under the thread
    except OSError:
        return


def _encoded(text: str, charset: str | None) -> bytes:
    try:
        return text.encode(charset or "utf-8")
    except (LookupError, UnicodeError):
        return text.encode()
