"""What a plan says of what it did not ask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from instar.operations.plan import _unasked
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.local.package import LOCAL


def test_a_plan_says_that_a_cluster_was_not_asked() -> None:
    packages = {"kubernetes": KUBERNETES, "local": LOCAL}
    workspace: Any = SimpleNamespace(provider_package=packages.__getitem__)
    (told,) = _unasked(workspace, "kubernetes")
    assert told.startswith("what 'kubernetes' runs it on was not asked")
    assert not list(_unasked(workspace, "local"))
