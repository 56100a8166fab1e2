"""What is printed of an environment for review is what a deploy would make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.model.definition import Task
from instar.operations.documents import _groups
from instar.providers.kubernetes.documents import render
from instar.providers.package import PlannedEnvironment


@pytest.fixture
def stub() -> Iterator[ClusterStub]:
    stub = ClusterStub()
    yield stub
    stub.close()


def test_the_jobs_of_tasks_come_first_and_take_the_first_numbers(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path)
    service = dataclasses.replace(SERVICE, before=(Task(command=("migrate",)),), after=(Task(command=("tidy",)),))
    release = world.release(service=service)
    workspace: Any = SimpleNamespace(provider=lambda name: world.provider)
    groups = _groups(workspace, SETTINGS, None, release)
    assert [(one.id, one.task, one.members) for one in groups] == [
        ("shop-prod-1-1", "before 1", 1),
        ("shop-prod-1-2", None, 2),
    ]
    planned = PlannedEnvironment(environment=ENV, settings=SETTINGS, release=release, image=world.image, groups=groups)
    found = [yaml.safe_load(text) for text in render(world.site, planned).values()]
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert {("Job", "shop-prod-1-1"), ("Deployment", "shop-prod-1-2")} <= names
    (route,) = (one for one in found if one["kind"] == "HTTPRoute")
    assert "shop-prod-1-1" not in str(route)
