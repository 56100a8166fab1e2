"""``defaults``, what an environment says itself, and files of its configuration, laid over one another before reading.

The layers are nodes that know where they stand, so what is wrong with a value is told where that was written. From the
lowest up: the service or role, ``defaults``, the environment; in each of the latter a ``config_file`` below its own
``config``. Sections are merged key by key, everything else is replaced, and ``null`` takes away what is below.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from instar.definition.env_file import Entry
from instar.definition.problems import Mark, Problems, listed
from instar.definition.source import Listing, Node, Scalar, describe
from instar.definition.source import Mapping as MapNode
from instar.model.overrides import Overrides

if TYPE_CHECKING:
    from instar.definition.section import Section

OVERRIDABLE: Final = tuple(one.name.removesuffix("_bytes") for one in fields(Overrides))
_KINDS_OF_HEALTH: Final = frozenset({"path", "tcp", "command"})
_NOWHERE: Final = (0, 0)
MOST_COPIED: Final = 200_000  # values that are below environments, once for each of them
_OWN: Final = {
    "listen": "where each is reached is its own: 'environments.NAME.listen'",
    "promote_from": "it is one environment's own: 'environments.NAME.promote_from'",
}

ReadFile = Callable[[Scalar, Problems], Mapping[str, Entry]]


class FromFile(Scalar):
    """A value out of a file that the definition names: ``mark`` is where it does, ``file`` and ``line`` where the value
    stands."""

    __slots__ = ("file", "line")

    def __init__(self, named: Scalar, file: str, entry: Entry) -> None:
        super().__init__(named.value_mark, entry.value, plain=False)
        self.file = file
        self.line = entry.line


class Settled(MapNode):
    """An environment with what is below it. ``service`` and ``roles`` say how instances run here, None: as the
    definition says. ``layered`` has the places of all that is said in environments and ``defaults``."""

    __slots__ = ("layered", "roles", "service")

    def __init__(self, mark: Mark, layered: Container[Mark]) -> None:
        super().__init__(mark)
        self.layered = layered
        self.service: Node | None = None
        self.roles: Node | None = None


class Layers:
    """The layers of one definition. ``files`` are those that it takes configuration from."""

    def __init__(self, root: MapNode, read_file: ReadFile, problems: Problems) -> None:
        self._root = root
        self._read_file = read_file
        self._problems = problems
        self._marks: dict[Mark, str] = {}  # of what stands in a layer → its path
        self.files: dict[str, Mapping[str, Entry]] = {}
        self._known: Container[str] = ()  # keys of an environment, without those of providers
        self._provided: dict[str, Node] = {}  # sections of providers in ``defaults``
        self._unused: dict[str, Node] = {}  # those of them that no environment has used
        self._sizes: dict[int, int] = {}
        self._copied = 0

    def settled(self, section: Section) -> MapNode:
        """Return the definition with each environment as it holds, and without ``defaults``."""
        defaults, environments = self._root.entries.get("defaults"), self._root.entries.get("environments")
        if defaults is not None and not isinstance(defaults, MapNode):
            expected = section.keys["defaults"].shape.expected
            self._problems.add(defaults.mark, f"defaults: expected {expected}, found {describe(defaults)}")
        if isinstance(defaults, MapNode):
            self._mark("defaults", defaults)
            self._check_defaults(defaults, environments)
            defaults = _without(defaults, *_OWN)
            self._known = section.keys["defaults"].shape.keys  # type: ignore[attr-defined]  # it is a section
            self._provided = self._of_providers(defaults)
            self._unused = dict(self._provided)
        found = MapNode(self._root.value_mark)
        found.entries = {name: node for name, node in self._root.entries.items() if name != "defaults"}
        if isinstance(environments, MapNode):
            below = defaults if isinstance(defaults, MapNode) else MapNode((1, 1))
            each = found.entries["environments"] = MapNode(environments.value_mark)
            each.key_mark = environments.key_mark
            each.entries = {name: self._environment(name, below, one) for name, one in environments.entries.items()}
            for name, unused in self._unused.items() if environments.entries else ():
                message = f"defaults.{name}: no environment here has 'provider: {name}'; remove it"
                self._problems.add(unused.mark, message)
        return found

    def with_path(self, mark: Mark, message: str) -> str:
        """Return what is wrong at ``mark`` with the path that stands there in the file."""
        layer = self._marks.get(mark)
        if layer is None:
            return message
        message = re.sub(r"^environments\.[^.:]+(?=[.:])", lambda _: layer, message)
        return re.sub(r"^(?:service\.|(?=roles\.))", lambda _: f"{layer}.", message)

    def layer_of(self, mark: Mark) -> str | None:
        """Return "defaults" or "environments.NAME" for what stands in one of them."""
        return self._marks.get(mark)

    def _mark(self, path: str, node: Node) -> None:
        for one in _below(node):
            self._marks.update(dict.fromkeys((one.value_mark, *([one.key_mark] if one.key_mark else ())), path))

    def _check_defaults(self, defaults: MapNode, environments: Node | None) -> None:
        if not isinstance(environments, MapNode) or not environments.entries:
            self._problems.add(defaults.mark, "defaults: there are no 'environments' that they could be of; remove it")
        for key, advice in _OWN.items():
            if key in defaults.entries:
                self._problems.add(defaults.entries[key].mark, f"defaults: there is no '{key}' here; {advice}")

    def _environment(self, name: str, defaults: MapNode, own: Node) -> Node:
        own = _opened(own)
        if not isinstance(own, MapNode):
            return own
        self._mark(f"environments.{name}", own)
        if not self._affordable(defaults, own):
            return _without(own, *OVERRIDABLE, "config_file")
        node = Settled(own.value_mark, self._marks)
        node.key_mark = own.key_mark
        layers = [self._with_file(defaults, own), self._with_file(own)]
        node.entries = functools.reduce(merged, [_mapping(_about_environment(one)) for one in layers]).entries
        self._keep_provider(node, own, self._provided)
        self._override(node, [_about_running(one) for one in layers], name)
        return node

    def _with_file(self, layer: MapNode, above: MapNode | None = None) -> MapNode:
        """Return a layer with what its ``config_file`` says below its ``config``, unless ``above`` takes it away."""
        named = layer.entries.get("config_file")
        unwanted = above is not None and is_nothing(above.entries.get("config_file"))
        if not isinstance(named, Scalar) or is_nothing(named) or unwanted:
            return layer
        if named.text not in self.files:
            self.files[named.text] = self._read_file(named, self._problems)
        from_file = MapNode(named.value_mark)
        from_file.entries = {name: FromFile(named, named.text, entry) for name, entry in self.files[named.text].items()}
        config = layer.entries.get("config")
        if config is not None and not isinstance(config, MapNode):
            return layer
        laid = from_file if config is None else merged(from_file, config)
        with_file = MapNode(layer.value_mark)
        with_file.entries = {**layer.entries, "config": laid}
        return with_file

    def _of_providers(self, defaults: MapNode) -> dict[str, Node]:
        """Return the sections of providers in ``defaults``."""
        unknown = {name: node for name, node in defaults.entries.items() if name not in self._known}
        if not unknown:
            return {}
        from instar.entry_points import provider_names

        return {name: node for name, node in unknown.items() if name in provider_names()}

    def _keep_provider(self, node: MapNode, own: MapNode, of_providers: Iterable[str]) -> None:
        """Leave out the sections of ``defaults`` that are about other providers than this environment's."""
        chosen = node.entries.get("provider")
        used = chosen.text if isinstance(chosen, Scalar) else "local"
        self._unused.pop(used, None)
        for name in of_providers:
            if name != used and name not in own.entries:
                node.entries.pop(name, None)

    def _affordable(self, defaults: MapNode, own: MapNode) -> bool:
        """Tell whether what is laid over one another is of a size that people write; say so once where it isn't."""
        runs = any(_about_running(one).entries for one in (defaults, own))
        parts = [
            defaults,
            *(self._root.entries[key] for key in ("service", "roles") if key in self._root.entries and runs),
        ]
        named = [getattr(one.entries.get("config_file"), "text", "") for one in (defaults, own)]
        before = self._copied
        self._copied += sum(map(self._size, parts)) + sum(len(self.files.get(one, ())) for one in named)
        if self._copied > MOST_COPIED >= before:
            advice = "say it in fewer environments, or less in 'defaults', 'service' and files of configuration"
            self._problems.add(own.mark, f"environments: too much is laid below too many of them; {advice}")
        return self._copied <= MOST_COPIED

    def _size(self, node: Node) -> int:
        if id(node) not in self._sizes:
            self._sizes[id(node)] = sum(1 for _ in _below(node))
        return self._sizes[id(node)]

    def _override(self, node: Settled, layers: list[MapNode], name: str) -> None:
        """Lay what ``layers`` say of how instances run over what the definition does."""
        service, roles = self._root.entries.get("service"), self._root.entries.get("roles")
        plain = [_without(one, "roles") for one in layers]
        if isinstance(roles, MapNode) and service is None:
            self._refuse_without_role(plain, next(iter(roles.entries), "web"), name)
            said = [_known(one.entries["roles"], roles) for one in layers if "roles" in one.entries]
            path = f"environments.{name}.roles"
            each = [{role: self._with_command(of, f"{path}.{role}") for role, of in one.items()} for one in said]
            node.roles = functools.reduce(merged, map(_mapping, each), roles) if any(each) else None
        elif isinstance(service, MapNode) and any(one.entries for one in plain):
            plain = [self._with_command(one, f"environments.{name}") for one in plain]
            node.service = functools.reduce(merged, plain, service)

    def _refuse_without_role(self, layers: list[MapNode], role: str, name: str) -> None:
        for key, said in [item for layer in layers for item in layer.entries.items()]:
            mark = said.key_mark or said.mark
            advice = f"say of which, such as 'roles: {{{role}: {{{key}: …}}}}'"
            self._problems.add(
                mark, self.with_path(mark, f"environments.{name}.{key}: there are several roles; {advice}")
            )

    def _with_command(self, layer: MapNode, path: str) -> MapNode:
        """Return a layer of a service that takes no command away, which is refused."""
        said = layer.entries.get("command")
        if said is None or not is_nothing(said):
            return layer
        advice = "it can be another one, but not taken away"
        self._problems.add(said.mark, self.with_path(said.mark, f"{path}.command: found nothing; {advice}"))
        return _without(layer, "command")


def _laid(below: Node, above: Node, key: str) -> Node:
    if isinstance(above, MapNode) and isinstance(below, MapNode):
        return merged(below, above, key)
    return above


def merged(below: MapNode, above: MapNode, key: str = "") -> MapNode:
    """Return ``above`` laid over ``below``: sections key by key, all else replaced, what is ``null`` taken away."""
    placed = above if above.value_mark != _NOWHERE else below
    both = MapNode(placed.value_mark)
    both.key_mark = placed.key_mark
    both.entries = dict(below.entries)
    if key == "health" and _KINDS_OF_HEALTH & above.entries.keys():  # one way of asking stands for the others
        for name in (_KINDS_OF_HEALTH | {"host"}) - above.entries.keys():
            if name != "host" or "path" not in above.entries:
                both.entries.pop(name, None)
    for name, node in above.entries.items():
        if is_nothing(node) and name in both.entries:
            del both.entries[name]
        else:
            whole = name not in both.entries or key == "secrets"  # a secret is one value, of whatever is said of it
            both.entries[name] = node if whole else _laid(both.entries[name], node, name)
    return both


def is_nothing(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.kind == "nothing"


def _opened(node: Node) -> Node:
    """Return an environment of which nothing is said as one with nothing in it."""
    if not is_nothing(node):
        return node
    empty = MapNode(node.key_mark or node.mark)
    empty.key_mark = node.key_mark
    return empty


def _mapping(entries: Mapping[str, Node]) -> MapNode:
    """Return a section that stands nowhere by itself."""
    found = MapNode(_NOWHERE)
    found.entries = dict(entries)
    return found


def _about_environment(layer: MapNode) -> dict[str, Node]:
    """Return what is not about how instances run; each role that is spoken of, if only to say whether it is there."""
    found = {name: node for name, node in layer.entries.items() if name not in OVERRIDABLE}
    roles = found.get("roles")
    if isinstance(roles, MapNode):
        found["roles"] = kept = MapNode(roles.value_mark)
        kept.key_mark = roles.key_mark
        kept.entries = {
            name: _without(one, *OVERRIDABLE) if isinstance(one, MapNode) else one
            for name, one in roles.entries.items()
        }
    return found


def _about_running(layer: MapNode) -> MapNode:
    """Return what is about how instances run: of the service, and under ``roles`` of each role."""
    found = _mapping({name: node for name, node in layer.entries.items() if name in OVERRIDABLE})
    roles = layer.entries.get("roles")
    if isinstance(roles, MapNode):
        each = {name: _only(one, OVERRIDABLE) for name, one in roles.entries.items() if isinstance(one, MapNode)}
        said = {name: one for name, one in each.items() if one.entries}
        if said:
            found.entries["roles"] = _mapping(said)
    return found


def _without(layer: MapNode, *names: str) -> MapNode:
    return _only(layer, [name for name in layer.entries if name not in names])


def _only(layer: MapNode, names: tuple[str, ...] | list[str]) -> MapNode:
    found = MapNode(layer.value_mark)
    found.key_mark = layer.key_mark
    found.entries = {name: node for name, node in layer.entries.items() if name in names}
    return found


def _known(said: Node, roles: MapNode) -> dict[str, MapNode]:
    """Return what is said of roles that there are."""
    each = said.entries if isinstance(said, MapNode) else {}
    return {
        name: one
        for name, one in each.items()
        if isinstance(roles.entries.get(name), MapNode) and isinstance(one, MapNode)
    }


def _below(node: Node) -> Iterator[Node]:
    yield node
    inner = node.entries.values() if isinstance(node, MapNode) else node.items if isinstance(node, Listing) else ()
    for one in inner:
        yield from _below(one)


def not_overridable(what: str) -> str:
    """Return what is told of a key that is the same in all environments."""
    return f"{what}; of how instances run, an environment can override {listed(OVERRIDABLE, 'and')}"
