"""Instances and traffic on this machine. See runtime.py, router.py, edge.py, which are imported when asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instar.providers.local.edge import LocalEdge
    from instar.providers.local.router import LocalRouter
    from instar.providers.local.runtime import LocalRuntime

__all__ = ["LocalEdge", "LocalRouter", "LocalRuntime"]


def __getattr__(name: str) -> object:
    import importlib

    module = {"LocalEdge": "edge", "LocalRouter": "router", "LocalRuntime": "runtime"}.get(name)
    if module is None:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"instar.providers.local.{module}"), name)
