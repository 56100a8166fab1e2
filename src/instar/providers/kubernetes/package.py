"""What the provider brings: see :class:`instar.providers.package.ProviderPackage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from instar.model.component import Component
from instar.providers.kubernetes.settings import SMALLEST_CLAIM, KubernetesSettings
from instar.providers.package import Document
from instar.providers.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from instar.model.definition import Service
    from instar.model.environment import Settings
    from instar.model.release import EnvironmentId
    from instar.providers.base import Provider
    from instar.providers.package import Site
    from instar.providers.unfit import Unfit


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
        network_of_release=True,
        scales=True,
        judges=True,
        finds_names=True,
        finds_roles=True,
        sees_sessions=False,
        volume_bytes=SMALLEST_CLAIM,
        patience_s=120.0,  # a gateway asks an API server that was away for it again after up to 40 s
    )
    settings = KubernetesSettings

    def release_settings(self, settings: Settings) -> Mapping[str, Any]:
        from instar.providers.kubernetes.pod_settings import release_settings

        return release_settings(settings)

    def unfit(
        self,
        environment: EnvironmentId,
        settings: Settings,
        services: Mapping[str, Service],
        known: Mapping[EnvironmentId, Settings],
    ) -> Iterator[Unfit]:
        from instar.providers.kubernetes.refusals import unfit

        return unfit(environment, settings, services, known)

    def address_inside(
        self, own: Settings, environment: EnvironmentId, settings: Settings, role: str | None = None
    ) -> str:
        from instar.providers.kubernetes.selecting import address_inside

        return address_inside(own, environment, settings, role)

    @property
    def documents(self) -> Mapping[str, Document]:
        from instar.providers.kubernetes import documents

        return {
            "render": Document(
                about="Print the objects that a deploy of ENV would make, for review.",
                make=documents.render,
                of_release=True,
            ),
            "rbac": Document(
                about="Print the least roles that Instar needs for ENV, and an account.", make=documents.rbac
            ),
            "agent": Document(
                about="Print the agent as a Deployment in the namespace of ENV, and the roles that it acts by.",
                make=documents.agent,
                of_given=True,
            ),
            "policy": Document(
                about="Print an admission policy by which the cluster keeps ENV as Instar made it.",
                make=documents.policy,
            ),
        }

    def components(self) -> tuple[Component, ...]:
        from instar.providers.kubernetes.components import components

        return components()

    def warnings(self, site: Site) -> tuple[str, ...]:
        return ()

    def open(self, site: Site) -> Provider:
        from instar.providers.kubernetes.provider import KubernetesProvider

        return KubernetesProvider(site, self.traits)


KUBERNETES: Final = KubernetesPackage()
