"""What HAProxy shows is read as counts since a server came; older or damaged tables count as nothing."""

from __future__ import annotations

import pytest

from instar.errors import RouterError
from instar.model.release import Served
from instar.router import served

COLUMNS = ("stot", "econ", "wretr", "wredis", "req_tot", "eresp", "srv_abrt", "hrsp_5xx")
TABLE = """# table: instances, type: integer, size:200000, used:3
0x7f0f24066040: key=1 use=0 exp=0 gpt0=250 gpc0=2 gpc1=0
0x7f0f24060920: key=100001 use=1 exp=0 gpt0=90 gpc0=0 gpc1=4
0x7f0f24060930: key=3 use=0 exp=0 gpt0=7 gpc0=0 gpc1=0
"""


def row(mode: str = "http", **counts: int) -> dict[str, str]:
    return {"mode": mode, **{name: str(counts.get(name, 0)) for name in COLUMNS}}


def statistics(*rows: dict[str, str]) -> served.Statistics:
    found = {("instances", f"s{number}"): one for number, one in enumerate(rows, 1)}
    return {**found, ("instances", "BACKEND"): row(req_tot=9), ("public", "FRONTEND"): row(req_tot=9)}


def test_a_row_is_the_difference_to_what_was_when_its_server_came() -> None:
    shown = statistics(row(req_tot=100, hrsp_5xx=5), row(req_tot=3), row(req_tot=1))
    first, second, third = (served.read(shown, TABLE)[index] for index in range(3))
    assert first == Served(requests=10, failed=1, response_ms=2 * 2**30 + 250)
    assert second == Served(requests=3)
    assert third == Served(requests=1, response_ms=7)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"req_tot": 4, "hrsp_5xx": 1}, (4, 1)),
        ({"req_tot": 4, "eresp": 1, "srv_abrt": 1}, (4, 1)),  # an answer that broke off after its head
        ({"req_tot": 4, "eresp": 1}, (5, 1)),  # before it
        ({"req_tot": 4, "econ": 1, "wretr": 3, "stot": 8}, (5, 1)),
        ({"req_tot": 4, "wredis": 2, "stot": 6}, (6, 2)),
        ({"req_tot": 4, "srv_abrt": 2}, (4, 0)),
    ],
)
def test_each_failure_is_counted_once(counts: dict[str, int], expected: tuple[int, int]) -> None:
    (found,) = served.totals(statistics(row(**counts))).values()
    assert (found.requests, found.failed) == expected


def test_of_connections_those_that_were_tried_again_are_counted_once() -> None:
    (found,) = served.totals(statistics(row("tcp", stot=14, econ=2, wretr=6, wredis=6, srv_abrt=1))).values()
    assert found == Served(requests=8, failed=8)


def test_what_was_before_is_written_down_where_a_server_comes() -> None:
    shown = statistics(row(req_tot=100), row(req_tot=5 * 2**30 + 7, hrsp_5xx=3))
    lines = served.beginnings([1], shown, TABLE)
    assert lines == [
        "set table instances key 2 data.gpt0 0 data.gpc0 0 data.gpc1 0",
        "set table instances key 100002 data.gpt0 7 data.gpc0 5 data.gpc1 3",
    ]
    with pytest.raises(RouterError, match="slots"):
        served.beginnings([2], shown, TABLE)


def test_a_router_of_an_older_instar_counts_nothing() -> None:
    shown = statistics(row(req_tot=100))
    assert served.read(shown, "No such table\n") == {}
    assert served.beginnings([0], shown, "No such table\n") == ()
