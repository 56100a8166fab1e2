"""A part of where an environment's requests come in, as a value: the groups that are exposed there, and their shares.

Two kinds of objects can say so. An HTTPRoute of the environment's own gives each group's Service a weight, behind a
Gateway; without one, a Service selects the pods of a single group. What both have in common is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from instar.frozen import dataclass
from instar.providers.kubernetes.names import REDIRECTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A group that is exposed: the port of its Service, and its weight; 0 takes no new requests. ``asked``: the path at
    which a gateway passes a question of ours on to it, whatever its weight; None: at none."""

    port: int
    weight: int = 0
    asked: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """One object. ``key``: of which door it is a part; ``more``, of the first part: the others that there
    are, by their names, and of which doors they are. ``plan`` is a fingerprint. ``previews``: release → the group that
    requests for that very release go to. ``maintenance``: the Service, by name and port, that all but previews go to
    instead. ``redirect``: the name, and https or None (as they were asked for), that requests are sent on to; it has no
    groups then. ``version``: the object's, when it was read; None: there is none yet. ``answers``: the version that a
    gateway which goes by it names; None: none. ``ports``: which numbers a Service has besides its first, by the names
    of its pods' ports.
    """

    key: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    plan: str | None = None
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/",)
    ports: Mapping[str, int] = field(default_factory=dict)
    request_timeout_ms: int = 0
    backends: Mapping[str, Backend] = field(default_factory=dict)
    previews: Mapping[int, str] = field(default_factory=dict)
    maintenance: tuple[str, int] | None = None
    redirect: tuple[str, str | None] | None = None
    version: str | None = None
    answers: str | None = None

    @property
    def weights(self) -> Mapping[str, int]:
        return {name: one.weight for name, one in self.backends.items() if one.weight}

    @property
    def sites(self) -> frozenset[tuple[str, str]]:
        """Which names and paths it takes requests of."""
        return frozenset((host, path) for host in self.hosts for path in self.paths)

    @property
    def is_wiped(self) -> bool:
        """Tell whether it is to send requests on, and says nowhere to: of no other door can that be seen by itself."""
        return self.key == REDIRECTS and self.redirect is None

    def renewed(self) -> Door:
        """Return it as another version to whoever asks a gateway for it: of no two that are written, the same."""
        said = [repr(sorted(one.items())) for one in (self.backends, self.previews, self.more)]
        rest = (self.version, self.plan, self.hosts, self.paths, self.request_timeout_ms)
        return replace(
            self, answers=hashlib.sha256(repr((*said, rest, self.maintenance, self.redirect)).encode()).hexdigest()[:16]
        )

    def exposing(self, groups: Mapping[str, Backend]) -> Door:
        """Return it with further groups; those that it has stay as they are."""
        return replace(self, backends={**groups, **self.backends})

    def showing(self, ports: Mapping[str, int], *, besides: bool) -> Door:
        """Return it with these ports, or with those of them that are new by name and by number ``besides`` its own."""
        taken = self.ports if besides else {}
        new = {name: one for name, one in ports.items() if name not in taken and one not in taken.values()}
        return replace(self, ports={**taken, **new})

    def routing(self, weights: Mapping[str, int]) -> Door:
        """Return it with these weights, and none for any other group."""
        shares = {name: replace(one, weight=weights.get(name, 0)) for name, one in self.backends.items()}
        return replace(self, backends=shares)

    def without(self, names: Sequence[str]) -> Door:
        kept = {name: one for name, one in self.backends.items() if name not in names}
        previews = {release: name for release, name in self.previews.items() if name not in names}
        return replace(self, backends=kept, previews=previews)

    def at(self, ports: Mapping[str, int]) -> Door:
        """Return it with these groups at these ports, each with the weight that it has, and no others."""
        known = {name: self.backends.get(name, Backend(port=port)) for name, port in ports.items()}
        backends = {name: replace(one, port=ports[name]) for name, one in known.items()}
        previews = {release: name for release, name in self.previews.items() if name in backends}
        return replace(self, backends=backends, previews=previews)

    def previewing(self, targets: Mapping[int, str]) -> Door:
        return replace(self, previews={one: name for one, name in targets.items() if name in self.backends})
