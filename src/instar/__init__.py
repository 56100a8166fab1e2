"""Instar: immutable infrastructure, end to end, in one tool."""

__version__ = "0.1.0"
