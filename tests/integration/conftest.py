"""What tests of a room share: a router of its own for each, a real authority for certificates, a machine with an image
of busybox for those of instances, an image to move, and a ledger in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import acme_world
import pytest
import registry_kit
import router_world
from body_server import Sink
from tiny_world import TinyWorld

from cutting_proxy import CuttingProxy
from instar.model.image import Image
from instar.store import Store
from lying_registry import LyingRegistry, serving
from pebble import Pebble, running
from postgres import PASSWORD, PostgresServer
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


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A ledger in PostgreSQL, in which nothing is yet."""
    made = postgres.database(template=postgres.template)
    yield made
    postgres.drop(made)


@pytest.fixture
def address(postgres: PostgresServer, database: str) -> str:
    return postgres.address(database)


@pytest.fixture(scope="session")
def password_file(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the password of "ann", who may do everything in every database."""
    postgres.execute(f"CREATE ROLE ann LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    path = tmp_path_factory.mktemp("password") / "ledger.pass"
    path.write_text(f"*:*:*:*:{PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    made = CuttingProxy(postgres.port)
    yield made
    made.close()


@pytest.fixture
def by_proxy(postgres: PostgresServer, database: str, proxy: CuttingProxy, password_file: Path) -> str:
    """The address of that ledger by a way that can be cut at each message."""
    return postgres.tcp_address(database, user="ann", port=proxy.port, passfile=password_file)
