"""What an author writes about the environments of a service, each key declared with the field that it becomes.

Units and paths are as in ``model.definition``. What an environment has besides its name, its releases and where they
come from are its :class:`Settings`, which the ledger keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Any, ClassVar, Final, Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.declaration import key
from instar.model.doors import Door
from instar.model.host_names import HostNames, Listen, Tls
from instar.model.requests import Compression, Requests
from instar.model.scaling import Scaling

MACHINE: Final = "machine"
PAUSE_MS: Final = 30_000  # of a step that says nothing else
When = Literal["traffic", "before"]
REPLACE_WITHIN_MS: Final = 900_000  # of an instance in which a shell was opened

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question about a candidate, answered yes or no.

    ``http``: GET ``path`` of the candidate (``status``: the answer it must give, None: 200–399; ``contains``: what must
    be in it). ``command``: exits 0 inside the candidate. ``url``: GET of an address anywhere, judged as ``http`` is.
    """

    kind: Literal["http", "command", "url"]
    path: str | None = field(default=None, metadata=key(
        "GET this path of the candidate: right when the answer is 200 to 399.", "path of a request"))
    command: tuple[str, ...] | None = field(default=None, metadata=key(
        "Run this in the candidate: right when it exits with 0.", "command"))
    url: str | None = field(default=None, metadata=key(
        "GET this address, whoever answers there: right when the answer is 200 to 399.", "address of a page"))
    host: str | None = field(default=None, metadata=key("What a request for `path` says as its `Host`.", "host",
        default_about="that of `service.health`", added=True))
    status: int | None = field(default=None, metadata=key("The answer has to be this one instead.", low=200, high=599))
    contains: str | None = field(default=None, metadata=key("This has to be in the answer.", "text"))
    timeout_ms: int = field(default=10_000, metadata=key("How long the check may take."))


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutStep:
    """A candidate's share of new requests, and for how long; ``pause_ms`` None: until somebody says resume."""

    weight_percent: int = field(metadata=key(
        "The new release's share of new requests, in percent; 0 to look at it first.", low=0, high=99))
    pause_ms: int | None = field(default=PAUSE_MS, metadata=key(
        "How long this step lasts, or `manual`: until `instar rollout resume`.", "pause", default=None,
        default_about="`pause` of the rollout"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """What a candidate must show in each step, against the stable release over the same time.

    Shares of failed requests are in thousandths of all (10 = 1 %), ``slower_milli`` the factor by which its mean
    response time may exceed the stable one's, in thousandths. There is no verdict before ``min_requests`` of the
    candidate's were counted; when they have not come ``wait_ms`` after the step's pause, it can't be told, and the
    rollout is given up; or (``quiet`` is "pass") those that came decide, and none is fine.
    """

    min_requests: int = field(default=50, metadata=key(
        "How many requests the new release answers before a step is judged; `0`: none are needed.", low=0,
        high=1_000_000))
    max_failed_milli: int = field(default=10, metadata=key(
        "How much larger its share of failed requests may be than the old release's, in percentage points.", "points"))
    max_slower_milli: int = field(default=2_000, metadata=key(
        "How many times the old release's mean response time its own may be.", low=1_000, high=1_000_000))
    slower_than_ms: int = field(default=20, metadata=key("A mean response time below this is never too slow."))
    wait_ms: int = field(default=600_000, metadata=key(
        "How long, after a step's pause, its requests are waited for. If they don't come, `quiet` says what follows."))
    quiet: Literal["fail", "pass"] = field(default="fail", metadata=key(
        "What a step is in which too few requests came: `fail`, so that the rollout is given up, or `pass`, unless "
        "those that came say otherwise.", added=True))
    checks: tuple[Check, ...] = field(default=(), metadata=key("Questions of your own, asked in each step."))


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutRules:
    """How the traffic moves. ``steps`` are of a canary, ``batch`` of a rolling one (instances at a time). ``watch_ms``:
    for how long afterwards the release is watched, which goes back by itself where it does not stay well."""

    strategy: Literal["blue-green", "canary", "rolling"] = field(default="blue-green", metadata=key(
        "`blue-green`: all traffic moves at once, when every new instance is healthy. `canary`: it moves share by "
        "share. `rolling`: instances are replaced some at a time."))
    steps: tuple[RolloutStep, ...] = field(default=(), metadata=key(
        "Shares of a canary in percent, rising; the last one, 100, comes by itself.", ("share", RolloutStep), minimum=1,
        expected="a list such as [5, 25, {weight: 50, pause: manual}]", default_about="`[10, 50]` of a canary"))
    pause: ClassVar[Any] = key("How long a step of a canary lasts, or `manual`: until `instar rollout resume`.",
        "pause", default=PAUSE_MS)
    batch: int = field(default=1, metadata=key("How many instances a rolling rollout replaces at a time.", low=1,
        high=100))
    analysis: Analysis | None = field(default=None, metadata=key(
        "What the new release has to show in each step, compared with the old one over the same time; else the traffic "
        "goes back. `{}` is one with the defaults.", default_about="none"))
    watch_ms: int | None = field(default=None, metadata=key(
        "How long the new release is watched when the rollout is over, by the agent or by `instar deploy --watch`: "
        "when an instance of it ends or no longer answers, the traffic goes back to the release before. With `before` "
        "tasks, another version of the data, or an exclusive volume an alarm is raised instead.",
        default_about="it is not watched", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Replace:
    """How what runs is renewed. ``max_age_ms`` None: nothing is replaced for its age."""

    budget: int = field(default=5, metadata=key(
        "How many instances are replaced in `within`. Then an alarm is raised, and nothing more is replaced until "
        "somebody deploys or rolls back.", low=1, high=1_000))
    within_ms: int = field(default=600_000, metadata=key("The time in which they are counted."))
    max_age_ms: int | None = field(default=None, metadata=key(
        "Instances older than this are replaced, though nothing is wrong with them; at least 1m.", "age", low=60_000,
        default_about="none are replaced for their age"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignore:
    """Findings that are expected: of ``kind``, at what matches ``path`` (None: anywhere).

    ``until``: the last day ("2027-01-31", UTC) on which the rule holds.
    """

    kind: str = field(metadata=key("The kind of findings that are expected.", "kind of finding"))
    path: str | None = field(default=None, metadata=key("Only findings there; `*` stands for anything.",
        "place of a finding", default_about="anywhere"))
    reason: str = field(metadata=key("Why they are expected.", "reason"))
    until: str = field(metadata=key("The last day (UTC) on which the rule holds; then it is a finding itself.", "day"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How often the agent checks that instances are what was baked (None: never), and what it does with one that is
    not."""

    check_ms: int | None = field(default=60_000, metadata=key(
        "How often the agent checks that what runs is what was baked, or `never`.", "interval", low=1_000))
    action: Literal["report", "replace"] = field(default="report", metadata=key(
        "What the agent does with an instance that is not: `report` tells of it, `replace` replaces it too."))
    ignore: tuple[Ignore, ...] = field(default=(), metadata=key(
        "Findings that are expected, each with a reason and a last day.",
        expected="a list of sections such as {kind: listener, reason: …, until: 2027-01-31}"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Allow:
    """What an environment's instances may begin to talk to: ``to`` is SERVICE/ENVIRONMENT, MACHINE, or a network
    ("169.254.169.254/32"). ``ports``: "5432/tcp", each; none: any port of any protocol."""

    to: str = field(metadata=key(
        "Whom the instances may begin to talk to: the instances of an environment and what its router listens on, now "
        "and whenever they change; `machine`, what this machine listens on; or a network of IPv4, whoever is in it.",
        "peer"))
    ports: tuple[str, ...] = field(default=(), metadata=key("At which ports, of tcp unless `/udp` follows.", "port",
        minimum=1, unique=True, expected="a list of ports, such as [5432, 53/udp]",
        default_about="any, of any protocol"))

    @property
    def names_environment(self) -> bool:
        """It is an environment's instances, and where its router listens."""
        return "/" in self.to and not self.to[0].isdigit()


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What instances may reach besides the world. ``connections``: how many each may have open at once; None: a share
    of what the machine can remember."""

    allow: tuple[Allow, ...] = field(default=(), metadata=key(
        "What the instances reach besides the world. Without an entry they reach neither one another, nor what this "
        "machine listens on, nor 169.254.0.0/16.", expected="a list of sections such as {to: machine, ports: [5432]}"))
    connections: int | None = field(default=None, metadata=key(
        "How many connections an instance may have open at once that it began itself. It may begin a sixteenth of "
        "that each second, and half of it in a burst.", low=16, high=10_000_000,
        default_about="a sixteenth of what the machine can remember (`nf_conntrack_max`)"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """What is kept of releases before."""

    hot: int = field(default=1, metadata=key(
        "Releases before the active one whose instances stay ready for a rollback.", low=0, high=5))
    releases: int = field(default=5, metadata=key("Releases whose images `instar gc` spares.", low=1, high=100))


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSource:
    """Where a secret comes from: a file of the author's, an encrypted one, or what the machine's own file calls so."""

    file: str | None = field(default=None, metadata=key(
        "File beside the definition that holds the secret. It never goes into an image.", "secret file"))
    age: str | None = field(default=None, metadata=key(
        "File beside the definition that age has encrypted (`instar secrets edit`); it may be in git.", "secret file"))
    source: str | None = field(default=None, metadata=key(
        "A source that the machine's own file names: `secrets` in /etc/instar/config.yaml.", "name"))
    variable: bool = field(default=False, metadata=key(
        "Whether it is an environment variable of its name as well, without line ends at its end. Every program that "
        "the service starts has that too, and many show theirs in reports of errors: docs/secrets.md."))


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleSettings:
    """What is about a role of an environment's releases, and not about an instance of it."""

    instances: int = field(default=1, metadata=key("How many of it run here; or, of an autoscaler, at least and most.",
        ("number of instances", Scaling), low=1, high=100, default_about="what the role says"))
    scaling: Scaling | None = field(default=None, metadata=ADDED)  # ``instances`` are as many as run at least then
    when: When = field(default="traffic", metadata=key("When the instances of a new release start here, of a role "
        "without a port: once the traffic has moved (`traffic`), or `before`.", name="with",
        default_about="what the role says"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is about the environment and not about an instance. Versioned beside releases; makes none."""

    provider: str = field(default="local", metadata=key("What runs the instances.", "provider"))
    listen: tuple[str, ...] = field(default=(), metadata=key(
        "Where the service is reached: an address, names that the machine's edge serves, or a list of both; `:8080` is "
        "every IPv4 address of the machine. Or `internal`: environments that use it reach it by its name (`uses`), and "
        "nobody else does. Of several roles or ports a section with one of these for each, by `ROLE` or `ROLE.PORT` "
        "(`service.PORT` where there are no roles).", ("listening address", Listen), or_one=True, by_door=True,
        expected="an address such as '127.0.0.1:8080', a section such as {https: [shop.example]}, or a list of them",
        default_about="**required** with a port"))
    names: HostNames = field(default=HostNames(), metadata=ADDED)
    internal: bool = field(default=False, metadata=ADDED)  # only environments that use it reach it
    doors: Mapping[str, Door] = field(default_factory=dict, metadata=ADDED)  # besides the first: ".PORT", "ROLE" …
    tls: Tls = field(default=Tls(), metadata=key(
        "Where the certificates for names of `https` come from: `acme` (Let's Encrypt, or who the machine's "
        "file names), `internal`, the machine's own small authority, or files.", ("certificates", Tls),
        default_about="`acme`", added=True))
    accept_proxy: tuple[str, ...] = field(default=(), metadata=key(
        "Servers in front, by address or network: their connections begin with the PROXY protocol's header (version 1 "
        "or 2), which says who asks. Nobody else's do.", "network", or_one=True,
        expected="an address such as '10.0.0.7', or a list of them", added=True))
    requests: Requests = field(default=Requests(), metadata=key(
        "What the router takes from clients, of a service of http. A change applies at once, and makes no release.",
        added=True))
    compression: Compression | None = field(default=None, metadata=key(
        "Which answers the router compresses, by gzip, for clients that take it; `{}`: those of the usual types. A "
        "change applies at once, and makes no release.", default_about="none", added=True))
    access_log: bool = field(default=False, metadata=key(
        "Whether the router writes down each request of http, without its query and headers: `instar logs ENV "
        "--access` shows it. A change applies at once, and makes no release.", added=True))
    instances: int = field(default=1, metadata=key(
        "How many instances run; or, where the provider has an autoscaler, how many at least and at most.",
        ("number of instances", Scaling), low=1, high=100))
    scaling: Scaling | None = field(default=None, metadata=ADDED)  # ``instances`` are as many as run at least then
    roles: Mapping[str, RoleSettings] = field(default_factory=dict, metadata=key(
        "What is other here of some of the definition's `roles`.", names="name", added=True,
        expected="a section by role, such as 'worker: {instances: 3}'"))
    rollout: RolloutRules = field(default=RolloutRules(), metadata=key("How the traffic moves to a new release."))
    preview: str | None = field(default=None, metadata=key(
        "Where a candidate is reached before it gets traffic, of a service of http: an address of its own, or "
        "`header`: the service's own address, for requests with `X-Instar-Release: NUMBER`.", "preview"))
    replace: Replace = field(default=Replace(), metadata=key("How often instances are replaced."))
    replace_within_ms: int = field(default=REPLACE_WITHIN_MS, metadata=key(
        "How long after `instar shell` an instance is replaced."))
    drift: Drift = field(default=Drift(), metadata=key(
        "How often it is checked that what runs is what was baked, and what follows."))
    network: Network = field(default=Network(), metadata=key(
        "What the instances reach besides the world. A change applies at once, and makes no release; on Kubernetes, "
        "where it is part of a release, it makes one.", added=True))
    keep: Keep = field(default=Keep(), metadata=key("What is kept of releases before."))

    provider_settings: Mapping[str, Any] = field(default_factory=dict, metadata=ADDED)  # its section, as JSON has it

    @property
    def all_listen(self) -> tuple[str, ...]:
        """Where it listens, by all its doors, the first one's addresses first."""
        return (*self.listen, *(address for _, door in sorted(self.doors.items()) for address in door.listen))

    @property
    def is_reached(self) -> bool:
        """Requests have a way to it: an address or a name."""
        return bool(self.listen or self.names.sites or self.internal)

    @property
    def is_scaled(self) -> bool:
        """An autoscaler is to say how many instances run, of some role at least."""
        return self.scaling is not None or any(one.scaling is not None for one in self.roles.values())

    @property
    def first_sites(self) -> tuple[str, ...]:
        """The names that lead to the first door, and not to another."""
        others = {site for door in self.doors.values() for site in door.sites}
        return tuple(one for one in self.names.sites if one not in others)

    @property
    def internal_roles(self) -> tuple[str, ...]:
        """The roles, besides the first, that are reached by their names alone."""
        return tuple(sorted(key for key, door in self.doors.items() if door.internal))

    def of_role(self, role: str) -> Settings:
        """Return what holds for one role of a release; what is said of no role holds for it."""
        own = self.roles.get(role)
        return self if own is None else replace(self, instances=own.instances, scaling=own.scaling)

    def when(self, role: str) -> When:
        """Return when instances of a role of a new release start, which has no port."""
        return self.roles.get(role, RoleSettings()).when

    @classmethod
    def of(cls, environment: Environment) -> Settings:
        return cls(**{setting.name: getattr(environment, setting.name) for setting in fields(cls)})


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenancePage:
    """What `instar maintenance ENV on` shows. ``page`` None: a plain page of Instar's own."""

    page: str | None = field(default=None, metadata=key(
        "A file beside the definition: the page that requests are answered with, of at most 16 kB.", "author's path",
        default_about="a plain page"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduledTask:
    """A command by the clock: by a line of cron in a time ``zone``, or in equal steps of the day in UTC (``every_ms``).
    ``role`` None: the first."""

    command: tuple[str, ...] = field(metadata=key("The program and its arguments, a word an item.", "command"))
    cron: str | None = field(default=None, metadata=key(
        "When it runs, as cron has it: minute, hour, day, month, weekday. `every` stands for it.", "cron",
        default_about="`every`"))
    every_ms: int | None = field(default=None, metadata=key(
        "How often it runs, counted from midnight UTC of 1970: `15m` is at each quarter of an hour; at least 10s.",
        "age", low=10_000, default_about="`cron`"))
    zone: str = field(default="UTC", metadata=key("The time zone in which `cron` is meant, such as `Europe/Berlin`.",
        "time zone"))
    role: str | None = field(default=None, metadata=key("As which of the `roles` it runs.", "name",
        default_about="the first"))
    timeout_ms: int = field(default=3_600_000, metadata=key("How long it may take.", "age", low=1_000))
    retries: int = field(default=0, metadata=key("How often it is tried again, at once, when it fails.", low=0,
        high=10))
    missed: Literal["skip", "once"] = field(default="skip", metadata=key(
        "What becomes of it where it could not begin within a minute: `skip`, nothing; `once`: the last one of those "
        "that were due runs as soon as it can."))
    overlap: bool = field(default=False, metadata=key("Whether one begins while the one before still runs."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment(Settings):
    """A named place where releases run. Only ``config``, ``secrets`` and ``schedule`` are part of a release."""

    name: str
    promote_from: str | None = field(default=None, metadata=key(
        "The environment whose image `instar promote` brings here; a direct deploy is refused.", "name"))
    config: Mapping[str, str] = field(default_factory=dict, metadata=key(
        "Environment variables of the instances here. A change makes a new release of the same image.", "variables"))
    config_file: ClassVar[Any] = key(
        "A `.env` file beside the definition with more of them: NAME=VALUE, a line each. `config` wins over it. It is "
        "shown, kept in the ledger and no secret: what is one stands in `secrets`.", "author's path", default=None,
        default_about="none")
    secrets: Mapping[str, SecretSource] = field(default_factory=dict, metadata=key(
        "Secrets of the instances here, by name.", SecretSource,
        expected="a section such as {TOKEN: {file: secrets/token}}"))
    uses: tuple[str, ...] = field(default=(), metadata=key(
        "Other environments that the instances find by name: `redis` (the one of this name), or `db/production`. Each "
        "is at `SERVICE_HOST` and `SERVICE_PORT`, variables of the instances, through its router, and may be reached. "
        "The host is `SERVICE.internal` on a machine, and a Service's name on Kubernetes. Of several roles that is the "
        "first one with a port; `shop:api` is another: `SHOP_API_HOST` (`api.shop.internal`), `SHOP_API_PORT`.",
        "used environment", unique=True, expected="a list such as [redis, db/production]"))
    schedule: Mapping[str, ScheduledTask] = field(default_factory=dict, metadata=key(
        "Commands by the clock, by name, each in an instance of its own of the active release; the agent begins them. "
        "A change makes a new release of the same image.", names="name",
        expected="a section such as {nightly: {command: [./report], cron: '0 3 * * *'}}"))
    maintenance: MaintenancePage = field(default=MaintenancePage(), metadata=key(
        "What `instar maintenance ENV on` answers requests with."))

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The secrets that are environment variables as well."""
        return tuple(sorted(name for name, secret in self.secrets.items() if secret.variable))
