"""What an author writes, as values. Read by ``definition/``; everything else takes these.

Times are integer milliseconds, sizes bytes, processors thousandths. Paths inside an image are absolute POSIX
strings; paths of the author's files are relative to the definition's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Who an instance's processes are. Never root."""

    name: str = "app"
    uid: int = 10001


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How an instance is known to be well.

    ``http``: GET ``path`` answers 200–399. ``tcp``: the port accepts. ``command``: exits 0 inside the instance.
    ``none``: it is well while its first process lives (the default of a service without a port).
    """

    kind: Literal["http", "tcp", "command", "none"]
    path: str | None = None
    command: tuple[str, ...] | None = None
    interval_ms: int = 500
    timeout_ms: int = 2_000
    deadline_ms: int = 30_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    request_ms: int = 60_000
    tunnel_ms: int = 3_600_000


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
    """Data that outlives releases. ``exclusive``: only one release may have it at a time."""

    name: str
    path: str
    access: Literal["shared", "exclusive"] = "exclusive"
    exec: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tmp:
    """The tmpfs at /tmp."""

    size_bytes: int = 64 * 1024 * 1024
    exec: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
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
    capabilities: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Two releases of it must not run at once."""
        return any(volume.access == "exclusive" for volume in self.volumes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    strategy: Literal["blue-green"] = "blue-green"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    name: str
    image: ImageSpec
    service: Service
    environments: Mapping[str, Environment]
