"""What an environment's provider cannot give of its definition, told at the line that asks for it.

It is the same by ``validate``, ``deploy --plan``, what a provider prints of a release, and ``deploy`` and ``promote``,
before anything is baked or made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from instar.definition import Loaded
from instar.definition.address_forms import address
from instar.definition.forms import Misfit
from instar.definition.layers import Settled
from instar.definition.load import Places
from instar.definition.problems import Mark, Problems
from instar.definition.source import Listing, Node, Scalar
from instar.definition.source import Mapping as MapNode
from instar.entry_points import find_provider
from instar.errors import Problem
from instar.model.definition import Service
from instar.model.environment import Environment, Settings
from instar.model.release import EnvironmentId
from instar.operations.workspace import Workspace
from instar.providers.package import ProviderPackage
from instar.providers.unfit import Path, lacking, path_of, unfit_of

_OF_RELEASE: Final = ("service", "roles")  # where it stands how instances run

Services = Mapping[str, Service]
Known = Callable[[], Mapping[EnvironmentId, Settings]]


def require_fit(
    workspace: Workspace, loaded: Loaded, environment: Environment, services: Services | None = None
) -> None:
    """Raise DefinitionError with all that the provider of ``environment`` cannot give. ``services``: how instances run
    there, by role, where a release is promoted."""

    def known() -> Mapping[EnvironmentId, Settings]:
        states, _ = workspace.ledger.readable_environments() if workspace.has_ledger else ((), ())
        return {state.id: state.settings for state in states}

    problems = Problems(loaded.file)
    _add(problems, loaded, environment, services, known)
    if problems:
        raise problems.error()


def problems_of(loaded: Loaded) -> Iterator[Problem]:
    """Yield all that the providers of a definition's environments cannot give, in the order of the lines. No ledger is
    asked."""
    problems = Problems(loaded.file)
    for environment in loaded.definition.environments.values():
        _add(problems, loaded, environment, None, dict)
    yield from problems.error().problems


def _add(problems: Problems, loaded: Loaded, environment: Environment, services: Services | None, known: Known) -> None:
    """Note what does not fit ``environment``."""
    whose = EnvironmentId(service=loaded.definition.name, name=environment.name)
    package: ProviderPackage | None = find_provider(environment.provider)
    if package is None:
        return  # whoever needs it says so
    runs, settings = services or _services(loaded, environment.name), Settings.of(environment)
    first = next(iter(runs))
    wanted = (
        *lacking(package.traits, whose, settings, environment.uses),
        *unfit_of(package, whose, settings.of_role(first), runs, known),
    )
    for one in wanted:
        path, told = one.path, one.told
        if services is not None and path[0] in _OF_RELEASE:
            path, told = path_of(whose), f"of the release that is promoted, {told}"
        mark = mark_of(loaded.places, environment.name, path, one.word)
        message = f"{'.'.join(step for step in path if isinstance(step, str))}: {told}"
        layers = loaded.places.layers
        problems.add(mark, message if layers is None else layers.with_path(mark, message))


def _services(loaded: Loaded, name: str) -> Services:
    """Return how instances run in an environment, by role, the first one first."""
    found, first = loaded.definition.services_in(name), loaded.definition.first_role
    return {first: found[first], **found}


def mark_of(places: Places, environment: str, keys: Path, word: str | None) -> Mark:
    """Return where something stands, or what is nearest around it: as it holds in an environment, which may have it
    from ``defaults``, or say itself how instances run. ``word``: what of it is looked for below ``keys``."""
    node, path = _begin(places, environment, keys)
    for step in path:
        inner = _inner(node, step) or (_below(node, step) if step == path[-1] else None)
        node = inner or node
    said = None if word is None else next(_saying(node, word), None)
    return (said or node).mark


def _begin(places: Places, environment: str, path: Path) -> tuple[Node, Path]:
    own = places.node(*path_of(EnvironmentId(service="", name=environment)))
    if isinstance(own, Settled) and path[0] in _OF_RELEASE:
        below = own.service if path[0] == "service" else own.roles
        if below is not None:
            return below, path[1:]
    root = places.node()
    assert root is not None
    return root, path


def _inner(node: Node, step: str | int) -> Node | None:
    if isinstance(node, MapNode):
        return node.entries.get(str(step))
    if isinstance(node, Listing) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def _below(node: Node, step: str | int) -> Node | None:
    """Return what is called so somewhere below: of a list of sections one may have it, and a door its role before."""
    for inner in _all(node):
        for name, one in inner.entries.items() if isinstance(inner, MapNode) else ():
            if name == step or name.endswith(f".{step}"):
                return one
    return None


def _saying(node: Node, word: str) -> Iterator[Node]:
    """Yield the texts below that say ``word``, which may be an address in its one form."""
    for one in _all(node):
        if isinstance(one, Scalar) and (one.text == word or _as_address(one.text) == word):
            yield one


def _all(node: Node) -> Iterator[Node]:
    yield node
    for one in node.entries.values() if isinstance(node, MapNode) else node.items if isinstance(node, Listing) else ():
        yield from _all(one)


def _as_address(text: str) -> str | None:
    try:
        return address(text)
    except Misfit:
        return None
