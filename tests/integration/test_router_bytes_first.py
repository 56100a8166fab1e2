"""An environment whose first role speaks tcp, and another http: what is said of requests is about the other's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from router_world import ENV, Client, World, free_port, until, world

from instar.model.definition import Headers
from instar.model.requests import Compression, Rate, Requests
from instar.providers.doors import DoorPlan
from instar.providers.local.log_files import LocalLogFiles

pytestmark = pytest.mark.root

ROLE = "api"


class Two(World):
    """Its first role speaks bytes, ``api`` http at an address of its own."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.api = ("127.0.0.1", free_port())

    def begin(self, **changes: object) -> None:
        door = DoorPlan(
            key=ROLE,
            listen=(f"{self.api[0]}:{self.api[1]}",),
            protocol="http",
            request_timeout_ms=20_000,
            tunnel_timeout_ms=20_000,
            health_path="/healthz",
        )
        plan = self.plan(protocol="tcp", health_path=None, doors=(door,), **changes)
        first, api = self.backend("shop-dev-1-1"), self.backend("shop-dev-1-2")
        self.router.ensure(plan)
        self.router.attach(ENV, [first.target, replace(api.target, door=ROLE)])
        self.router.route(ENV, {first.name: 100, api.name: 100})

    def asked(self, headers: Mapping[str, str] = {}, path: str = "/") -> tuple[int, bytes]:
        client = Client(self.api)
        try:
            return client.get(path, keep=False, headers=headers)
        finally:
            client.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with world(tmp_path, Two) as made:
        assert isinstance(made, Two)
        yield made


def test_limits_hold_for_the_door_of_http_and_not_for_bytes(two: Two) -> None:
    two.begin(requests=Requests(largest_body_bytes=100, rate=Rate(requests=3, within_ms=60_000)))
    assert two.asked({"Content-Length": "101"})[0] == 413
    assert [two.asked()[0] for _ in range(3)] == [200, 200, 429], "one was too long, and counted"
    assert [two.client().get(keep=False)[0] for _ in range(5)] == [200] * 5
    assert two.router.inspect(ENV) == ()


def test_answers_of_the_door_of_http_are_compressed(two: Two) -> None:
    two.begin(compression=Compression(types=("text/plain",)))
    two.backends[1].kind = "text/plain"
    two.backends[0].kind = "text/plain"
    encodings = []
    for address in (two.api, two.address):
        connection = http.client.HTTPConnection(*address, timeout=20)
        connection.request("GET", "/", headers={"Accept-Encoding": "gzip", "Connection": "close"})
        encodings.append(connection.getresponse().headers["Content-Encoding"])
        connection.close()
    assert encodings == ["gzip", None]


def test_requests_of_the_door_of_http_are_written_down(two: Two) -> None:
    two.begin(access_log=True)
    assert two.client().get("/bytes")[0] == two.asked(path="/page")[0] == 200
    logs = LocalLogFiles(two.state, two.id)
    until(lambda: logs.has_access_log(ENV) and list(logs.access_lines(ENV)))
    (line,) = [json.loads(line.split(" ", 2)[2]) for line in logs.access_lines(ENV)]
    assert (line["path"], line["instance"]) == ("/page", "shop-dev-1-2")


def test_heads_have_the_room_that_the_role_of_http_says(two: Two) -> None:
    two.begin(headers=Headers(size_bytes=64 * 1024))
    assert two.asked({"X-Long": "a" * 50_000})[0] == 200


def test_a_release_is_asked_for_by_the_door_of_http(two: Two) -> None:
    two.begin(preview="header")
    new, api = two.backend("shop-dev-2-3"), two.backend("shop-dev-2-4")
    two.router.attach(ENV, [new.target, replace(api.target, door=ROLE)])
    two.router.preview(ENV, {2: new.name}, {2: (api.name,)})
    assert two.asked({"X-Instar-Release": "2"}) == (200, b"shop-dev-2-4")
    assert two.asked({"X-Instar-Release": "3"})[0] == 404
    assert two.asked() == (200, b"shop-dev-1-2")
    assert two.client().get(headers={"X-Instar-Release": "2"}) == (200, b"shop-dev-1-1"), "bytes are not read"
    seen = two.router.observe(ENV)
    assert (seen.previewed, seen.previewed_beside) == ({2: new.name}, {2: (api.name,)})
    assert two.router.inspect(ENV) == ()
    two.router.detach(ENV, [new.name])
    assert two.asked({"X-Instar-Release": "2"}) == (200, b"shop-dev-2-4")
    two.router.detach(ENV, [api.name])
    assert two.asked({"X-Instar-Release": "2"})[0] == 404
