"""What everything of an instance is called and where it is: names only, nothing is touched here.

Whatever is global to the machine carries the state directory's id, and, where it is one instance's, its serial:

    bridge              in‹ID›
    link                iv‹ID›‹SERIAL, hexadecimal›     at most 15 bytes
    network namespace   instar-‹ID›-‹SERIAL›
    cgroup              instar-‹ID›/‹INSTANCE›, instar-‹ID›/‹INSTANCE›/keeper, instar-‹ID›/conmon, instar-‹ID›/logs,
                        instar-‹ID›/routers/‹SERVICE›.‹ENVIRONMENT›, instar-‹ID›/edge
    nftables tables     instar_‹ID›, of the families ip and bridge
    root file system    /run/instar-‹ID›/‹SERIAL›/root  every folder above it lets the instance's own users through
    user namespace      /run/instar-‹ID›/‹SERIAL›/users where no path is odd: runc takes no ',' in one

RUN/instances/‹INSTANCE›/ is made first and removed last; what is in it says what else there may be:

    instance.json       what is intended, and who is making it
    made.json           what the instance is like, to be compared with later
    process.json        the first process: written when everything is made
    config.json, pid, conmon.*, exit/‹INSTANCE›         the bundle, and what conmon leaves
    hosts, resolv.conf, hostname, secrets/              shown inside
"""

from __future__ import annotations

import re
from pathlib import Path

from instar.frozen import dataclass
from instar.host.isolation.conmon import Keeping
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory

ROOTS = Path("/run")
INSTANCE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*-[0-9]+-[0-9]+")
SECRETS = "/run/secrets"  # where an instance has its own
LOG_LIMIT_BYTES = 8 << 20
_CONMON, _LOGS, _ROUTERS, _EDGE = "conmon", "logs", "routers", "edge"
NO_INSTANCES = frozenset({_CONMON, _LOGS, _ROUTERS, _EDGE})  # groups beside those of instances

_LINK, _BRIDGE = "iv", "in"
_MARK = re.compile(r"[0-9a-f]{6}")


def is_bridge(link: str) -> bool:
    """Tell whether a link has the name of a bridge of any state directory."""
    return link.startswith(_BRIDGE) and _MARK.fullmatch(link.removeprefix(_BRIDGE)) is not None


def id_of_link(link: str) -> str | None:
    """Return the id of the state directory whose instance has ``link``."""
    found = link.removeprefix(_LINK)[:6]
    return found if link.startswith(_LINK) and _MARK.fullmatch(found) else None


@dataclass(frozen=True, slots=True)
class Names:
    """What belongs to a state directory as a whole."""

    state: StateDirectory
    id: str

    def __post_init__(self) -> None:
        if not _MARK.fullmatch(self.id):  # a shorter one would be the beginning of another directory's names
            raise ValueError(f"not the mark of a state directory: {self.id!r}")

    @property
    def bridge(self) -> str:
        return f"{_BRIDGE}{self.id}"

    @property
    def link_prefix(self) -> str:
        return f"{_LINK}{self.id}"

    @property
    def network_prefix(self) -> str:
        return f"instar-{self.id}-"

    @property
    def table(self) -> str:
        return f"instar_{self.id}"

    @property
    def group(self) -> str:
        return f"instar-{self.id}"

    @property
    def keepers_group(self) -> str:
        return f"{self.group}/{_CONMON}"

    @property
    def logs_group(self) -> str:
        return f"{self.group}/{_LOGS}"

    @property
    def routers_group(self) -> str:
        return f"{self.group}/{_ROUTERS}"

    @property
    def edge_group(self) -> str:
        return f"{self.group}/{_EDGE}"

    def router_group(self, environment: EnvironmentId) -> str:
        return f"{self.routers_group}/{environment.service}.{environment.name}"

    def environment_of_group(self, child: str) -> EnvironmentId | None:
        """Return whose router the group ``child`` of ``routers_group`` is of."""
        service, _, environment = child.partition(".")
        return EnvironmentId(service=service, name=environment) if service and environment else None

    @property
    def roots(self) -> Path:
        return ROOTS / f"instar-{self.id}"

    @property
    def machine_lock(self) -> Path:
        return self.state.locks / "machine"

    @property
    def network_file(self) -> Path:
        return self.state.network

    @property
    def tables_file(self) -> Path:
        return self.state.run / "network.json"

    @property
    def allocations(self) -> Path:
        return self.state.allocations

    @property
    def internal_addresses(self) -> Path:
        return self.allocations / "internal"

    @property
    def last_address(self) -> Path:
        return self.allocations / "last"

    def instance(self, name: str, serial: int) -> InstanceNames:
        return InstanceNames(self, name, serial)

    def volumes(self, environment: EnvironmentId) -> Path:
        return self.state.volumes / environment.service / environment.name

    def snapshots(self, environment: EnvironmentId, volume: str) -> Path:
        return self.state.snapshots / environment.service / environment.name / volume

    def log(self, instance: str) -> Path:
        return self.state.logs / f"{instance}.log"

    def serial_of_link(self, link: str) -> int | None:
        return _number(link.removeprefix(self.link_prefix), 16)

    def serial_of_network(self, name: str) -> int | None:
        return _number(name.removeprefix(self.network_prefix), 10)


@dataclass(frozen=True, slots=True)
class InstanceNames:
    """What belongs to one instance."""

    of: Names
    name: str
    serial: int

    @property
    def folder(self) -> Path:
        return self.of.state.instances / self.name

    @property
    def allocation(self) -> Path:
        return self.of.allocations / f"{self.name}.json"

    @property
    def intent(self) -> Path:
        return self.folder / "instance.json"

    @property
    def process(self) -> Path:
        return self.folder / "process.json"

    @property
    def made(self) -> Path:
        return self.folder / "made.json"

    @property
    def stopping(self) -> Path:
        return self.folder / "stopping.json"

    @property
    def users(self) -> Path:
        return self.room / "users"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def network(self) -> str:
        return f"{self.of.network_prefix}{self.serial}"

    @property
    def link(self) -> str:
        return f"{self.of.link_prefix}{self.serial:x}"

    @property
    def group(self) -> str:
        return f"{self.of.group}/{self.name}"

    @property
    def room(self) -> Path:
        return self.of.roots / str(self.serial)

    @property
    def root(self) -> Path:
        return self.room / "root"

    @property
    def hostname(self) -> str:
        return self.name[:63].strip("-.")

    @property
    def log(self) -> Path:
        return self.of.log(self.name)

    @property
    def keeping(self) -> Keeping:
        return Keeping(
            name=self.name,
            folder=self.folder,
            runc_root=self.of.state.runc,
            log=self.log,
            log_limit_bytes=LOG_LIMIT_BYTES,
            group=self.of.keepers_group,
            instance_group=self.group,
        )


def _number(text: str, base: int) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None
