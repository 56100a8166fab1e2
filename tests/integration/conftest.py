"""A real authority for the tests of certificates, and a machine that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acme_world import World

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
def world(tmp_path: Path, pebble: Pebble, door: SimulatedDoor) -> World:
    return World(tmp_path, pebble, door)
