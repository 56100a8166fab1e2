"""Releases, rollouts, instances, events: SQL and nothing else."""

from instar.ledger.ledger import Ledger

__all__ = ["Ledger"]
