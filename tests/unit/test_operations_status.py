"""Where names are reached, as a status says it."""

from __future__ import annotations

from instar.model.environment import HostNames
from instar.model.machine import EdgeSettings
from instar.operations.status import reached_at

NAMES = HostNames(http=("shop.test/api",), https=("shop.example",), redirect={"www.shop.example": "shop.example"})


def test_names_are_reached_at_the_usual_ports() -> None:
    assert reached_at(NAMES, EdgeSettings()) == (
        "http://shop.test/api",
        "https://shop.example",
        "https://www.shop.example",
    )


def test_a_port_of_the_machine_s_edge_is_said() -> None:
    edge = EdgeSettings(http=("127.0.0.1:8080",), https=("[::1]:8443",))
    assert reached_at(NAMES, edge) == (
        "http://shop.test:8080/api",
        "https://shop.example:8443",
        "https://www.shop.example:8443",
    )
