"""Small values for tests: a service, its releases and instances, an image, and everything simulated at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from instar.model.configuration import Configuration
from instar.model.definition import Health, Service, Volume
from instar.model.digest import Digest
from instar.model.happenings import DamageFound, Happening, VolumeRemoved
from instar.model.image import Image, ImageConfig, Layer
from instar.model.origin import Origin
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Provider
from instar.providers.machine import MachineProvider
from simulated.clock import VirtualClock
from simulated.effects import Effects
from simulated.engine import SimulatedEngine
from simulated.router import SimulatedRouter
from simulated.runtime import SimulatedRuntime

ENV = EnvironmentId(service="guestbook", name="dev")
ORIGIN = Origin(by="ann", machine="web1")


def service(*, port: int | None = 8080, exclusive: bool = False, **fields: object) -> Service:
    """A service over HTTP, or a worker without a port."""
    kind = Health(kind="http", path="/healthz") if port else Health(kind="none")
    volumes = (Volume(name="data", path="/data", access="exclusive"),) if exclusive else ()
    made = Service(command=("serve",), port=port, health=kind, volumes=volumes)
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def configuration(config: Mapping[str, str] | None = None, **fields: object) -> Configuration:
    """``roles``: how the roles beside the first one run, which then is called "web"."""
    roles: Mapping[str, Service] = fields.pop("roles", {})  # type: ignore[assignment]
    first = "web" if roles else None
    return Configuration(service=service(**fields), config=config or {}, role=first, roles=roles)  # type: ignore[arg-type]


def image(name: str = "one") -> Image:
    layer = Layer(digest=Digest.of(name.encode()), diff_id=Digest.of(name.encode()), size_bytes=1)
    config = ImageConfig(architecture="amd64", user="10001:10001", command=("serve",))
    made = Digest.of(b"image " + name.encode())
    return Image(digest=made, config_digest=Digest.of(b"config"), config=config, layers=(layer,), created=0)


def release(number: int = 1, *, environment: EnvironmentId = ENV, **fields: object) -> Release:
    return Release(
        environment=environment,
        number=number,
        image=image().digest,
        configuration=configuration(**fields),  # type: ignore[arg-type]
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def instance(number: int = 1, *, of: Release | None = None) -> Instance:
    of = of or release()
    return Instance(
        id=f"{of.environment.service}-{of.environment.name}-{of.number}-{number}",
        serial=of.number * 100 + number,
        environment=of.environment,
        release=of.number,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@dataclass(kw_only=True)
class Simulation:
    """A machine with a provider on it, and the time there."""

    effects: Effects = field(default_factory=Effects)
    clock: VirtualClock = field(default_factory=VirtualClock)
    runtime: SimulatedRuntime = field(init=False)
    router: SimulatedRouter = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = SimulatedRuntime(clock=self.clock, effects=self.effects)
        self.router = SimulatedRouter(runtime=self.runtime, clock=self.clock, effects=self.effects)

    @property
    def provider(self) -> MachineProvider:
        return MachineProvider(runtime=self.runtime, router=self.router)

    def weights(self, environment: EnvironmentId) -> Mapping[str, int]:
        """Return the weights of those that have any."""
        return {item.target.name: item.weight for item in self.router.observe(environment).targets if item.weight}

    def reachable(self, environment: EnvironmentId) -> tuple[str, ...]:
        """Return those that could have traffic: the router knows them, and they answer."""
        return tuple(item.target.name for item in self.router.observe(environment).targets if item.up)

    def previewed(self, environment: EnvironmentId) -> Mapping[int, str]:
        return self.router.observe(environment).previewed

    def states(self, groups: Sequence[Instance]) -> list[str]:
        """Return the state of each of ``groups``, as it is just now."""
        return [seen.state for seen in self.runtime.observe(groups)]

    def reboot(self) -> None:
        self.runtime.reboot()
        self.router.reboot()


@dataclass(kw_only=True)
class EngineSimulation:
    """An engine somewhere else, and the time there. What tests do to a machine's runtime and router, they do to it."""

    effects: Effects = field(default_factory=Effects)
    clock: VirtualClock = field(default_factory=VirtualClock)
    engine: SimulatedEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = SimulatedEngine(clock=self.clock, effects=self.effects)

    @property
    def provider(self) -> Provider:
        return self.engine

    @property
    def runtime(self) -> SimulatedEngine:
        return self.engine

    @property
    def router(self) -> SimulatedEngine:
        return self.engine

    def weights(self, environment: EnvironmentId) -> Mapping[str, int]:
        return self.engine.weights(environment)

    def reachable(self, environment: EnvironmentId) -> tuple[str, ...]:
        return self.engine.reachable(environment)

    def previewed(self, environment: EnvironmentId) -> Mapping[int, str]:
        return self.engine.previewed(environment)

    def states(self, groups: Sequence[Instance]) -> list[str]:
        return self.engine.states(groups)

    def reboot(self) -> None:
        """It is not on this machine: nothing happens to it."""


NOTE, OTHER = "damaged", "volume-removed"


def note(text: object = "") -> Happening:
    """Something that happened, no matter what: an event of kind NOTE."""
    return DamageFound(what=str(text), cause="")


def other(text: object = "") -> Happening:
    """Something else."""
    return VolumeRemoved(volume=str(text))
