"""A provider whose volume is kept in snapshots, on a stub of a cluster, and what the tests of these ask of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kubernetes_values import DATA, ENV, KEPT, SERVICE, World

from cluster_stub import ClusterStub
from instar.model.release import EnvironmentId, Release
from instar.providers.kubernetes.snapshots import ClusterSnapshots

STAGING = EnvironmentId(service="shop", name="staging")


def snapshot_world(stub: ClusterStub, home: Path) -> World:
    """Return a provider whose release 1 has the volume "data". The cluster's storage "fast" keeps snapshots, what is
    removed is gone at once, and nobody waits for what is not there at once."""
    stub.ends_at_once = stub.watch_ends_at_once = True
    stub.put("storageclasses", "", {"metadata": {"name": "fast"}, "provisioner": "fast.example"})
    stub.put("volumesnapshotclasses", "", {"metadata": {"name": "fast-kept"}, "driver": "fast.example"})
    made = World(stub, home, KEPT)
    made.settings[STAGING] = KEPT
    made.create(with_volume(made))
    return made


def with_volume(world: World, number: int = 1) -> Release:
    return world.release(number, service=dataclasses.replace(SERVICE, volumes=(DATA,)))


def kept(world: World) -> ClusterSnapshots:
    return world.provider.volumes.snapshots


def take(world: World, **more: Any) -> int:
    """Return the number of a new snapshot."""
    return kept(world).take_snapshot(ENV, "data", running=False, **more).number


def numbers(world: World) -> list[int]:
    return [one.number for one in kept(world).snapshots()]


def claim_of_pods(stub: ClusterStub, group: str) -> str:
    """Return the claim that the pods of a group have."""
    volumes = stub.one("deployments", group)["spec"]["template"]["spec"]["volumes"]
    (found,) = (one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one)
    return str(found)
