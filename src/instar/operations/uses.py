"""Which other environments an environment finds by name: what can be used, and what became of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from instar.definition.problems import nearest
from instar.errors import InstarError, LedgerDamaged, Refused
from instar.model.configuration import Configuration
from instar.model.environment import Environment, Settings
from instar.model.release import EnvironmentId, EnvironmentState, Release
from instar.model.roles import FIRST_DOOR
from instar.model.status import UseStatus
from instar.model.uses import Used, circle_text
from instar.operations.workspace import Workspace
from instar.providers.package import address_inside_of

_NEAR: Final = 0.8  # of two environments much is alike that says nothing


def uses_of(workspace: Workspace, service: str, environment: Environment) -> tuple[Used, ...]:
    """Return what ``environment`` of ``service`` uses, each with the port that it has now. Raises Refused for what is
    not there, or cannot be reached from there."""
    own = EnvironmentId(service=service, name=environment.name)
    if environment.uses and not workspace.provider_package(environment.provider).traits.finds_names:
        raise Refused(
            f"cannot find other environments by name from '{own}': provider '{environment.provider}' does not do that",
            hint="say their addresses in 'config', and take 'uses' away",
        )
    found, refused = list[Used](), list[Refused]()
    for word in sorted(environment.uses):
        try:
            found.append(_used(workspace, environment, word))
        except Refused as error:
            refused.append(error)
    if refused:
        told = "; it uses ".join(error.message for error in refused)
        raise Refused(f"cannot deploy '{own}': it uses {told}", hint=_advice_for_all(refused))
    return tuple(found)


def _advice_for_all(refused: Sequence[Refused]) -> str:
    """Return what to do about each, once where it is the same."""
    whose = dict[str, list[str]]()
    for error in refused:
        whose.setdefault(str(error.hint), []).append(error.message.partition(",")[0])
    if len(whose) == 1:
        return next(iter(whose))
    return "; ".join(f"{' and '.join(words)}: {hint}" for hint, words in whose.items())


def _used(workspace: Workspace, environment: Environment, word: str) -> Used:
    """Raises Refused, whose message says of ``word`` alone what is wrong with it."""
    where, _, role = word.partition(":")
    service, _, name = where.partition("/")
    state = workspace.ledger.find_environment(EnvironmentId(service=service, name=name))
    trouble = _trouble(workspace, state, environment.provider)
    if trouble is not None:
        advice = _advice(workspace, where, state, environment)
        raise Refused(f"'{word}', {trouble}", hint=advice)
    assert state is not None and state.active is not None
    release = workspace.ledger.get_release(state.id, state.active)
    if role:
        trouble, advice = _trouble_of_role(workspace, environment.provider, state, release, role)
        if trouble is not None:
            raise Refused(f"'{word}', {trouble}", hint=advice)
    port = release.services[role].port if role else release.service.port
    if port is None:
        raise Refused(
            f"'{word}', whose service has no port",
            hint="give it one ('service.port'), or take it out of 'uses'",
        )
    package = workspace.provider_package(environment.provider)
    at = address_inside_of(package, Settings.of(environment), state.id, state.settings, role or None)
    return Used(environment=where, port=port, at=at, role=role or None)


def require_found(workspace: Workspace, own: EnvironmentId, uses: Sequence[Used]) -> Iterator[str]:
    """Yield of what it could not be asked. Raises Refused for what nobody finds by name yet, where an engine has names
    of its own: an Instar before may have deployed it, which made none for it."""
    for one in (each for each in uses if each.at is not None):
        state = workspace.ledger.get_environment(EnvironmentId(service=one.service, name=one.name))
        try:
            unfound = workspace.provider(state.settings.provider).observe(state.id, ()).traffic.unfound
        except InstarError as error:  # of another's namespace nothing may be read
            yield f"whether anybody answers at {one.host}, which it uses, cannot be told: {error.message}"
            continue
        if (one.role or FIRST_DOOR) in unfound:
            raise Refused(
                f"cannot deploy '{own}': it uses '{one.word}', which nobody finds at {one.host} yet: "
                f"{unfound[one.role or FIRST_DOOR]}",
                hint=f"deploy that first, from its own definition: instar deploy {one.name}; or take it out of 'uses'",
            )


def _trouble(workspace: Workspace, state: EnvironmentState | None, provider: str) -> str | None:
    """Return why an environment cannot be used from where ``provider`` runs instances; None where it can."""
    if state is None:
        return "which is not there"
    if state.destroying:
        return "which is being destroyed"
    if state.active is None:
        return "of which no release runs yet"
    if state.settings.provider != provider:
        return f"which provider '{state.settings.provider}' runs, and this is of '{provider}'"
    here = workspace.machine_of(provider)
    if here is not None and state.machine not in (None, here):
        return f"which is on the machine {state.machine}"
    return None


def _trouble_of_role(
    workspace: Workspace, provider: str, state: EnvironmentState, release: Release, role: str
) -> tuple[str | None, str]:
    """Return why instances do not find a role of ``state`` by name, None where they do; and what to do."""
    services, named = release.services, release.configuration.role is not None
    others = [one for one, service in services.items() if named and one != release.role and service.port is not None]
    if not workspace.provider_package(provider).traits.finds_roles:
        told = f"and provider '{provider}' finds the first role by name alone"
        return told, f"say the role's address in 'config', and take '{state.id}:{role}' out of 'uses'"
    if named and role == release.role:
        return "which is its first role", f"write '{state.id}': the first one is found by the service's name"
    if not named or role not in services:
        found = " and ".join(f"'{state.id}:{one}'" for one in others) or f"'{state.id}' alone"
        return f"and release {release.number}, which is active there, has no such role", f"there is {found}"
    if services[role].port is None:
        return "a role without a port", f"give it one ('roles.{role}.port'), or take it out of 'uses'"
    if role not in state.settings.doors:
        return "a role to which no door leads there", f"deploy a definition of it with 'listen' for '{role}'"
    return None, ""


def _advice(workspace: Workspace, word: str, state: EnvironmentState | None, environment: Environment) -> str:
    if state is None or state.destroying or state.active is None:
        name, known = word.partition("/")[2], workspace.ledger.readable_environments(None)[0]
        usable = [str(one.id) for one in known if one.active is not None]
        near = _near(word, usable) if state is None else None
        ask = f"did you mean '{near}'? else " if near else ""
        return f"{ask}deploy that first, from its own definition: instar deploy {name}; or take it out of 'uses'"
    return f"say its address in 'config', and open it by environments.{environment.name}.network.allow"


def _near(word: str, usable: Sequence[str]) -> str | None:
    """Return which environment was probably meant: also the only one whose name goes on (prod: production)."""
    longer = [one for one in usable if one.startswith(word)]
    return longer[0] if len(longer) == 1 else nearest(word, usable, cutoff=_NEAR)


def circle(workspace: Workspace, environment: EnvironmentId, uses: Sequence[Used]) -> tuple[str, ...]:
    """Return the way from ``environment`` over what it uses back to itself, both ends included; nothing where there is
    none."""
    ways: list[tuple[str, ...]] = [(str(environment), one.environment) for one in uses]
    seen = set[str]()
    while ways:
        way = ways.pop(0)
        if way[-1] == str(environment):
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [(*way, one.environment) for one in _active_uses(workspace, way[-1])]
    return ()


def circle_warnings(workspace: Workspace, environment: EnvironmentId, uses: Sequence[Used]) -> Iterator[str]:
    """Yield what a circle means, where there is one."""
    way = circle(workspace, environment, uses)
    if way:
        yield circle_text(way)


def host_inside(workspace: Workspace, state: EnvironmentState, role: str | None = None) -> str:
    """Return by which name instances of the same provider find an environment, or another ``role`` than its first."""
    package, at = workspace.provider_package(state.settings.provider), None
    with contextlib.suppress(Refused):  # behind a gateway by now, and used before
        at = address_inside_of(package, state.settings, state.id, state.settings, role)
    return Used(environment=str(state.id), port=0, at=at, role=role).host


def users_of(workspace: Workspace, environment: EnvironmentId) -> Mapping[str, tuple[str | None, ...]]:
    """Return the environments whose active release uses ``environment``, and which roles of it, None its first."""
    states, _ = workspace.ledger.readable_environments(None)
    each = {
        str(state.id): [one.role for one in _uses_of_active(workspace, state) if one.environment == str(environment)]
        for state in states
    }
    return {user: tuple(roles) for user, roles in each.items() if roles}


def users_texts(workspace: Workspace, state: EnvironmentState) -> Iterator[str]:
    """Yield who uses an environment, and at which names nobody answers there once it is destroyed."""
    for user, roles in users_of(workspace, state.id).items():
        names = " and ".join(host_inside(workspace, state, role) for role in roles)
        yield f"{user} uses it: nobody answers there at {names} until it is deployed again"


def lost_use_warnings(
    workspace: Workspace,
    environment: EnvironmentId,
    settings: Settings,
    configuration: Configuration,
    release: str = "this release",
) -> Iterator[str]:
    """Yield who uses ``environment``, or a role of it, and does not find it by name, or at the port that it knows, with
    these settings and configuration, which are those of ``release``."""
    for state in workspace.ledger.readable_environments(None)[0]:
        for one in _uses_of_active(workspace, state):
            if one.environment == str(environment):
                yield from _lost(workspace, state, one, settings, configuration, release)


def _lost(
    workspace: Workspace,
    user: EnvironmentState,
    used: Used,
    settings: Settings,
    configuration: Configuration,
    release: str,
) -> Iterator[str]:
    services = configuration.services if configuration.role is not None else {}
    service = configuration.service if used.role is None else services.get(used.role)
    what = f"{user.id} uses its role '{used.role}'" if used.role else f"{user.id} uses it"
    if service is None:
        lost, until = f"which {release} has not", "a release with it is active"
    elif service.port is None:
        lost, until = f"which has no port in {release}", "a release with one is active"
    elif used.role is not None and used.role not in settings.doors:
        lost, until = "which has no door then", "one leads to it"
    elif service.port != used.port:
        means = _of_other_port(workspace, user, used)
        yield f"{what} at port {used.port}, which is {service.port} in {release}: {means}"
        return
    else:
        return
    yield f"{what}, {lost}: nobody answers there at {used.host} until {until}"


def _of_other_port(workspace: Workspace, user: EnvironmentState, used: Used) -> str:
    """Say what it means for who uses something that this gets another port."""
    if workspace.provider_package(user.settings.provider).traits.network_of_release:
        return f"it may reach the one before alone, and nobody answers it at {used.host} until it is deployed again"
    return f"both lead there at {used.host}, and it asks at the new one once it is deployed again"


def uses_status(workspace: Workspace, provider: str, configuration: Configuration) -> tuple[UseStatus, ...]:
    """Return what became of what a release uses."""
    return tuple(_status(workspace, provider, one) for one in configuration.uses)


def missing_warnings(workspace: Workspace, provider: str, configuration: Configuration) -> Iterator[str]:
    """Yield what of that which a release uses does not answer."""
    for one in uses_status(workspace, provider, configuration):
        if one.trouble is not None:
            yield f"it uses {one.environment}, {one.trouble}; nobody answers at {one.name}"


def _status(workspace: Workspace, provider: str, used: Used) -> UseStatus:
    try:
        state = workspace.ledger.find_environment(EnvironmentId(service=used.service, name=used.name))
        trouble = _trouble(workspace, state, provider)
        if trouble is None and used.role is not None and state is not None and state.active is not None:
            release = workspace.ledger.get_release(state.id, state.active)
            trouble, _ = _trouble_of_role(workspace, provider, state, release, used.role)
    except LedgerDamaged as error:  # of that one: of who uses it all is known
        trouble = f"of which nobody can tell how it is: {error.message}"
    return UseStatus(environment=used.word, name=f"{used.host}:{used.shown_port}", trouble=trouble)


def _active_uses(workspace: Workspace, word: str) -> tuple[Used, ...]:
    service, _, name = word.partition("/")
    with contextlib.suppress(LedgerDamaged):
        state = workspace.ledger.find_environment(EnvironmentId(service=service, name=name))
        return () if state is None else _uses_of_active(workspace, state)
    return ()


def _uses_of_active(workspace: Workspace, state: EnvironmentState) -> tuple[Used, ...]:
    if state.active is None:
        return ()
    with contextlib.suppress(LedgerDamaged):  # whoever asks works on another environment
        return workspace.ledger.get_release(state.id, state.active).configuration.uses
    return ()
