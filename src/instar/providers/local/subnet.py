"""The state directory's network: chosen once, written down, made again after a reboot."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network

from instar import durable, locks
from instar.errors import HostError
from instar.host.network import network, resolver
from instar.model.codec import parse
from instar.model.release import EnvironmentId
from instar.model.roles import FIRST_DOOR
from instar.providers.local import internal, internal_record
from instar.providers.local.internal_record import InternalAddress
from instar.providers.local.names import Names, is_bridge
from instar.providers.local.tables import Tables

WANTED = "INSTAR_SUBNET"
_PATIENCE_S = 60.0


class Subnet:
    """The network of one state directory. Safe to use from several threads and processes at once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._guard = threading.Lock()
        self._network: IPv4Network | None = None
        self.tables = Tables(names)

    def network(self) -> IPv4Network:
        """Return the network; at the very first call, choose it and write it down. Raises HostError."""
        with self._guard:
            if self._network is None:
                self._network = self._read() or self._choose()
            return self._checked(self._network)

    def find(self) -> IPv4Network | None:
        """Return the network where one was chosen and may be known to this user."""
        with contextlib.suppress(HostError):
            return self._network or self._read()
        return None

    def ensure(self, environment: EnvironmentId) -> IPv4Network:
        """Return the network, with its bridge and tables in place for instances of ``environment``. Raises
        HostError."""
        subnet = self.network()
        self._ensure_bridge(subnet)
        self.tables.ensure(subnet, environment)
        return subnet

    def name(self, environment: EnvironmentId, ports: Iterable[int] = (), door: str = FIRST_DOOR) -> InternalAddress:
        """Return the address by which instances find ``environment``, or by a ``door`` of another role, at
        ``ports`` too, with all in place that leads to its router. Raises HostError, ProviderError."""
        subnet = self.network()
        found = internal.ensure(self._names, environment, subnet, ports, door=door)
        self._ensure_bridge(subnet)
        self.tables.name(subnet, environment)
        return found

    def let_go(self, known: Collection[EnvironmentId]) -> None:
        """Have no addresses any more of environments that are none of ``known``, unless instances know them. Raises
        HostError."""
        internal.let_go(self._names, known, lambda address: network.drop_address(self._names.bridge, address))

    def restore(self) -> bool:
        """Put bridge and tables right for all who are there; return whether anything was amiss. Raises HostError."""
        subnet = self.network()
        amiss = self._ensure_bridge(subnet)
        if any(self.tables.differences()):
            self.tables.restore(subnet)
            amiss = True
        return amiss

    def _ensure_bridge(self, subnet: IPv4Network) -> bool:
        names = self._names
        others = internal_record.addresses_in(names, subnet)
        if network.bridge_is_up(names.bridge, subnet, others):
            return False
        with self._guard, locks.hold(names.machine_lock, "this machine's network", wait_s=_PATIENCE_S):
            self._require_no_other(subnet)
            network.ensure_bridge(names.bridge, subnet, others)
        return True

    def _require_no_other(self, subnet: IPv4Network) -> None:
        """Raise HostError where a bridge of another id has the network: two would keep each other's packets."""
        others = [one for one in network.carriers(subnet) if one != self._names.bridge and is_bridge(one)]
        if others:
            file, carried = self._names.state.id_file, others[0][-6:]
            raise HostError(
                f"cannot make the bridge '{self._names.bridge}': '{others[0]}' has the network {subnet} already",
                hint=f"if what runs here carries {carried}, '{file}' is damaged: write that into it; "
                "else it is another state directory's",
            )

    def remove(self) -> bool:
        """Remove bridge and tables; return whether there was a bridge. Raises HostError."""
        self.tables.remove()
        return network.delete_link(self._names.bridge)

    def _read(self) -> IPv4Network | None:
        path = self._names.network_file
        try:
            found = parse(durable.read(path))["subnet"]
            if not isinstance(found, str):
                raise TypeError("no subnet is in it")
            return IPv4Network(found)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(f"cannot read '{path}': {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"cannot read '{path}': it is damaged ({error})", hint=self._put_back()) from error

    def _put_back(self) -> str:
        as_it_is = f'{{"subnet": "…/…"}} as the bridge has it: ip -4 address show {self._names.bridge}'
        return f"what runs goes on; put the file back from a copy, or write {as_it_is}"

    def _require_none(self) -> None:
        """Raise HostError where a network was chosen before, and only what says which is lost."""
        if self._names.bridge in network.link_names(self._names.bridge):
            text = f"cannot find '{self._names.network_file}': instances have their addresses from the network in it"
            raise HostError(text, hint=self._put_back())

    def _choose(self) -> IPv4Network:
        with locks.hold(self._names.machine_lock, "this machine's network", wait_s=_PATIENCE_S):
            found = self._read()
            if found is None:
                self._require_none()
                wanted = os.environ.get(WANTED) or None
                servers = resolver.of_machine().servers
                found = network.choose(wanted, seed=int(self._names.id, 16), spared=servers)
                self._write(found)
            return found

    def _write(self, subnet: IPv4Network) -> None:
        path = self._names.network_file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(path, (json.dumps({"subnet": str(subnet)}) + "\n").encode(), mode=0o644)

    def _checked(self, subnet: IPv4Network) -> IPv4Network:
        wanted = os.environ.get(WANTED)
        if wanted and wanted != str(subnet):
            raise HostError(
                f"cannot use the subnet '{wanted}': this state directory already uses {subnet}",
                hint=f"unset {WANTED}; or destroy every environment and remove {self._names.network_file}",
            )
        return subnet
