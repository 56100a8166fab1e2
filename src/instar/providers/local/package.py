"""What the local provider brings: see :class:`instar.providers.package.ProviderPackage`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from instar.errors import HostError
from instar.providers.traits import Traits

if TYPE_CHECKING:
    from instar.model.component import Component
    from instar.model.environment import Settings
    from instar.providers.base import Provider
    from instar.providers.package import Document, Site

_NO_ID = "000000"


class LocalPackage:
    """Implements providers.package.ProviderPackage. All that may be said of an environment here is said in general."""

    traits = Traits(finds_names=True, finds_roles=True)
    settings = None
    documents: Mapping[str, Document] = MappingProxyType({})

    def release_settings(self, settings: Settings) -> Mapping[str, Any]:
        return {}

    def components(self) -> tuple[Component, ...]:
        from instar.providers.local.components import components as local
        from instar.router.components import components as router

        return (*local(), *router())

    def warnings(self, site: Site) -> tuple[str, ...]:
        from instar.providers.local import warnings
        from instar.providers.local.names import Names
        from instar.providers.local.subnet import Subnet

        told = []
        try:
            found = site.find_state_id()
        except HostError as error:
            found, told = None, [f"{error.message}; {error.hint}" if error.hint else error.message]
        names = Names(site.state, found or _NO_ID)
        return (*told, *warnings.warnings(names, Subnet(names).find(), None))

    def open(self, site: Site) -> Provider:
        from instar.model.machine import EdgeSettings
        from instar.providers.local import LocalEdge, LocalRouter, LocalRuntime, allocations, record
        from instar.providers.local.log_files import LocalLogFiles
        from instar.providers.local.names import Names
        from instar.providers.machine import MachineProvider

        mark = site.state_id
        settings = site.machine_settings
        names = Names(site.state, mark)
        record.require_carried(names)
        allocations.take_over(names, site.provider_records("local"))
        return MachineProvider(
            runtime=LocalRuntime(site.state, mark, site.layers),
            router=LocalRouter(site.state, mark),
            edge=LocalEdge(site.state, mark, settings.edge if settings else EdgeSettings()),
            log_files=LocalLogFiles(site.state, mark),
            traits=self.traits,
        )


LOCAL: Final = LocalPackage()
