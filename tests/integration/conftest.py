"""A router of its own for each test of routers, and a real authority for those of certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import acme_world
import pytest
import router_world
from body_server import Sink

from pebble import Pebble, running
from simulated.door import SimulatedDoor


@pytest.fixture(scope="module")
def door() -> Iterator[SimulatedDoor]:
    door = SimulatedDoor()
    yield door
    door.close()


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory, door: SimulatedDoor) -> Iterator[Pebble]:
    with running(Pebble(tmp_path_factory.mktemp("pebble"), door.port)) as pebble:
        yield pebble


@pytest.fixture(autouse=True)
def answering(door: SimulatedDoor) -> None:
    door.answers, door.shown, door.requests, door.nonces = True, {}, [], 0


@pytest.fixture
def world(tmp_path: Path, pebble: Pebble, door: SimulatedDoor) -> acme_world.World:
    return acme_world.World(tmp_path, pebble, door)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[router_world.World]:
    with router_world.world(tmp_path) as made:
        yield made


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()
