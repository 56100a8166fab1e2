"""Instances and traffic on this machine. See runtime.py and router.py."""

from instar.providers.local.components import components
from instar.providers.local.router import LocalRouter
from instar.providers.local.runtime import LocalRuntime

__all__ = ["LocalRouter", "LocalRuntime", "components"]
