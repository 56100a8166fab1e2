"""A provider of which every call is seen before it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from instar.providers.base import Provider

FACETS = (
    "inspects",
    "ends",
    "changes",
    "shells",
    "runs",
    "previews",
    "counts",
    "maintains",
    "measures",
    "log_files",
    "members",
    "edge",
    "layers",
    "sweeps",
    "networks",
    "volumes",
)


class Guarded:
    """Stands before ``real``: ``before`` is called with the name of each call, and may raise."""

    def __init__(self, real: object, before: Callable[[str], None]) -> None:
        self._real = real
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name in FACETS:
            return None if found is None else Guarded(found, self._before)
        if not callable(found):
            return found

        def call(*arguments: object, **named: object) -> object:
            self._before(name)
            return found(*arguments, **named)

        return call


def guarded(provider: Provider, before: Callable[[str], None]) -> Provider:
    return cast(Provider, Guarded(provider, before))
