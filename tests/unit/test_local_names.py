"""Names that fit where the kernel takes them, and lead back to what they were made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.model.state import StateDirectory
from instar.providers.local.names import Names

NAMES = Names(StateDirectory(Path("/s"), Path("/s/run")), "abc123")


@pytest.mark.parametrize("serial", [1, 9_999, 2**28 - 1])
def test_everything_global_carries_the_id_and_leads_back(serial: int) -> None:
    names = NAMES.instance("web-dev-1-1", serial)
    for name in (names.link, names.network, names.group, str(names.room)):
        assert "abc123" in name
    assert len(names.link) <= 15
    assert NAMES.serial_of_link(names.link) == serial
    assert NAMES.serial_of_network(names.network) == serial
    assert NAMES.serial_of_network(f"{NAMES.network_prefix}other") is None


def test_a_host_name_is_never_too_long() -> None:
    assert NAMES.instance("x" * 62 + "-dev-1-1", 1).hostname == "x" * 62
    assert NAMES.instance("web-dev-1-1", 1).hostname == "web-dev-1-1"
