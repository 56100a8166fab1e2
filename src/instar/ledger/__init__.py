"""Releases, rollouts, instances, events: SQL and nothing else."""

from instar.ledger.ledger import Ledger
from instar.ledger.verification import Verified

__all__ = ["Ledger", "Verified"]
