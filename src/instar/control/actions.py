"""What the loop can be told to do. Each is one decision, written to the ledger before it is acted on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Write ``count`` new instances of a release into the ledger."""

    release: int
    count: int
    replacing: bool = False  # outside a rollout, for copies that died


@dataclass(frozen=True, slots=True)
class Create:
    """Make planned instances; begin them too when ``start``."""

    instances: tuple[str, ...]
    start: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Begin created instances."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenRouter:
    """Have the router run with the plan that serves ``release``."""

    release: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Make healthy instances known to the router, without traffic."""

    release: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """Make ``release`` the active one; traffic goes to ``instances`` (none: the service has no port)."""

    release: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Give the traffic to ``instances`` of the active release (put the router right, or close it: none)."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """End requests of draining instances whose time is over, by taking them from the router."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retire:
    """Take instances from the router, destroy them, and take them out of the ledger."""

    instances: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The rollout ended well."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The rollout can't end well. ``instances`` are the ones whose last words are worth a look."""

    reason: str
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseRouter:
    """Nothing has traffic any more: stop the environment's router."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before the world changes: look again in ``seconds``."""

    seconds: float


Action = Plan | Create | Start | OpenRouter | Attach | Shift | Route | Cut | Retire | Finish | Fail | CloseRouter | Wait
