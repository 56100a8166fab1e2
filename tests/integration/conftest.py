"""What tests of a room share: a router of its own for each, a real authority for certificates, a machine with an image
of busybox for those of instances, and an image to move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import acme_world
import pytest
import registry_kit
import router_world
from body_server import Sink
from tiny_world import TinyWorld

from instar.model.image import Image
from instar.store import Store
from lying_registry import LyingRegistry, serving
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


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[router_world.World]:
    with router_world.world(tmp_path) as made:
        yield made


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Return the store of another machine."""
    return Store(tmp_path / "other")


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    return registry_kit.made(store, tmp_path, b"base", registry_kit.noise(3 << 20))


@pytest.fixture
def registry(store: Store, image: Image) -> Iterator[LyingRegistry]:
    """Yield a registry that has the image, and may be told to lie; what a real one does is tested with one."""
    with serving(LyingRegistry()) as found:
        found.take(store.root, image.digest)
        yield found
