"""Which requests are shown, and how."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import NotFound, Refused
from instar.model.environment import Settings
from instar.model.log_line import LogLine
from instar.model.logged_request import read
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.access_log import requests
from instar.operations.logs import Wanted
from instar.reading import answers
from instar.views.logs import log_json, log_text

ENV = EnvironmentId(service="web", name="dev")
STATE = EnvironmentState(
    id=ENV, settings=Settings(access_log=True), active=2, created_at=datetime(2026, 1, 1, tzinfo=UTC)
)


def line(second: int, path: str, instance: str | None = None, **other: object) -> str:
    said = {"client": "203.0.113.9", "instance": instance, "method": "GET", "host": "a.test", "path": path}
    said |= {"protocol": "HTTP/1.1", "status": 200, "bytes": 512, "ms": 7, **other}
    return f"2026-01-01T00:00:{second:02d}.500+00:00 access {json.dumps(said)}"


KEPT = [
    line(1, "/one", "web-dev-1-1"),
    "2026-01-01T00:00:02.000+00:00 instar (3 lines are missing here: No space left on device)",
    line(3, "/two", "web-dev-2-1"),
    '2026-01-01T00:00:03.600+00:00 access {"client":"1.2.3.4","inst',
    line(4, "/work", "web-dev-2-2", status=503, ms=-1),
    line(5, "-", host="-", method="-", status=-1, bytes=0),
]


class Kept:
    def has_access_log(self, environment: EnvironmentId) -> bool:
        return environment.name != "silent"

    def access_lines(
        self, environment: EnvironmentId, *, last: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        yield from KEPT if last is None else KEPT[max(0, len(KEPT) - last) :]


def release(**ports: int | None) -> Any:
    return SimpleNamespace(services={role: SimpleNamespace(port=port) for role, port in ports.items()})


def workspace(access: object) -> Any:
    ledger = SimpleNamespace(
        instance_names=lambda environment: ["web-dev-1-1", "web-dev-2-1", "web-dev-2-2"],
        instance_releases=lambda environment: [("web-dev-1-1", 1), ("web-dev-2-1", 2), ("web-dev-2-2", 2)],
        instance_roles=lambda environment: {"web-dev-2-2": "worker"},
        get_release=lambda environment, number: release(web=80, jobs=None),
        releases=lambda environment: (release(web=80, worker=81, jobs=None), release(web=80, jobs=None)),
    )
    return SimpleNamespace(provider=lambda name: SimpleNamespace(log_files=access), ledger=ledger)


def found(follow: bool = False, **asked: Any) -> list[LogLine]:
    return list(requests(workspace(Kept()), STATE, Wanted(**asked), follow=follow))


@pytest.mark.parametrize("follow", [False, True])
def test_a_request_is_told_with_its_release_and_a_damaged_line_is_not(follow: bool) -> None:
    told = [log_text(one, named=False, short=False) for one in found(follow)]
    assert told == [
        "2026-01-01T00:00:01.500+00:00 access 203.0.113.9 GET a.test/one HTTP/1.1 200 512 B 7 ms web-dev-1-1 release 1",
        KEPT[1],
        "2026-01-01T00:00:03.500+00:00 access 203.0.113.9 GET a.test/two HTTP/1.1 200 512 B 7 ms web-dev-2-1 release 2",
        "2026-01-01T00:00:04.500+00:00 access 203.0.113.9 GET a.test/work HTTP/1.1 503 512 B - "
        "web-dev-2-2 (worker) release 2",
        "2026-01-01T00:00:05.500+00:00 access 203.0.113.9 - - HTTP/1.1 - 0 B 7 ms -",
    ]


def test_programs_get_an_object_for_each() -> None:
    first, said, *_ = (json.loads(log_json(one)) for one in found())
    assert list(first) == [
        *("at", "environment", "client", "method", "host", "path", "protocol", "status", "bytes", "ms"),
        *("instance", "release", "role"),
    ]
    assert (first["environment"], first["path"], first["instance"], first["release"]) == (
        "web/dev",
        "/one",
        "web-dev-1-1",
        1,
    )
    assert [json.loads(log_json(one))["role"] for one in found(role="worker") if one.request] == ["worker"]
    assert said["stream"] == "instar" and "missing" in said["line"]


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        ({"release": 1}, ["/one"]),
        ({"instance": "web-dev-2-1"}, ["/two"]),
        ({"matching": re.compile("GET a.test/t")}, ["/two"]),
        ({"matching": re.compile(" 503 ")}, ["/work"]),
        (
            {"since": datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC), "until": datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)},
            ["/two"],
        ),
        ({"last": 2}, ["/work", "-"]),
        ({"last": 1, "release": 2}, ["/work"]),
        ({"last": 0}, []),
    ],
)
def test_some_of_them_are_chosen(asked: dict[str, Any], paths: list[str]) -> None:
    assert [one.request.path for one in found(**asked) if one.request] == paths


def test_requests_of_a_role_are_told_after_it_has_gone_from_the_active_release() -> None:
    assert [one.request.path for one in found(role="worker") if one.request] == ["/work"]
    assert [one.request.path for one in found(role="web") if one.request] == []
    for asked in ({"role": "jobs"}, {"role": "nobody"}, {"role": "worker", "release": 2}):
        said = (
            f"cannot find role '{asked['role']}' with a port in release 2 of 'web/dev': its roles with a port are web$"
        )
        with pytest.raises(NotFound, match=said):
            found(**asked)


def test_who_follows_some_of_them_begins_with_so_many_of_these() -> None:
    """And not with all of the sort that are kept."""
    every = [line(at, f"/{at}", f"web-dev-{1 + at % 2}-1") for at in range(1, 9)]
    kept = SimpleNamespace(
        has_access_log=lambda _: True,
        access_lines=lambda _, last=None, follow=False: iter(every if last is None else every[len(every) - last :]),
    )
    told = requests(workspace(kept), STATE, Wanted(release=2, last=2), follow=True)
    assert [one.request.path for one in told if one.request] == ["/5", "/7"]


def test_what_a_client_sent_steers_no_terminal_and_makes_no_word_of_its_own() -> None:
    odd = line(1, "/\x1b[31m", host="a b\n", method="\u202e")
    kept = SimpleNamespace(has_access_log=lambda _: True, access_lines=lambda *_, **__: iter([odd]))
    (one,) = requests(workspace(kept), STATE, Wanted())
    assert one.text == "203.0.113.9 ? a?b?/?[31m HTTP/1.1 200 512 B 7 ms -"
    assert log_json(one).isascii()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"host": "-", "path": "-", "method": "-", "protocol": "-"}, "- - -"),
        ({"method": "OPTIONS", "host": "a.test", "path": "-"}, "OPTIONS a.test* HTTP/1.1"),
        ({"method": "OPTIONS", "host": "-", "path": "-"}, "OPTIONS * HTTP/1.1"),
        ({"method": "OPTIONS", "host": "a.test", "path": "/*"}, "OPTIONS a.test/* HTTP/1.1"),
        ({"method": "CONNECT", "host": "a.test:443", "path": "-"}, "CONNECT a.test:443 HTTP/1.1"),
        ({"host": "-", "path": "/"}, "GET / HTTP/1.1"),
    ],
)
def test_what_has_no_host_or_no_path_is_shown_without_it(said: dict[str, object], shown: str) -> None:
    text = line(1, **{"path": "/", **said}).split(" ", 2)[2]  # type: ignore[arg-type]
    request = read(str(ENV), text)
    assert request is not None and request.text == f"203.0.113.9 {shown} 200 512 B 7 ms -"
    assert request.path == ("*" if "*" in shown and "/*" not in shown else said["path"])


def test_half_a_character_can_be_written() -> None:
    kept = SimpleNamespace(has_access_log=lambda _: True, access_lines=lambda *_, **__: iter([line(1, "/\ud800")]))
    (one,) = requests(workspace(kept), STATE, Wanted())
    assert one.request is not None and one.request.path == "/?"
    assert (one.text + log_json(one)).encode()


@pytest.mark.parametrize(("lost", "said"), [(1, "1 request could not"), (1_200, "1,200 requests could not")])
def test_how_many_are_lost_is_said_after_the_last(lost: int, said: str) -> None:
    kept = SimpleNamespace(
        has_access_log=lambda _: True,
        access_lines=lambda _, last=None, follow=False: iter(KEPT),
        requests_lost=lambda _: {"writer": lost, "haproxy": 0},
    )
    *_, note = answers._requests(workspace(kept), (STATE,), Wanted(), follow=False)
    assert isinstance(note, Progress) and note.text == f"web/dev: {said} be written down"


def test_where_nothing_is_written_down_it_is_said_why() -> None:
    silent = dataclasses.replace(STATE, id=EnvironmentId(service="web", name="silent"))
    with pytest.raises(NotFound, match="nothing is written down there yet"):
        list(requests(workspace(Kept()), silent, Wanted()))
    with pytest.raises(NotFound, match="it is not asked to") as caught:
        list(requests(workspace(Kept()), dataclasses.replace(silent, settings=Settings()), Wanted()))
    assert caught.value.hint == "add 'access_log: true' under environments.silent, and deploy"
    with pytest.raises(Refused, match="its provider does not do that"):
        list(requests(workspace(None), STATE, Wanted()))
