"""Where names are reached, as a status says it."""

from __future__ import annotations

from instar.model.doors import Door
from instar.model.environment import HostNames, Settings
from instar.model.machine import EdgeSettings
from instar.operations.status import doors_reached, reached_at
from simulated.values import configuration

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


def test_each_door_is_told_of_the_first_one_too() -> None:
    doors = {".admin": Door(listen=("127.0.0.1:9000",)), ".public": Door(sites=("shop.example", "www.shop.example"))}
    settings = Settings(listen=("127.0.0.1:8080",), names=NAMES, doors=doors)
    assert doors_reached(settings, configuration(), NAMES, EdgeSettings(), None) == {
        "service": ("127.0.0.1:8080", "http://shop.test/api"),
        "service.admin": ("127.0.0.1:9000",),
        "service.public": ("https://shop.example", "https://www.shop.example"),
    }
    alone = Settings(internal=True)
    assert doors_reached(alone, configuration(), HostNames(), EdgeSettings(), "shop.internal") == {
        "service": ("shop.internal",)
    }
    assert doors_reached(Settings(), configuration(), HostNames(), EdgeSettings(), None) == {}, "a worker has none"
