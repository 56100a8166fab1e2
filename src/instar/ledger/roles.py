"""Which role of its release an instance is of, as far as the ledger can be believed."""

from __future__ import annotations

from instar.errors import LedgerDamaged
from instar.model.release import Instance, Release


def release_of(instance: Instance, release: Release) -> Release:
    """Return ``release`` as an instance of it knows it: with its own role alone. Raises LedgerDamaged where the release
    has no such role."""
    try:
        return release.of_role(instance.role)
    except LookupError as error:
        raise LedgerDamaged(f"cannot tell how '{instance.id}' runs: {error}") from error
