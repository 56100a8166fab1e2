"""What an author writes, as values, each key declared with the field that it becomes: the whole, and its service.

``model.image_spec`` has the image, ``model.environment`` where it runs. Read by ``definition/``; everything else takes
these. Times are integer milliseconds, sizes bytes, processors thousandths. Paths inside an image are absolute POSIX
strings; paths of the author's files are relative to the definition's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, ClassVar, Literal

from instar.frozen import dataclass
from instar.model.declaration import key
from instar.model.doors import Port
from instar.model.environment import Check, Environment, When
from instar.model.image_spec import BuildStage, ImageSpec
from instar.model.roles import UNNAMED_ROLE

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How an instance is known to be well.

    ``http``: GET ``path`` answers 200–399. ``tcp``: the port accepts. ``command``: exits 0 inside the instance.
    ``none``: it is well while its first process lives (the default of a service without a port). ``host`` is what a
    request calls the service.
    """

    kind: Literal["http", "tcp", "command", "none"]
    path: str | None = field(default=None, metadata=key("GET this path: healthy when the answer is 200 to 399. A "
        "server that logs requests leaves these out by their User-Agent: `instar`, on a cluster `kube-probe/…`.",
        "path of a request"))
    host: str = field(default="localhost", metadata=key("What the request for it says as its `Host`.", "host",
        added=True))
    tcp: ClassVar[Any] = key("Connect to the port: healthy when that succeeds.", "only true", default=False,
        default_about="when there is a port and nothing else is chosen")
    command: tuple[str, ...] | None = field(default=None, metadata=key(
        "Run this in the instance: healthy when it exits with 0.", "command"))
    interval_ms: int = field(default=500, metadata=key("From one check to the next."))
    timeout_ms: int = field(default=2_000, metadata=key("How long one check may take."))
    deadline_ms: int = field(default=30_000, metadata=key("How long a new instance may take until it is healthy."))
    steady_ms: int = field(default=0, metadata=key(
        "How long an instance of a new release has to stay healthy before it gets traffic; with an exclusive volume: "
        "before the rollout is done.", default_about="its first good answer is enough", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """``wait_ms`` is how long the router keeps a request that no instance can take; None: it is refused at once.
    ``stream_ms`` None: a stream is a request like any other."""

    request_ms: int = field(default=60_000, metadata=key("How long the router waits for the service."))
    tunnel_ms: int = field(default=3_600_000, metadata=key("How long a WebSocket or a TCP connection may be silent."))
    wait_ms: int | None = field(default=None, metadata=key(
        "How long a request waits in the router while there is no instance that can take it, as while an exclusive "
        "volume changes hands; then it is answered with 503.", default_about="it is answered with 503 at once",
        added=True))
    stream_ms: int | None = field(default=None, metadata=key(
        "How long a stream may be silent: the answer to a request that takes `text/event-stream`, and a call of gRPC.",
        default_about="`request`", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """How large the head of a request or of an answer may be for the router."""

    size_bytes: int = field(default=32 * 1024, metadata=key(
        "How long the head of a request or of an answer may be; at most 1M.", low=1 << 10, high=1 << 20))
    count: int = field(default=200, metadata=key("How many lines it may have.", low=10, high=4_000))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """How an instance ends."""

    signal: str = field(default="SIGTERM", metadata=key("What tells the service to end.", "signal"))
    grace_ms: int = field(default=10_000, metadata=key("How long it may take to end before it is killed."))
    drain_ms: int = field(default=30_000, metadata=key(
        "How long requests in flight and streams may take before the service is told to end; what is left is cut."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one instance may use."""

    memory_bytes: int = field(default=256 << 20, metadata=key(
        "Memory of one instance, what it writes to /tmp included; at least 4M.", low=4 << 20))
    cpus_milli: int = field(default=1_000, metadata=key("Processors that one instance can keep busy.", low=10,
        high=1_024_000))
    pids: int = field(default=256, metadata=key("Processes and threads of one instance.", low=2, high=4_194_304))


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """Data that outlives releases. ``size_bytes`` None: as much as the disk holds."""

    name: str = field(metadata=key("Name of the volume; it belongs to the service in one environment.", "name"))
    path: str = field(metadata=key("Where the service finds it.", "path inside"))
    access: Literal["exclusive", "shared"] = field(default="exclusive", metadata=key(
        "`exclusive`: one instance at a time, so the old one stops before the new one starts. `shared`: the service "
        "takes care of several at once."))
    exec: bool = field(default=False, metadata=key("Whether programs in it can be run."))
    size_bytes: int | None = field(default=None, metadata=key(
        "The most that it holds, at least 16M, reserved on the disk. It only grows: a smaller number changes nothing.",
        low=16 << 20, default_about="as much as the disk holds; on Kubernetes `1G`", added=True))
    snapshot: bool = field(default=False, metadata=key(
        "Whether what it holds is kept before a release that has `before` tasks, or another `data.version` than the "
        "one before: `instar rollback --with-data` brings it back.", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tmp:
    """The tmpfs at /tmp."""

    size_bytes: int = field(default=64 << 20, metadata=key("Room in the instance's own /tmp."))
    exec: bool = field(default=False, metadata=key("Whether programs in it can be run."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A command that is run once for a release, from its image, in an instance of its own. ``volumes``: the names of
    those that it gets, None: all of the service's."""

    command: tuple[str, ...] = field(metadata=key("The program and its arguments, a word an item.", "command"))
    timeout_ms: int = field(default=600_000, metadata=key("How long it may take."))
    volumes: tuple[str, ...] | None = field(default=None, metadata=key(
        "Which of the service's volumes it gets, by name. One without an exclusive volume runs beside the old "
        "release, also where the service has one.", "name", unique=True, expected="a list of names of volumes, or []",
        default_about="all of them", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The form of the data that a release writes (``version``), and those that it can work with (``reads``)."""

    version: int = field(metadata=key("Number of the form in which this service writes its data.", low=1,
        high=1_000_000))
    reads: tuple[int, ...] = field(metadata=key("Numbers of the forms that it can work with, its own among them.",
        low=1, high=1_000_000, minimum=1, unique=True, expected="a list of numbers, such as [3, 4]", default=(),
        default_about="`version` alone"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """How an instance runs."""

    command: tuple[str, ...] = field(metadata=key(
        "The program and its arguments, a word an item. No shell is in between.", "command"))
    workdir: str = field(default="/", metadata=key("Folder that the service starts in.", "path inside"))
    port: int | None = field(default=None, metadata=key(
        "Port that the service listens on, on 0.0.0.0. Left out: a worker, without traffic.", low=1, high=65535))
    protocol: Literal["http", "h2", "tcp"] = field(default="http", metadata=key(
        "How the service is spoken to: `http`, HTTP/1.1; `h2`, HTTP/2 without TLS, as gRPC is; `tcp`, bytes that the "
        "router does not read.", later=("udp",)))
    ports: Mapping[str, Port] = field(default_factory=dict, metadata=key(
        "Further ports, by name: a number, of http, or a section with its protocol. Each can have a door of its own, "
        "by `listen`; a new instance is well once all of them accept connections, besides `health`.",
        ("number of a port", Port),
        names="name", expected="a section such as {admin: 9000, feed: {port: 9001, protocol: tcp}}", added=True))
    keep_alive_ms: int | None = field(default=None, metadata=key(
        "How long the service itself keeps an idle connection open (uvicorn, hypercorn and node 5s, nginx 75s): the "
        "router uses its connections to the service for half as long. Never say more than it does.", low=1_000,
        high=3_600_000, default_about="each request has a connection of its own", added=True))
    health: Health = field(metadata=key("How an instance is known to be well; one of `path`, `tcp` and `command`.",
        default=None, default_about="`{tcp: true}` with a port; without one, that it runs"))
    timeouts: Timeouts = field(default=Timeouts(), metadata=key("How long the router waits."))
    headers: Headers = field(default=Headers(), metadata=key(
        "How large the headers of a request or of an answer may be, of a service of http. What is larger is answered "
        "with 400 or 502.", added=True))
    stop: Stop = field(default=Stop(), metadata=key("How an instance ends."))
    limits: Limits = field(default=Limits(), metadata=key("What one instance may use."))
    volumes: tuple[Volume, ...] = field(default=(), metadata=key(
        "Data that outlives releases. All else in an instance is read-only, besides /tmp and /run."))
    tmp: Tmp = field(default=Tmp(), metadata=key("The instance's own /tmp, in memory."))
    shm_bytes: int = field(default=64 << 20, metadata=key(
        "Room in the instance's own /dev/shm, in memory, which counts to `limits.memory`.", added=True))
    capabilities: tuple[str, ...] = field(default=(), metadata=key(
        "What the service may do beyond an ordinary user. Low ports need none.", "capability", unique=True,
        expected="a list of Linux capabilities, such as [SYS_NICE]"))
    jit: bool = field(default=False, metadata=key(
        "The service makes code while it runs, as java, node, PostgreSQL or PHP do: its memory may be executable. Else "
        "`instar drift` tells of it."))
    smoke: tuple[Check, ...] = field(default=(), metadata=key(
        "What a candidate is asked before it gets traffic, besides `health`. One that fails ends the rollout.",
        "check of a candidate"))
    before: tuple[Task, ...] = field(default=(), metadata=key(
        "Commands that run one after the other before the new release starts, each in an instance of its own from the "
        "new image, such as a migration. One that fails ends the rollout."))
    after: tuple[Task, ...] = field(default=(), metadata=key(
        "Commands that run in the same way when the new release has all the traffic."))
    data: Data | None = field(default=None, metadata=key(
        "Which form of its data the service writes, and which it can read, so that no way back leads to a release that "
        "cannot read what there is."))

    @property
    def http(self) -> bool:
        """Its requests are the router's business, in either version of HTTP."""
        return self.protocol != "tcp"

    @property
    def exclusive(self) -> bool:
        """Two releases of it must not run at once."""
        return any(volume.access == "exclusive" for volume in self.volumes)

    def volumes_of(self, task: Task | None) -> tuple[Volume, ...]:
        """Return the volumes that an instance gets: of the service itself (None), or of one of its tasks."""
        if task is None or task.volumes is None:
            return self.volumes
        return tuple(volume for volume in self.volumes if volume.name in task.volumes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Role(Service):
    """How one of several processes of a service runs. ``instances`` and ``when`` are about environments, and say what
    holds where one says nothing itself."""

    instances: int = field(default=1, metadata=key("How many instances of it run.", low=1, high=100))
    when: When = field(default="traffic", metadata=key("When the instances of a new release start, of a role without a "
        "port: `traffic`, once the traffic has moved; `before`, so that they are well before it does.", name="with"))

    @property
    def service(self) -> Service:
        """How an instance of it runs."""
        return Service(**{one.name: getattr(self, one.name) for one in fields(Service)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A service: what its image is made of, how an instance of it runs, and where. Of one with ``roles``, ``service``
    is how its first role runs."""

    name: str = field(metadata=key("Name of the service.", "name"))
    build: Mapping[str, BuildStage] = field(default_factory=dict, metadata=key(
        "Stages that are baked before the image: what its `files` take out of one is all of it that the image has.",
        names="name", expected="a section with one section for each stage, such as 'compile'", added=True))
    image: ImageSpec = field(metadata=key("What the image is made of. Changing it makes a new image."))
    service: Service = field(default=Service(command=(), health=Health(kind="none")), metadata=key(
        "How an instance runs. Changing it makes a new release.", default=None, default_about="none, of a base"))
    roles: Mapping[str, Role] = field(default_factory=dict, metadata=key(
        "Several processes of the one image, in place of `service`: how instances of each run, by name. A release "
        "covers all of them. Requests go to those with a port, each by its own door (`listen`).", names="name",
        default_about="one process: `service`", added=True,
        expected="a section with one section for each role, such as 'worker: {command: […]}'"))
    registry: str | None = field(default=None, metadata=key(
        "The repository that its images are pushed to, and pulled from by a machine that is to run one and has not "
        "got it.", "repository", default_about="none: each machine bakes", added=True))
    defaults: ClassVar[Any] = key(
        "What holds in every environment that does not say otherwise, with the keys of one; merged key by key, and "
        "`null` takes away.", "defaults of environments", default=None, default_about="none")
    environments: Mapping[str, Environment] = field(metadata=key("Where releases run, by name.", default={},
        names="name", expected="a section with one section for each environment, such as 'dev'"))
    own_services: Mapping[str, Mapping[str, Service]] = field(default_factory=dict)  # of `services_in`
    config_files: tuple[str, ...] = ()  # the author's, which configuration comes from

    @property
    def first_role(self) -> str:
        """The role that requests go to, or where none has a port, the one that is written first; UNNAMED_ROLE where
        there are none."""
        routed = (name for name, role in self.roles.items() if role.port is not None)
        return next(routed, next(iter(self.roles), UNNAMED_ROLE))

    @property
    def services(self) -> Mapping[str, Service]:
        """How instances run, by role; by UNNAMED_ROLE where there are none."""
        return {name: role.service for name, role in self.roles.items()} or {UNNAMED_ROLE: self.service}

    def services_in(self, environment: str) -> Mapping[str, Service]:
        """How instances run in an environment, by role; by UNNAMED_ROLE where there are none."""
        return self.own_services.get(environment, self.services)

    @property
    def needed_stages(self) -> tuple[str, ...]:
        """The stages that the image takes from, or a stage that it needs does, in their order."""
        needed = set[str]()
        for name, made in reversed([*self.build.items(), ("", self.image)]):
            if not name or name in needed:
                needed.update(files.stage for files in made.files if files.stage)
        return tuple(name for name in self.build if name in needed)
