"""Where an environment's requests come in, as a value: the groups that are exposed, and their shares.

Two kinds of objects can say so. An HTTPRoute of the environment's own gives each group's Service a weight, behind a
Gateway; without one, a Service selects the pods of a single group. What both have in common is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.providers.router_plan import RouterPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A group that is exposed: the port of its Service, and its weight; 0 takes no new requests. ``asked``: the path at
    which a gateway passes a question of ours on to it, whatever its weight; None: at none."""

    port: int
    weight: int = 0
    asked: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """``plan`` is a fingerprint. ``previews``: release → the group that requests for that very release go to.
    ``maintenance``: the Service, by name and port, that all but previews go to instead. ``version``: the object's, when
    it was read; None: there is none yet. ``answers``: the version that a gateway which goes by it names; None: none.
    ``ports``: which numbers a Service has besides its first, by the names of its pods' ports.
    """

    plan: str | None = None
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/",)
    ports: Mapping[str, int] = field(default_factory=dict)
    request_timeout_ms: int = 0
    backends: Mapping[str, Backend] = field(default_factory=dict)
    previews: Mapping[int, str] = field(default_factory=dict)
    maintenance: tuple[str, int] | None = None
    version: str | None = None
    answers: str | None = None

    @property
    def weights(self) -> Mapping[str, int]:
        return {name: one.weight for name, one in self.backends.items() if one.weight}

    def planned(self, plan: RouterPlan) -> Door:
        """Return it as ``plan`` has it, with the groups that it has."""
        sites = (*plan.names.http, *plan.names.https)
        paths = dict.fromkeys(f"/{site.partition('/')[2]}" for site in sites)
        return replace(
            self,
            plan=plan.fingerprint,
            hosts=tuple(dict.fromkeys(site.partition("/")[0] for site in sites)),
            paths=tuple(paths) or ("/",),
            request_timeout_ms=plan.request_timeout_ms,
        )

    def renewed(self) -> Door:
        """Return it as another version to whoever asks a gateway for it: of no two that are written, the same."""
        said = [repr(sorted(one.items())) for one in (self.backends, self.previews)]
        rest = (self.version, self.plan, self.hosts, self.paths, self.request_timeout_ms, self.maintenance)
        return replace(self, answers=hashlib.sha256(repr((*said, rest)).encode()).hexdigest()[:16])

    def exposing(self, ports: Mapping[str, int], asked: str | None = None) -> Door:
        """Return it with further groups, by the port of each, that get nothing yet, and are asked at a path."""
        new = {name: Backend(port=port, asked=asked) for name, port in ports.items()}
        return replace(self, backends={**new, **self.backends})

    def routing(self, weights: Mapping[str, int]) -> Door:
        """Return it with these weights, and none for any other group. Raises RouterError for one that is unknown."""
        if unknown := sorted(weights.keys() - self.backends.keys()):
            raise RouterError(f"cannot route to '{unknown[0]}': it is not exposed")
        shares = {name: replace(one, weight=weights.get(name, 0)) for name, one in self.backends.items()}
        return replace(self, backends=shares)

    def without(self, names: Sequence[str]) -> Door:
        kept = {name: one for name, one in self.backends.items() if name not in names}
        previews = {release: name for release, name in self.previews.items() if name not in names}
        return replace(self, backends=kept, previews=previews)

    def at(self, ports: Mapping[str, int]) -> Door:
        """Return it with these groups at these ports, each with the weight that it has."""
        known = {name: Backend(port=port) for name, port in ports.items()}
        return replace(self, backends={**known, **{n: replace(one, port=ports[n]) for n, one in self.backends.items()}})

    def previewing(self, targets: Mapping[int, str]) -> Door:
        return replace(self, previews={one: name for one, name in targets.items() if name in self.backends})
