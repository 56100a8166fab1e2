"""Releases, rollouts, instances, events: SQL and nothing else."""

from instar.ledger.ledger import Ledger, look

__all__ = ["Ledger", "look"]
