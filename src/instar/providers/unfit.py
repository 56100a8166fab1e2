"""What of a definition a provider cannot give: told by the definition alone, before anything is asked or made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from instar.errors import Refused
from instar.frozen import dataclass
from instar.model.environment import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from instar.model.definition import Service
    from instar.model.environment import Settings
    from instar.model.release import EnvironmentId
    from instar.providers.base import Provider
    from instar.providers.package import ProviderPackage
    from instar.providers.traits import Traits

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfit:
    """One thing that is asked for and cannot be. ``path``: by which keys of the definition it stands, from its root;
    of how instances run below ``service``, or ``roles`` and a role. ``word``: what of that it is, where several stand
    there. ``told`` says why, and what works."""

    path: Path
    told: str
    word: str | None = None


def path_of(environment: EnvironmentId) -> Path:
    """Return where an environment stands in its definition."""
    return ("environments", environment.name)


def lacking(
    traits: Traits,
    environment: EnvironmentId,
    settings: Settings,
    uses: Sequence[str] = (),
    facets: Provider | None = None,
) -> Iterator[Unfit]:
    """Yield what is asked for and no provider of these ``traits`` has, nor, where one is open, its ``facets`` do.
    ``uses``: the other environments that are to be found by name, as they are written."""
    own, provider = path_of(environment), f"provider '{settings.provider}'"
    if settings.internal and not traits.finds_names:
        told = f"{provider} does not reach it by its name alone ('internal'); write an address or a name"
        yield Unfit(path=(*own, "listen"), told=told)
    for key, door in sorted(settings.doors.items()):
        if door.internal and not traits.finds_roles:
            told = f"{provider} does not reach a role by its name alone ('{key}: internal'); write an address or a name"
            yield Unfit(path=(*own, "listen", key), told=told)
    scaled = [(*own, "instances")] if settings.scaling is not None else []
    scaled += [
        (*own, "roles", role, "instances") for role, one in sorted(settings.roles.items()) if one.scaling is not None
    ]
    for path in scaled if not traits.scales else ():
        yield Unfit(path=path, told=f"{provider} has no autoscaler ('instances: {{min, max}}'); write one number")
    for position, word in enumerate(uses):
        if not traits.finds_names:
            told = f"{provider} does not find other environments by name; say their addresses in 'config'"
            yield Unfit(path=(*own, "uses", position), told=told)
        elif ":" in word and not traits.finds_roles:
            told = f"{provider} finds the first role of '{word}' by name alone; say the role's address in 'config'"
            yield Unfit(path=(*own, "uses", position), told=told)
    for path, told in _without(facets, settings) if facets is not None else ():
        yield Unfit(path=(*own, *path), told=f"{provider} {told}")


def _without(facets: Provider, settings: Settings) -> Iterator[tuple[Path, str]]:
    """Yield what is asked for and needs a facet, or a trait that stands for it, which this provider has not: where it
    stands in an environment, and why it cannot be."""
    traits = facets.traits
    if settings.rollout.analysis is not None and not (facets.counts or traits.judges):
        yield ("rollout", "analysis"), "counts no requests to judge a canary by ('rollout.analysis'); take that away"
    if settings.preview is not None and not facets.previews:
        yield ("preview",), "does not show a release before it has traffic ('preview'); take that away"
    if settings.names.sites and not (facets.edge or traits.passes_names):
        yield ("listen",), "does not pass requests by name ('listen'); write an address"
    if settings.network != Network() and not (facets.networks or traits.network_of_release):
        yield ("network",), "does not hold what instances may reach ('network'); take that away"


def refuse_lacking(provider: Provider, environment: EnvironmentId, settings: Settings) -> None:
    """Raise Refused where ``settings`` ask for what ``provider`` has not: all of it, where no definition is at hand to
    tell it by."""
    told = [one.told for one in lacking(provider.traits, environment, settings, facets=provider)]
    if told:
        raise Refused(f"cannot run '{environment}' so: {'; '.join(told)}")


def unfit_of(
    package: ProviderPackage,
    environment: EnvironmentId,
    settings: Settings,
    services: Mapping[str, Service],
    known: Callable[[], Mapping[EnvironmentId, Settings]],
) -> tuple[Unfit, ...]:
    """Return what a package says of it, each thing once; nothing where it says nothing. ``known``: the environments
    that there are, which are only asked for where it does."""
    found = getattr(package, "unfit", None)
    if found is None:
        return ()
    return tuple(dict.fromkeys(found(environment, settings, services, known())))
