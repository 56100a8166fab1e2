"""What of how instances run may be other in an environment, each key declared with the field that it becomes."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.declaration import key
from instar.model.definition import Health, Limits, Stop, Timeouts, Tmp, Volume

SAID_BELOW: Final = "what the service or role says"

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrides:
    """What of a service or role may be other in an environment. None: it is what the service or role says."""

    command: tuple[str, ...] | None = field(default=None, metadata=key(
        "What instances run here.", "command", default_about=SAID_BELOW))
    health: Health | None = field(default=None, metadata=key(
        "How an instance is known to be well here, key by key; one of `path`, `tcp` and `command` stands for the "
        "others.", default_about=SAID_BELOW))
    timeouts: Timeouts | None = field(default=None, metadata=key(
        "How long the router waits here, key by key.", default_about=SAID_BELOW))
    stop: Stop | None = field(default=None, metadata=key(
        "How an instance ends here, key by key.", default_about=SAID_BELOW))
    limits: Limits | None = field(default=None, metadata=key(
        "What one instance may use here, key by key.", default_about=SAID_BELOW))
    volumes: tuple[Volume, ...] | None = field(default=None, metadata=key(
        "Data that outlives releases, in the place of the whole list.", default_about=SAID_BELOW))
    tmp: Tmp | None = field(default=None, metadata=key(
        "The instance's own /tmp here, key by key.", default_about=SAID_BELOW))
    shm_bytes: int | None = field(default=None, metadata=key(
        "Room in the instance's own /dev/shm here.", default_about=SAID_BELOW))
