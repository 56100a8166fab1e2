"""What the provider brings: see :class:`instar.providers.package.ProviderPackage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from instar.model.component import Component
from instar.providers.base import Traits
from instar.providers.kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from instar.providers.base import Provider
    from instar.providers.package import Site


class KubernetesPackage:
    """Implements providers.package.ProviderPackage. What it stands on is imported when it is opened."""

    traits = Traits(
        heals=True,
        waits_to_begin=False,
        heaviest_weight=100,
        poll_s=0.25,
        needs_root=False,
        of_one_machine=False,
        passes_names=True,
    )
    settings = KubernetesSettings

    def components(self) -> tuple[Component, ...]:
        from instar.providers.kubernetes.components import components

        return components()

    def warnings(self, site: Site) -> tuple[str, ...]:
        return ()

    def open(self, site: Site) -> Provider:
        from instar.providers.kubernetes.provider import KubernetesProvider

        return KubernetesProvider(site, self.traits)


KUBERNETES: Final = KubernetesPackage()
