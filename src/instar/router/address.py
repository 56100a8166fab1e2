"""Where something listens: an IP address and a port, in one written form ("127.0.0.1:8080", "[::1]:8080")."""

from __future__ import annotations

import ipaddress

from instar.errors import RouterError
from instar.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Built by :func:`parse` or :meth:`of`, so that ``host`` is always an IP address in its shortest form."""

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Address:
        """Raises ValueError unless ``host`` is an IP address without a zone and ``port`` a port."""
        found = ipaddress.ip_address(host)
        if "%" in host or not 0 < port < 65536:
            raise ValueError(f"not an address: {host} port {port}")
        return cls(str(found), port)

    @property
    def version(self) -> int:
        return 6 if ":" in self.host else 4

    @property
    def everywhere(self) -> bool:
        """It stands for every address of this machine."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104  compared, not listened on

    def overlaps(self, other: Address) -> bool:
        """Tell whether a connection could be meant for both ("::" of another program may stand for IPv4 too)."""
        same_host = self.host == other.host or self.everywhere or other.everywhere
        return self.port == other.port and same_host

    def covers(self, other: Address) -> bool:
        """Tell whether this is every address of a family and ``other`` one of them."""
        everywhere = self.everywhere and not other.everywhere
        return everywhere and self.version == other.version and self.port == other.port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.version == 6 else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Read ``HOST:PORT``. Raises RouterError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if (":" in bare) == (bare == host) or not (port.isascii() and port.isdigit()):
            raise ValueError(text)
        return Address.of(bare, int(port))
    except ValueError as error:
        raise RouterError(
            f"cannot listen on {text!r}: not an IP address and a port",
            hint="write it like 127.0.0.1:8080 or [::1]:8080",
        ) from error
