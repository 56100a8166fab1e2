"""What of a service requests come to besides its first port."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.declaration import key


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """A port besides the first one of a service."""

    port: int = field(metadata=key("Port that is listened on, on 0.0.0.0.", low=1, high=65535))
    protocol: Literal["http", "h2", "tcp"] = field(default="http", metadata=key("How it is spoken to, as `protocol`."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """How requests come to a port besides the first one's."""

    listen: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()  # of the environment's names, those that lead here
    internal: bool = field(default=False, metadata=ADDED)  # of a role that is found by its name alone
