"""What is said to HAProxy is from a list, and what it says is understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import RouterError, RouterUnreachable
from instar.router import admin_socket
from instar.router.address import Address
from instar.router.slots import read_state

STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_check_health srv_port
3 instances 1 s1 127.0.0.2 2 8 0 100 2 9100
3 instances 2 s2 ::1 0 5 7 0 0 1
"""


@pytest.mark.parametrize(
    "command",
    [
        "show stat;shutdown sessions server instances/s1",
        "show stat\nquit",
        "set server instances/s1 addr example.org port 80",
        "set server instances/s0 weight 1",
        "set server other/s1 weight 1",
        "set server instances/s1 weight 1 ",
        "set server instances/s1 weight ٣",
        "add server instances/s99 10.0.0.1:80",
        "disable frontend public",
        "show map other.map",
        "add map preview.map 7 10.0.0.1/80 8 10.0.0.2/80",
        "add map preview.map 7 example.org/80",
        "set map preview.map 0 10.0.0.1/80",
        "set map preview.map other 10.0.0.1/80",
        "del map preview.map 7;clear map preview.map",
        "clear map preview.map",
        "show table other",
        "clear table instances",
        "set table instances key 0 data.gpt0 0 data.gpc0 0 data.gpc1 0",
        "set table instances key 1 data.gpt0 0",
        "set table instances key 1 data.gpt0 0 data.gpc0 0 data.gpc1 -1",
        "",
    ],
)
def test_only_what_is_on_the_list_is_said(command: str, tmp_path: Path) -> None:
    with pytest.raises(RouterError, match="not one of the commands") as caught:
        admin_socket.ask(tmp_path, "none.sock", ["show info", command])
    assert not isinstance(caught.value, RouterUnreachable)


def test_nobody_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RouterUnreachable):
        admin_socket.ask(tmp_path, "none.sock", ["show info"])
    with pytest.raises(RouterUnreachable):
        admin_socket.ask(tmp_path / "none", "none.sock", ["show info"])


def test_the_table_of_servers_is_read_by_its_header() -> None:
    first, second = read_state(STATE)
    assert (first.address, first.weight, first.maintenance, first.drain) == (Address("127.0.0.2", 9100), 0, False, True)
    assert (first.up, first.proven) == (True, True)
    assert (second.address, second.weight, second.maintenance, second.up) == (Address("::1", 1), 7, True, False)


@pytest.mark.parametrize("damage", [("srv_port", "port"), ("127.0.0.2 ", "- "), (" 9100", ""), (" 8 ", " x ")])
def test_a_table_that_is_not_understood_is_an_error(damage: tuple[str, str]) -> None:
    with pytest.raises(RouterError, match="cannot understand"):
        read_state(STATE.replace(*damage))


def test_statistics_are_read_by_their_header() -> None:
    text = '# pxname,svname,scur,last_chk,\npublic,FRONTEND,1,,\ninstances,s1,2,"a, b",\n\n'
    table = admin_socket.read_statistics(text)
    assert table["public", "FRONTEND"]["scur"] == "1"
    assert table["instances", "s1"]["last_chk"] == "a, b"
    text = "# pxname,svname,last_chk,\npublic,FRONTEND,,\ninstances,s1,500 x\x0cinstances\u2028y,\n"
    assert admin_socket.read_statistics(text)["instances", "s1"]["last_chk"] == "500 x\x0cinstances\u2028y"
    assert admin_socket.read_info("Name: HAProxy\nPid: 7\n") == {"Name": "HAProxy", "Pid": "7"}
