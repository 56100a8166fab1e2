"""What a machine's own file, /etc/instar/config.yaml, says: what is the machine's business and no definition's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Final, Literal

from instar.frozen import dataclass
from instar.model.declaration import key

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSettings:
    """What ``instar agent`` does unless its options say otherwise. ``metrics``: where they are served, if anywhere."""

    metrics: str | None = field(default=None, metadata=key(
        "Where Prometheus metrics are served, such as 127.0.0.1:9464.", "address", default_about="nowhere"))
    check_ms: int = field(default=5_000, metadata=key(
        "From one look at an environment to the next; what ends is seen at once.", low=500, high=3_600_000))
    log_format: Literal["text", "json"] = field(default="text", metadata=key("Form of the agent's log."))


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeSettings:
    """Where the agent's notices go. ``command``: the words of a program's call, () for none."""

    command: tuple[str, ...] = field(default=(), metadata=key(
        "The program, and its arguments, that gets each notice, as JSON, on its standard input. No shell is in "
        "between.", "command"))
    url: str | None = field(default=None, metadata=key("Where each notice is sent, as JSON, by POST.", "webhook"))


@dataclass(frozen=True, kw_only=True, slots=True)
class DnsSettings:
    """The command that writes to the DNS, () for none; docs/certificates.md has how it is called."""

    command: tuple[str, ...] = field(default=(), metadata=key(
        "The program, and its arguments, that is called with `set NAME VALUE` and `remove NAME VALUE`, for TXT records "
        "that wildcards are proven by. No shell is in between.", "command"))
    timeout_ms: int = field(default=120_000, metadata=key(
        "How long a call may take; then it is killed with its children.", low=1_000, high=3_600_000))
    wait_ms: int = field(default=30_000, metadata=key(
        "How long after `set` the authority is asked to look: servers of names need their time.", low=0,
        high=3_600_000))


@dataclass(frozen=True, kw_only=True, slots=True)
class AcmeSettings:
    """The authority that certificates of ``tls: acme`` come from. ``ca``: a file with whom to trust when asking it."""

    directory: str = field(default=LETS_ENCRYPT, metadata=key(
        "The ACME directory of the authority that certificates come from.", "address of a directory"))
    contact: str | None = field(default=None, metadata=key(
        "A mail address that the authority is told.", "mail address", default_about="none"))
    ca: str | None = field(default=None, metadata=key(
        "A file in PEM with the certificates to trust when asking the directory.", "file of the machine",
        default_about="those of public authorities"))
    profile: str | None = field(default=None, metadata=key(
        "The authority's profile of certificates, such as `shortlived`.", "word", default_about="its own choice"))
    check: bool = field(default=True, metadata=key(
        "Whether a name is asked, before an order, if it leads to this machine's edge. Where the machine cannot reach "
        "itself by its names (a router that does not turn packets back), say false."))
    dns: DnsSettings = field(default=DnsSettings(), metadata=key(
        "How wildcards (`*.shop.example`) are proven: by a command that writes to the DNS."))


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeSettings:
    """Where the machine's edge listens; () for every address of the machine. ``accept_proxy``: networks."""

    http: tuple[str, ...] = field(default=(), metadata=key(
        "Where names of `http` are reached, and those of `https` are sent on.", "address", or_one=True,
        default_about="port 80 of every address"))
    https: tuple[str, ...] = field(default=(), metadata=key(
        "Where names of `https` are reached.", "address", or_one=True, default_about="port 443 of every address"))
    accept_proxy: tuple[str, ...] = field(default=(), metadata=key(
        "Servers in front, by address or network: their connections begin with the PROXY protocol's header (version 1 "
        "or 2), which says who asks. Nobody else's do.", "network", or_one=True,
        expected="an address such as '10.0.0.7', or a list of them", default_about="none"))

    @property
    def http_addresses(self) -> tuple[str, ...]:
        return self.http or _everywhere(80)

    @property
    def https_addresses(self) -> tuple[str, ...]:
        return self.https or _everywhere(443)


def _everywhere(port: int) -> tuple[str, ...]:
    """Return every address of this machine, of IPv6 too where it has that."""
    has_version_6 = Path("/proc/net/if_inet6").exists()
    return (f"0.0.0.0:{port}", *([f"[::]:{port}"] if has_version_6 else []))


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySettings:
    """How one registry is reached. ``http`` None: only where it is on a loopback address, and has no ``ca``."""

    ca: str | None = field(default=None, metadata=key(
        "A file in PEM with the certificates to trust when asking this registry, and no others.",
        "file of the machine", default_about="those that this machine trusts"))
    http: bool | None = field(default=None, metadata=key(
        "Whether it is asked without TLS. What it is asked for is checked by its digest all the same, but everybody on "
        "the way reads the passwords.", default_about="only on an address of this machine's loopback"))
    tokens: str | None = field(default=None, metadata=key(
        "Another host that this registry has its tokens made by. Passwords for the registry are sent there too.",
        "registry", default_about="passwords are sent to the registry alone"))
    mirrors: tuple[str, ...] = field(default=(), metadata=key(
        "Where images of this registry are looked for first, in this order, each by its own settings and passwords.",
        "mirror", expected="a list of registries, such as [mirror.example.org]", unique=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSettings:
    """Where an index is that definitions name, and whom it lets in. ``password``: the file that it stands in."""

    url: str = field(metadata=key(
        "Where it is; of Python's, the address that `pip --index-url` takes. Plain `http` only on this machine's "
        "loopback, or where there is no password.", "address of an index"))
    user: str | None = field(default=None, metadata=key(
        "Who asks it.", "user of an index", default_about="`__token__`, where there is a password"))
    password: str | None = field(default=None, metadata=key(
        "A file with the password, or the token, in its one line. Others than its owner and group may not read it.",
        "file of the machine", default_about="it is asked without one"))
    ca: str | None = field(default=None, metadata=key(
        "A file in PEM with certificates to trust when asking it, besides those that this machine trusts.",
        "file of the machine", default_about="those that this machine trusts"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSettings:
    """Where a secret comes from that definitions take by name. ``environments``: SERVICE/ENVIRONMENT of those that may
    take it, () for all that are deployed from this machine."""

    file: str | None = field(default=None, metadata=key(
        "A file that holds it. Others than its owner and group may not read it.", "file of the machine",
        default_about="none"))
    command: tuple[str, ...] = field(default=(), metadata=key(
        "The program, and its arguments, that prints it. No shell is in between.", "command"))
    variable: str | None = field(default=None, metadata=key(
        "The variable that holds it in the environment of whoever deploys.", "variable", default_about="none"))
    timeout_ms: int = field(default=30_000, metadata=key(
        "How long `command` may take; then it is killed with its children.", low=1_000, high=600_000))
    environments: tuple[str, ...] = field(default=(), metadata=key(
        "Which environments may take it, as SERVICE/ENVIRONMENT.", "environment of a service", or_one=True,
        expected="SERVICE/ENVIRONMENT, or a list of them", default_about="all that are deployed from this machine"))


@dataclass(frozen=True, kw_only=True, slots=True)
class AgeSettings:
    """By whose keys secrets are read that age has encrypted."""

    identities: str | None = field(default=None, metadata=key(
        "A file of age identities (secret keys), one a line. Others than its owner and group may not read it.",
        "file of the machine", default_about="only those of who calls, in ~/.config/instar/age-identities"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderSettings:
    """Who may look at what runs without being root. ``group``: None for nobody."""

    group: str | None = field(default=None, metadata=key(
        "The group whose members may ask the agent what runs, happened and was printed, without sudo. Whoever is in it "
        "reads what services print, and what their configuration holds that is no secret.", "group of users",
        default_about="nobody but root"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShipSettings:
    """Where the agent ships logs: one of these, or (none) nowhere. ``what``: whose."""

    command: tuple[str, ...] = field(default=(), metadata=key(
        "The program, and its arguments, that gets each batch as lines of JSON on its standard input, and ends with 0 "
        "when it has them. No shell is in between.", "command"))
    file: str | None = field(default=None, metadata=key(
        "A file that they are appended to, which may be moved away at any time.", "file of the machine",
        default_about="none"))
    socket: str | None = field(default=None, metadata=key(
        "Where they are written to, as lines of JSON: `unix:/PATH` or `tcp:HOST:PORT`.", "socket",
        default_about="none"))
    journald: bool = field(default=False, metadata=key("Whether they go to this machine's journal."))
    what: Literal["all", "instances", "access"] = field(default="all", metadata=key(
        "What instances print, the requests of access logs, or both."))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSettings:
    """What becomes of logs besides their files."""

    ship: ShipSettings = field(default=ShipSettings(), metadata=key(
        "Where the agent ships them, each line at least once: to a command, a file, a socket or journald."))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterHere:
    """What this machine has of a cluster's own."""

    audit_log: str | None = field(default=None, metadata=key(
        "The API server's audit log: `drift` finds there who looked into a pod. Only what is new is read.",
        "file of the machine", default_about="none is read"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSettings:
    """``ledger``: the address of the database that this machine shares with others, None where it has its own file."""

    ledger: str | None = field(default=None, metadata=key(
        "The database that holds the ledger where several machines or people share it; INSTAR_LEDGER wins.", "database",
        default_about="a file of this machine"))
    agent: AgentSettings = field(default=AgentSettings(), metadata=key(
        "What `instar agent` does unless its options say otherwise."))
    edge: EdgeSettings = field(default=EdgeSettings(), metadata=key(
        "Where the machine is reached by name."))
    notices: NoticeSettings = field(default=NoticeSettings(), metadata=key(
        "Where the agent's notices go unless its options say otherwise."))
    acme: AcmeSettings = field(default=AcmeSettings(), metadata=key(
        "Where certificates of https names come from."))
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict, metadata=key(
        "How registries of images are reached, by their hosts. One that is not named is asked by TLS.",
        names="registry", expected="a section with one section for each registry, such as 'registry.example.org'"))
    indexes: Mapping[str, IndexSettings] = field(default_factory=dict, metadata=key(
        "Indexes of packages that definitions refer to by these names: where they are, and with which password.",
        names="name", expected="a section with one section for each index, such as 'internal: {url: …}'"))
    secrets: Mapping[str, SecretSettings] = field(default_factory=dict, metadata=key(
        "Sources of secrets that definitions refer to by these names: a file, a command or a variable each.",
        names="name", expected="a section with one section for each source, such as 'vault: {command: […]}'"))
    age: AgeSettings = field(default=AgeSettings(), metadata=key(
        "By whose keys secrets are read that stand encrypted beside a definition."))
    readers: ReaderSettings = field(default=ReaderSettings(), metadata=key(
        "Who may look without being root."))
    logs: LogSettings = field(default=LogSettings(), metadata=key(
        "What becomes of logs besides their files."))
    kubernetes: ClusterHere = field(default=ClusterHere(), metadata=key(
        "What of a Kubernetes cluster is on this machine."))
