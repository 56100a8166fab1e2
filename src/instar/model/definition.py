"""What an author writes, as values. Read by ``definition/``; everything else takes these.

Times are integer milliseconds, sizes bytes, processors thousandths. Paths inside an image are absolute POSIX
strings; paths of the author's files are relative to the definition's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from instar.model.codec import ADDED

NEW_UID: Final = 10001  # of a user that no package makes


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Who an instance's processes are. Never root.

    A number that is None is what the image has for the name, once its packages are there; where it has none, the uid is
    ``NEW_UID`` and the gid is the uid.
    """

    name: str = "app"
    uid: int | None = None
    gid: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A file from a URL, checked against ``sha256`` (hex), put or unpacked at ``to``."""

    url: str
    sha256: str
    to: str
    unpack: bool = False
    mode: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """A file or tree of the author's, copied to ``to``. ``mode`` is for files; None: 644, or 755 if executable."""

    source: str
    to: str
    owner: str = "root"
    mode: int | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSpec:
    base: str
    packages: tuple[str, ...] = ()
    python: str | None = None
    fetch: tuple[Fetch, ...] = ()
    files: tuple[Files, ...] = ()
    run: tuple[str, ...] = ()
    run_timeout_ms: int = 600_000
    env: Mapping[str, str] = field(default_factory=dict)
    user: User = User()
    suites: tuple[str, ...] = field(default=(), metadata=ADDED)  # of packages, besides those of the base


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How an instance is known to be well.

    ``http``: GET ``path`` answers 200–399. ``tcp``: the port accepts. ``command``: exits 0 inside the instance.
    ``none``: it is well while its first process lives (the default of a service without a port). ``host`` is what a
    request calls the service.
    """

    kind: Literal["http", "tcp", "command", "none"]
    path: str | None = None
    command: tuple[str, ...] | None = None
    interval_ms: int = 500
    timeout_ms: int = 2_000
    deadline_ms: int = 30_000
    steady_ms: int = field(default=0, metadata=ADDED)  # how long a candidate must stay well before it is taken for well
    host: str = field(default="localhost", metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """``wait_ms`` is how long the router keeps a request that no instance can take; None: it is refused at once."""

    request_ms: int = 60_000
    tunnel_ms: int = 3_600_000
    wait_ms: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """How large the head of a request or of an answer may be for the router."""

    size_bytes: int = 32 * 1024
    count: int = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    signal: str = "SIGTERM"
    grace_ms: int = 10_000
    drain_ms: int = 30_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    memory_bytes: int = 256 * 1024 * 1024
    cpus_milli: int = 1_000
    pids: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """Data that outlives releases. ``exclusive``: only one release may have it at a time. ``size_bytes``: None: as much
    as the disk holds."""

    name: str
    path: str
    access: Literal["shared", "exclusive"] = "exclusive"
    exec: bool = False
    size_bytes: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tmp:
    """The tmpfs at /tmp."""

    size_bytes: int = 64 * 1024 * 1024
    exec: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question about a candidate, answered yes or no.

    ``http``: GET ``path`` of the candidate (``status``: the answer it must give, None: 200–399; ``contains``: what must
    be in it). ``command``: exits 0 inside the candidate. ``url``: GET of an address anywhere, judged as ``http`` is.
    """

    kind: Literal["http", "command", "url"]
    path: str | None = None
    command: tuple[str, ...] | None = None
    url: str | None = None
    status: int | None = None
    contains: str | None = None
    timeout_ms: int = 10_000
    host: str | None = field(default=None, metadata=ADDED)  # what a request for ``path`` calls it; None: as health does


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A command that is run once for a release, from its image, in an instance of its own. ``volumes``: the names of
    those that it gets, None: all of the service's."""

    command: tuple[str, ...]
    timeout_ms: int = 600_000
    volumes: tuple[str, ...] | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The form of the data that a release writes (``version``), and those that it can work with (``reads``)."""

    version: int
    reads: tuple[int, ...]


# in the order of their numbers. Source: capabilities(7), linux/capability.h
_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES: Final = tuple(_CAPABILITIES.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """``before`` and ``after`` are tasks of a rollout to a release of it, ``smoke`` what a candidate is asked before
    it gets traffic."""

    command: tuple[str, ...]
    workdir: str = "/"
    port: int | None = None
    protocol: Literal["http", "tcp"] = "http"
    health: Health
    timeouts: Timeouts = Timeouts()
    stop: Stop = Stop()
    limits: Limits = Limits()
    volumes: tuple[Volume, ...] = ()
    tmp: Tmp = Tmp()
    shm_bytes: int = field(default=64 << 20, metadata=ADDED)
    capabilities: tuple[str, ...] = ()
    jit: bool = False
    smoke: tuple[Check, ...] = ()
    before: tuple[Task, ...] = ()
    after: tuple[Task, ...] = ()
    data: Data | None = None
    headers: Headers = field(default=Headers(), metadata=ADDED)

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
class Step:
    """A candidate's share of new requests, and for how long; ``pause_ms`` None: until somebody says resume."""

    weight_percent: int
    pause_ms: int | None = 30_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """What a candidate must show in each step, against the stable release over the same time.

    Shares of failed requests are in thousandths of all (10 = 1 %), ``slower_milli`` the factor by which its mean
    response time may exceed the stable one's, in thousandths. There is no verdict before ``min_requests`` of the
    candidate's were counted; when they have not come ``wait_ms`` after the step's pause, it can't be told, and the
    rollout is given up; or (``quiet`` is "pass") those that came decide, and none is fine.
    """

    min_requests: int = 50
    max_failed_milli: int = 10  # how much larger its share of failed requests may be than the stable one's
    max_slower_milli: int = 2_000
    slower_than_ms: int = 20  # a mean below that is never too slow
    wait_ms: int = 600_000
    checks: tuple[Check, ...] = ()
    quiet: Literal["fail", "pass"] = field(default="fail", metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """How the traffic moves. ``steps`` are of a canary, ``batch`` of a rolling one (instances at a time). ``watch_ms``:
    for how long afterwards the release is watched, which goes back by itself where it does not stay well."""

    strategy: Literal["blue-green", "canary", "rolling"] = "blue-green"
    steps: tuple[Step, ...] = ()
    batch: int = 1
    analysis: Analysis | None = None
    watch_ms: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replace:
    """How what runs is renewed. ``budget``: how many replacements in ``within_ms`` may be needed before the agent
    stops and raises an alarm; ``max_age_ms``: instances older than that are replaced, None: none are for their age."""

    budget: int = 5
    within_ms: int = 600_000
    max_age_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignore:
    """Findings that are expected: of ``kind``, at what matches ``path`` (``*`` stands for anything; None: anywhere).

    ``until``: the last day ("2027-01-31", UTC) on which the rule holds.
    """

    kind: str
    reason: str
    until: str
    path: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How often the agent checks that instances are what was baked (None: never), and what it does with one that is
    not."""

    check_ms: int | None = 60_000
    action: Literal["replace", "report"] = "report"
    ignore: tuple[Ignore, ...] = ()


MACHINE: Final = "machine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allow:
    """What an environment's instances may begin to talk to: ``to`` is SERVICE/ENVIRONMENT, MACHINE, or a network
    ("169.254.169.254/32"). ``ports``: "5432/tcp", each; none: any port of any protocol."""

    to: str
    ports: tuple[str, ...] = ()

    @property
    def names_environment(self) -> bool:
        """It is an environment's instances, and where its router listens."""
        return "/" in self.to and not self.to[0].isdigit()


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What instances may reach besides the world. ``connections``: how many each may have open at once; None: a share
    of what the machine can remember."""

    allow: tuple[Allow, ...] = ()
    connections: int | None = None


REPLACE_WITHIN_MS = 900_000  # of an instance in which a shell was opened


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """``hot``: releases whose instances stay ready for a rollback. ``releases``: whose images gc spares."""

    hot: int = 1
    releases: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A named place where releases run. Only ``config`` and ``secrets`` are part of a release."""

    name: str
    provider: str = "local"
    listen: tuple[str, ...] = ()
    instances: int = 1
    promote_from: str | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # name → file of the author's
    rollout: Rollout = Rollout()
    keep: Keep = Keep()
    preview: str | None = None  # an address where the candidate is reached, or "header"
    replace: Replace = Replace()
    drift: Drift = Drift()
    replace_within_ms: int = REPLACE_WITHIN_MS
    accept_proxy: tuple[str, ...] = field(default=(), metadata=ADDED)  # addresses or networks of servers in front
    network: Network = field(default=Network(), metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    name: str
    image: ImageSpec
    service: Service
    environments: Mapping[str, Environment]
