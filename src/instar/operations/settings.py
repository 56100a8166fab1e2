"""``instar config``: which values hold in an environment, where they come from, and what runs with others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instar.definition import Loaded
from instar.definition.changes import configuration_changes, settings_changes, text_of
from instar.definition.composed import MapOf
from instar.definition.layers import FromFile, Settled
from instar.definition.schema import DEFINITION
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.source import Listing, Mapping, Node, Scalar
from instar.errors import LedgerError, NotRoot, ProviderMissing, Refused
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Environment, Settings
from instar.model.plan import PlannedChange
from instar.model.release import EnvironmentId, Release
from instar.model.setting import HeldSettings, Layer, Setting
from instar.model.uses import Used
from instar.operations.declared import get_declared, own_settings, with_left_roles
from instar.operations.uses import uses_of
from instar.operations.workspace import Workspace


def held_settings(workspace: Workspace, loaded: Loaded, name: str) -> HeldSettings:
    """Return which values hold in ``name`` by the definition, and which of them what runs there has otherwise.

    Raises UsageError where the definition has no such environment.
    """
    environment = get_declared(loaded, name)
    environment_id = EnvironmentId(service=loaded.definition.name, name=name)
    active, changes, unknown, refused = None, tuple[PlannedChange, ...](), None, None
    try:
        uses, refused = _uses(workspace, loaded, environment)
        active, changes = _running(workspace, loaded, environment, environment_id, uses)
    except (
        LedgerError,
        NotRoot,
        ProviderMissing,
        Refused,
    ) as error:  # the definition's own values can be told all the same
        unknown = error.message
    return HeldSettings(
        environment=environment_id,
        settings=tuple(settings_of(loaded, name)),
        active=active,
        changes=changes,
        unknown=unknown,
        refused=refused,
    )


def _uses(workspace: Workspace, loaded: Loaded, environment: Environment) -> tuple[tuple[Used, ...] | None, str | None]:
    """Return what it would use, None where that is refused, and why."""
    if not environment.uses or (not workspace.has_ledger and not workspace.is_ledger_lost):
        return (), None
    try:
        return uses_of(workspace, loaded.definition.name, environment), None
    except Refused as error:
        return None, f"{error.message}; {error.hint}"


def _running(
    workspace: Workspace,
    loaded: Loaded,
    environment: Environment,
    environment_id: EnvironmentId,
    uses: tuple[Used, ...] | None,
) -> tuple[int | None, tuple[PlannedChange, ...]]:
    """Return the active release, and what runs with other values than the definition's."""
    if not workspace.has_ledger and not workspace.is_ledger_lost:  # none is made by looking
        return None, ()
    state = workspace.ledger.find_environment(environment_id)
    if state is None or state.active is None:
        return None, ()
    release = workspace.ledger.get_release(environment_id, state.active)
    settings = with_left_roles(state, Settings.of(environment))
    released = _running_otherwise(workspace, loaded, environment, release, uses)
    changes = settings_changes(state.settings, settings, loaded.definition.first_role, released=released)
    return state.active, (*released, *changes)


def settings_of(loaded: Loaded, name: str) -> Iterator[Setting]:
    """Yield the values that hold in an environment by the definition alone: how instances run, then its own. What it
    says of a role holds over what the role does."""
    found = dict[str, Setting]()
    for one in _all_settings(loaded, name):
        if one.layer != "usual" or one.name not in found:
            found[one.name] = one
    yield from found.values()


def _all_settings(loaded: Loaded, name: str) -> Iterator[Setting]:
    node, places = loaded.places.node("environments", name), loaded.places
    service = (node.service if isinstance(node, Settled) else None) or places.node("service")
    roles = (node.roles if isinstance(node, Settled) else None) or places.node("roles")
    if service is not None:
        yield from _Walk(loaded, "service").walk(service, DEFINITION.keys["service"].shape, "")
    if roles is not None:
        yield from _Walk(loaded, "role").walk(roles, DEFINITION.keys["roles"].shape, "roles")
    environments = DEFINITION.keys["environments"].shape
    assert isinstance(environments, MapOf)
    if node is not None:
        yield from _Walk(loaded, "environment").walk(node, environments.value, "")


class _Walk:
    """From a section to the values in it, those that nobody said too. ``layer`` is whose they are if none is above."""

    def __init__(self, loaded: Loaded, layer: Layer) -> None:
        self._places = loaded.places
        self._layer: Layer = layer

    def walk(self, node: Node | None, shape: Any, path: str) -> Iterator[Setting]:
        """Yield the values of ``node``, by the names of ``path``."""
        if path.startswith("secrets.") and isinstance(node, Mapping):
            yield self._setting(path, node, is_secret=True)
        elif isinstance(node, Mapping) or (node is None and isinstance(shape, Section)):
            yield from self._inside(node, shape, path)
        elif node is not None:
            yield self._setting(path, node)

    def _inside(self, node: Mapping | None, shape: Any, path: str) -> Iterator[Setting]:
        entries = node.entries if node is not None else {}
        known = shape.all_keys() if isinstance(shape, Section) else {}
        for name, inner in entries.items():
            of = shape.value if isinstance(shape, MapOf) else known[name].shape if name in known else None
            yield from self.walk(inner, of, f"{path}.{name}" if path else name)
        for name, key in shape.keys.items() if isinstance(shape, Section) else ():
            if name not in entries:
                yield from self._usual(key, f"{path}.{name}" if path else name)

    def _usual(self, key: Key, path: str) -> Iterator[Setting]:
        if key.default is REQUIRED or key.default is None:
            return
        if isinstance(key.shape, Section):
            yield from self.walk(None, key.shape, path)
        elif isinstance(key.default, bool | int | str):
            yield Setting(name=path, value=text_of(key.shape.written(key.default)), layer="usual", place=None)

    def _setting(self, path: str, node: Node, *, is_secret: bool = False) -> Setting:
        if isinstance(node, FromFile):
            file = Path(self._places.file).parent / node.file
            return Setting(name=path, value=node.text, layer="file", place=f"{file}:{node.line}")
        line, column = node.value_mark
        place, layers = f"{self._places.file}:{line}:{column}", self._places.layers
        above = None if layers is None else layers.layer_of(node.value_mark)
        layer: Layer = self._layer if above is None else "defaults" if above == "defaults" else "environment"
        return Setting(name=path, value=_as_written(node), layer=layer, place=place, is_secret=is_secret)


def _as_written(node: Node) -> str:
    if isinstance(node, Listing):
        return f"[{', '.join(map(_as_written, node.items))}]"
    if isinstance(node, Mapping):
        return f"{{{', '.join(f'{name}: {_as_written(one)}' for name, one in node.entries.items())}}}"
    return node.text if isinstance(node, Scalar) else ""


def _running_otherwise(
    workspace: Workspace,
    loaded: Loaded,
    environment: Environment,
    release: Release,
    uses: tuple[Used, ...] | None,
) -> tuple[PlannedChange, ...]:
    """Return what a release has otherwise than the definition. Whether a secret is another one is not looked at: who
    asks need not be able to read it; nor what it uses where that is refused."""
    uses = release.configuration.uses if uses is None else uses
    wanted = Configuration.of(
        loaded.definition,
        environment.name,
        config=environment.config,
        secrets=dict.fromkeys(environment.secrets, Digest.of(b"")),
        provider_settings=own_settings(workspace, environment, uses),
        secret_variables=environment.secret_variables,
        uses=uses,
        schedule=environment.schedule,
    )
    return configuration_changes(release.configuration, wanted, environment.provider, values=False)
