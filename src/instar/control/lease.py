"""A provider that is asked and told nothing by who has lost its lease on the environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from instar.ledger import Ledger
from instar.model.release import EnvironmentId
from instar.providers.base import Provider


def with_lease(ledger: Ledger, provider: Provider, environment: EnvironmentId) -> Provider:
    """Return ``provider`` with the lease on ``environment`` asked for before each call: it raises LeaseLost then.

    Where one machine has the ledger for itself its lock is the lease, and the provider is returned as it is.
    """
    if not ledger.shared:
        return provider
    return cast(Provider, _Leased(provider, lambda: ledger.require_lease(environment)))


class _Leased:
    """A provider, or one of its facets."""

    def __init__(self, real: object, require: Callable[[], None]) -> None:
        self._real = real
        self._require = require

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if found is None or name == "traits":
            return found
        if not callable(found):
            return _Leased(found, self._require)

        def call(*arguments: object, **named: object) -> object:
            self._require()
            return found(*arguments, **named)

        return call
