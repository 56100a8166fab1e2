"""Which sockets the filter lets through, worked out as the kernel would."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from instar.host.isolation import sockets

VSOCK, ALG, KEY, XDP = 40, 38, 15, 44
SOMETHING_ABOVE = 0x1_0000_0000


def _allowed(family: int, protocol: int = 0, capabilities: Sequence[str] = (), call: str = "socket") -> bool:
    return _allows(call, (family, 1, protocol), capabilities)


def _allows(call: str, arguments: Sequence[int], capabilities: Sequence[str]) -> bool:
    found = [rule for rule in sockets.rules(capabilities) if rule["names"] == [call] and _fits(rule, arguments)]
    actions = {rule["action"] for rule in found}
    assert len(actions) <= 1 or max(arguments) >= SOMETHING_ABOVE, "no number has two answers"
    return actions == {"SCMP_ACT_ALLOW"}


def _fits(rule: dict[str, Any], arguments: Sequence[int]) -> bool:
    for test in rule["args"]:
        value = arguments[test["index"]]
        if test["op"] == "SCMP_CMP_MASKED_EQ" and value & test["value"] != test["valueTwo"]:
            return False
        if test["op"] == "SCMP_CMP_GT" and value <= test["value"]:
            return False
    return True


def test_four_families_and_no_other() -> None:
    allowed = {family for family in range(64) if _allowed(family)}
    assert allowed == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert {family for family in range(64) if _allowed(family, call="socketpair")} == {socket.AF_UNIX}


@pytest.mark.parametrize("family", [VSOCK, ALG, KEY, XDP, socket.AF_PACKET])
def test_no_number_above_the_lower_half_lets_another_family_through(family: int) -> None:
    assert not _allowed(family)
    assert not _allowed(SOMETHING_ABOVE + family)


@pytest.mark.parametrize(
    ("capabilities", "netlink"),
    [
        ((), {0, 4, 15}),
        (("CAP_NET_ADMIN",), {0, 4, 6, 12, 15, 16}),
        (("CAP_AUDIT_WRITE",), {0, 4, 9, 15}),
        (("CAP_NET_RAW", "CAP_SYS_PTRACE"), {0, 4, 15}),
    ],
)
def test_netlink_only_for_what_stays_in_the_namespace(capabilities: Sequence[str], netlink: set[int]) -> None:
    found = {number for number in range(40) if _allowed(socket.AF_NETLINK, number, capabilities)}
    assert found == netlink


def test_a_capability_brings_its_own_family_alone() -> None:
    with_raw = {family for family in range(64) if _allowed(family, 0, ["CAP_NET_RAW"])}
    assert with_raw - {family for family in range(64) if _allowed(family)} == {socket.AF_PACKET}
    everything = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"]
    assert not any(_allowed(family, 0, everything) for family in (VSOCK, ALG, KEY, XDP))


def test_what_hides_its_arguments_is_left_to_the_one_that_needs_it() -> None:
    assert "socketcall" in sockets.calls("x86_64")
    assert "socketcall" not in sockets.calls("s390x")


@pytest.mark.parametrize("level", [0, 1, 6, 17, 41, 262, 263, 264, 270, 1 << 31])
def test_every_option_of_sockets_but_rings_for_packets(level: int) -> None:
    allowed = {option for option in range(1, 25) if _allows("setsockopt", (3, level, option), ["CAP_NET_RAW"])}
    assert set(range(1, 25)) - allowed == ({5, 13} if level == 263 else set())


@pytest.mark.parametrize("above", [(0, SOMETHING_ABOVE), (SOMETHING_ABOVE, 0), (SOMETHING_ABOVE, SOMETHING_ABOVE)])
def test_no_ring_for_numbers_above_the_lower_half(above: tuple[int, int]) -> None:
    for ring in (5, 13):
        assert not _allows("setsockopt", (3, above[0] + 263, above[1] + ring), ["CAP_NET_RAW"])
    assert _allows("setsockopt", (3, above[0] + 263, above[1] + 1), ["CAP_NET_RAW"])


def test_who_can_make_no_packet_socket_has_no_rules_about_its_options() -> None:
    assert "setsockopt" not in sockets.calls("x86_64", ["CAP_NET_ADMIN"])
    assert "setsockopt" in sockets.calls("s390x", ["CAP_NET_RAW"])
    assert not any(rule["names"] == ["setsockopt"] for rule in sockets.rules(["CAP_NET_ADMIN"]))
