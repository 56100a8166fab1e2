"""Fixtures of the contract suites."""

from ledger_benches import bench, ledger

__all__ = ["bench", "ledger"]
