"""What of others could lead an environment's requests away, as far as these credentials may look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import ProviderError
from instar.frozen import dataclass
from instar.providers.kubernetes.answers import Forbidden
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import GATEWAY, GRPC_ROUTE, ROUTE, TCP_ROUTE, TLS_ROUTE, Kind

Object = Mapping[str, Any]
_OLDER: Final[Mapping[Kind, Sequence[str]]] = {TLS_ROUTE: ("v1alpha3", "v1alpha2"), TCP_ROUTE: ("v1alpha2",)}
_MISSED: Final = "one of somebody else's that takes requests for its names would not be found"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """``routes``: HTTPRoutes; ``tls`` and ``tcp``: only where a Gateway has such listeners that could matter.
    ``unseen``: why not all were looked at, None where they were."""

    routes: Sequence[Object]
    grpc: Sequence[Object] = ()
    tls: Sequence[Object] = ()
    tcp: Sequence[Object] = ()
    gateways: Sequence[Object] = ()
    unseen: str | None = None


def listed(api: Api, namespace: str, gateway: tuple[str, str]) -> Listed:
    """Return what of all namespaces, or of this one alone where no others can be listed, could take requests that come
    to a Gateway (namespace, name). A kind that the cluster has not is none."""
    looks = _Looks(api, namespace)
    routes, gateways, grpc = looks.all_of(ROUTE), looks.all_of(GATEWAY), looks.all_of(GRPC_ROUTE)
    near = [one for one in gateways if named(one) == gateway]
    others = tuple(beside(gateways, gateway))
    has_tls = any(one.get("protocol") == "TLS" for each in (*near, *others) for one in listeners(each))
    has_tcp = any(one.get("protocol") == "TCP" for each in others for one in listeners(each))
    return Listed(
        routes=routes,
        grpc=grpc,
        tls=looks.all_of(TLS_ROUTE) if has_tls else (),
        tcp=looks.all_of(TCP_ROUTE) if has_tcp else (),
        gateways=gateways,
        unseen="; ".join(looks.unseen()) or None,
    )


class _Looks:
    """Asks for one kind after the other, and notes what could not be seen."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._missed: dict[tuple[str, str | None], list[str]] = {}  # where, and why (None: a right): of which kinds

    def all_of(self, kind: Kind) -> Sequence[Object]:
        try:
            return self._versions(kind, None)
        except ProviderError as error:
            if error.retry_after_s is not None:
                raise
            why = error
        try:
            own, where = self._versions(kind, self._namespace), f"of other namespaces than '{self._namespace}'"
        except ProviderError as error:
            if error.retry_after_s is not None:
                raise
            own, where, why = (), "at all", error
        told = None if isinstance(why, Forbidden) else why.message
        self._missed.setdefault((where, told), []).append(f"{kind.name}s")
        return own

    def _versions(self, kind: Kind, namespace: str | None) -> Sequence[Object]:
        if kind == ROUTE:  # without it nothing is released there at all
            return self._api.list(kind, namespace, {})
        for version in (kind.version, *_OLDER.get(kind, ())):
            one = Kind(name=kind.name, plural=kind.plural, group=kind.group, version=version)
            found = self._api.find_list(one, namespace, {})
            if found is not None:
                return found
        return ()

    def unseen(self) -> Iterator[str]:
        for (where, told), kinds in self._missed.items():
            names = " and ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
            if told is not None:
                yield f"{names} {where} were not looked at ({told}): {_MISSED}"
            else:
                role = "the ClusterRole for it is in what instar kubernetes rbac prints"
                yield f"these credentials may not list {names} {where}: {_MISSED} ({role})"


def beside(gateways: Sequence[Object], own: tuple[str, str]) -> Iterator[Object]:
    """Yield the other Gateways at an address of ``own``, with a listener at one of its ports."""
    mine = next((one for one in gateways if named(one) == own), None)
    for one in gateways if mine is not None else ():
        assert mine is not None
        if one is not mine and _addresses(one) & _addresses(mine) and _ports(one) & _ports(mine):
            yield one


def listeners(gateway: Object) -> Sequence[Object]:
    return [one for one in (gateway.get("spec") or {}).get("listeners") or () if isinstance(one, Mapping)]


def named(found: Object) -> tuple[str, str]:
    metadata = found.get("metadata") or {}
    return str(metadata.get("namespace")), str(metadata.get("name"))


def _addresses(gateway: Object) -> set[str]:
    return {str(one.get("value")) for one in (gateway.get("status") or {}).get("addresses") or () if one.get("value")}


def _ports(gateway: Object) -> set[str]:
    return {str(one.get("port")) for one in listeners(gateway)}
