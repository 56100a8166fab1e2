"""What an author writes, as values, each key declared with the field that it becomes: the service and its image.

``model.environment`` has where it runs. Read by ``definition/``; everything else takes these. Times are integer
milliseconds, sizes bytes, processors thousandths. Paths inside an image are absolute POSIX strings; paths of the
author's files are relative to the definition's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, ClassVar, Final, Literal

from instar.frozen import dataclass
from instar.model.declaration import key
from instar.model.doors import Port
from instar.model.environment import Check, Environment, When
from instar.model.image_sources import Archive, OtherBase
from instar.model.projects import INSTALLING, OFFERING, MavenProject, NpmPackages, PythonProjects
from instar.model.slim import Slim

NEW_UID: Final = 10001  # of a user that no package makes
STAGES: Final = "build."  # and a stage's name: where ``files`` are taken out of one

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Who an instance's processes are. Never root.

    A number that is None is what the image has for the name, once its packages are there; where it has none, the uid is
    ``NEW_UID`` and the gid is the uid.
    """

    name: str = field(default="app", metadata=key("Name of the user: one that a package makes, or a new one.",
        "user's name"))
    uid: int | None = field(default=None, metadata=key(
        "Number of the user. One that a package gives another number is refused.", low=1, high=65533,
        default_about="what the image has; of a new user `10001`"))
    gid: int | None = field(default=None, metadata=key("Number of the user's group.", low=1, high=65533,
        default_about="what the image has; of a new user its uid", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A file from a URL, put or unpacked at ``to``, or a git repository's tree at ``revision``, which is unpacked.

    It is checked against ``sha256`` (hex)."""

    url: str = field(metadata=key("Where the file is fetched from, once; later it comes from the cache. A git "
        "repository is `git+https://…`.", "address of a file"))
    sha256: str = field(metadata=key("SHA-256 of the file, or of a revision's tree: of one that is not known yet, 64 "
        "zeros; `instar bake` says it. Bytes with another one are refused.", "sha256"))
    to: str = field(metadata=key("Where the file is put, or the folder that it is unpacked into.", "path inside"))
    unpack: bool = field(default=False, metadata=key("Whether it is an archive to unpack."))
    mode: int | None = field(default=None, metadata=key("Permissions of the file.", "mode", default_about="`0644`"))
    revision: str | None = field(default=None, metadata=key("The commit of a git repository, whose tree is unpacked.",
        "commit", added=True))
    platform: str | None = field(default=None, metadata=key("The one platform whose image has it.", "platform",
        default_about="that of every platform", added=True))

    @property
    def is_unpacked(self) -> bool:
        return self.unpack or self.revision is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """A file or tree of the author's, or of a stage, copied to ``to``.

    ``path`` is where it is in the stage that ``source`` names; None of the author's files. ``mode`` is for files; None:
    of the author's 644, or 755 if executable; of a stage's what it is there.
    """

    source: str = field(metadata=key("A file or folder beside the definition; or `build.NAME`, a stage of it.",
        "author's path", name="from"))
    path: str | None = field(default=None, metadata=key("Which file or folder of that stage.", "path inside",
        default_about="none: `from` is a file or folder of your own", added=True))
    to: str = field(metadata=key("Where it is in the image. Of a folder, what is in it is put there.", "path inside"))
    owner: str = field(default="root", metadata=key("Who owns what is copied.", "owner"))
    mode: int | None = field(default=None, metadata=key("Permissions of every file.", "mode",
        default_about="`0644`, or `0755` where the file is executable; of a stage's files what they have there"))
    exclude: tuple[str, ...] = field(default=(), metadata=key(
        "Patterns as in `.gitignore`, of what is left out; of your own files besides `.git`, `__pycache__`, `.env` and "
        "every declared secret.", "pattern", expected="a list of patterns, such as ['*.pyc']"))
    keep: tuple[str, ...] = field(default=(), metadata=key(
        "What is copied only when it is named: `setuid` (the bits set-user-ID, set-group-ID and sticky, also of "
        "folders), `capabilities`, `attributes` (extended, `user.*`), `hardlinks` (names of one file stay that; of a "
        "stage they do anyhow), `links` (those that lead out stay as they are).", "property of files", unique=True,
        expected="a list such as [hardlinks, attributes]", added=True))
    platform: str | None = field(default=None, metadata=key("The one platform whose image has it.", "platform",
        default_about="that of every platform", added=True))

    @property
    def stage(self) -> str | None:
        """The stage that it is taken out of, None where it is a file of the author's."""
        return self.source.removeprefix(STAGES) if self.path is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStage:
    """What a stage of a build is made of. The image is the last of them, and has more to say.

    ``base`` is a text of ``model.base``. ``platform`` is a stage's alone.
    """

    base: str = field(metadata=key("What it stands on: a Debian suite, bootstrapped from locked packages; nothing "
        "(`scratch`); or an image.", ("base", OtherBase)))
    packages: tuple[str, ...] = field(default=(), metadata=key(
        "Debian packages: `name`, `name=version`, or `name=1.2*` for the newest of these.", "package", unique=True,
        expected="a list of packages, such as [curl, ca-certificates]"))
    suites: tuple[str, ...] = field(default=(), metadata=key(
        "Suites that packages may come from besides those of `base`: as this machine's apt sources call them.", "suite",
        unique=True, expected="a list of suites, such as [bookworm-backports]", added=True))
    archives: Mapping[str, Archive] = field(default_factory=dict, metadata=key(
        "Archives of others, each by a name of yours, that some packages come from.", names="name", added=True,
        expected="a section with one section for each archive, such as 'nodesource: {…}'"))
    python: str | None = field(default=None, metadata=key(
        "A requirements file; what it names is installed from locked wheels into `/opt/venv`, which is first on PATH. "
        "A section says which index that comes from.", ("author's path", PythonProjects)))
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # ``PythonProjects.sources`` of ``python``
    from_source: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # that of ``python``
    npm: tuple[NpmPackages, ...] = field(default=(), metadata=key(
        "Folders with a `package-lock.json`: what it names is installed by the image's own npm, without a network.",
        or_one=True, expected="a section such as {from: app, to: /srv/app}, or a list of them", added=True))
    go: tuple[str, ...] = field(default=(), metadata=key(
        "Folders with a `go.mod` and a `go.sum`: the modules that they name are there for go in the lines of `run`.",
        "author's path", or_one=True, expected="a path in the definition's folder, such as '.', or a list of them",
        added=True))
    cargo: tuple[str, ...] = field(default=(), metadata=key(
        "Folders with a `Cargo.toml` and a `Cargo.lock`: the crates that they name are there for cargo in the lines of "
        "`run`.", "author's path", or_one=True, expected="a path in the definition's folder, such as '.', or a list of "
        "them", added=True))
    maven: tuple[MavenProject, ...] = field(default=(), metadata=key(
        "Folders with a `pom.xml`: what building them takes is there for Maven in the lines of `run`.", or_one=True,
        expected="a section such as {from: .}, or a list of them", added=True))
    fetch: tuple[Fetch, ...] = field(default=(), metadata=key("Files from the network, each known by its hash.",
        expected="a list of sections such as {url, sha256, to}"))
    files: tuple[Files, ...] = field(default=(), metadata=key("Files of your own, copied in this order."))
    ignore: str = field(default=".instarignore", metadata=key(
        "What `files` never copies: `.instarignore`, read as `.gitignore` is, or `.dockerignore` as docker reads it.",
        "ignore file", added=True))
    run: tuple[str, ...] = field(default=(), metadata=key(
        "Lines that `/bin/sh` runs as root while the image is baked, without a network; each makes a layer.", "line",
        expected="a list of lines for the shell"))
    run_timeout_ms: int = field(default=600_000, metadata=key("How long one of them may take."))
    env: Mapping[str, str] = field(default_factory=dict, metadata=key(
        "Environment variables of every process in the image.", "variables"))
    strip: tuple[str, ...] = field(default=(), metadata=key(
        "What is left out of what packages bring: `docs` (manuals and documents; licences stay), `locales` (other "
        "languages than English, all encodings but UTF-8), and of the image, at its end, `apt` and `shell`: the tools.",
        "part of packages", unique=True, expected="a list such as [docs, locales]", added=True))
    platform: str | None = field(default=None, metadata=key(
        "The platform that the stage is baked for, whichever the image's is; `run` finds that one in `TARGETPLATFORM` "
        "and `TARGETARCH`. So a compiler makes programs for platforms that it does not run on.", "platform",
        default_about="the image's", added=True))


    @property
    def ecosystems(self) -> tuple[str, ...]:
        """The ecosystems that it has something of."""
        return tuple(name for name in (*INSTALLING, *OFFERING) if getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSpec(BuildStage):
    """What an image is made of. ``platforms`` is empty where it is for the machine that it is made on."""

    platforms: tuple[str, ...] = field(default=(), metadata=key(
        "The platforms that there is an image for, each of which has its own part of the lock.", "platform",
        minimum=1, unique=True, expected="a list of platforms, such as [linux/amd64, linux/arm64]",
        default_about="that of the machine that locks", added=True))
    slim: Slim | None = field(default=None, metadata=key(
        "Whether the image is one layer, with only that of its base in it which the service's commands need.",
        ("only slim", Slim), default_about="its layers are those of its steps", added=True))

    user: User = field(default=User(), metadata=key("Who the service runs as. Never root.", ("user", User),
        default_about="`app`, which is new and has the numbers 10001"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How an instance is known to be well.

    ``http``: GET ``path`` answers 200–399. ``tcp``: the port accepts. ``command``: exits 0 inside the instance.
    ``none``: it is well while its first process lives (the default of a service without a port). ``host`` is what a
    request calls the service.
    """

    kind: Literal["http", "tcp", "command", "none"]
    path: str | None = field(default=None, metadata=key("GET this path: healthy when the answer is 200 to 399.",
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
        low=16 << 20, default_about="as much as the disk holds", added=True))
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
    own_services: Mapping[str, Mapping[str | None, Service]] = field(default_factory=dict)  # of `services_in`
    config_files: tuple[str, ...] = ()  # the author's, which configuration comes from

    @property
    def first_role(self) -> str | None:
        """The role that requests go to, or where none has a port, the one that is written first; None: there are no
        roles."""
        routed = (name for name, role in self.roles.items() if role.port is not None)
        return next(routed, next(iter(self.roles), None))

    @property
    def services(self) -> Mapping[str | None, Service]:
        """How instances run, by role; by None where there are no roles."""
        return {name: role.service for name, role in self.roles.items()} or {None: self.service}

    def services_in(self, environment: str) -> Mapping[str | None, Service]:
        """How instances run in an environment, by role; by None where there are no roles."""
        return self.own_services.get(environment, self.services)

    @property
    def needed_stages(self) -> tuple[str, ...]:
        """The stages that the image takes from, or a stage that it needs does, in their order."""
        needed = set[str]()
        for name, made in reversed([*self.build.items(), ("", self.image)]):
            if not name or name in needed:
                needed.update(files.stage for files in made.files if files.stage)
        return tuple(name for name in self.build if name in needed)
