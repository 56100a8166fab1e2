"""Kept snapshots in a cluster that somebody has relabelled, and others' made to look begun: none is removed."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes_snapshots import STAGING, kept, numbers, snapshot_world, take
from kubernetes_values import CAUSE, ENV, KEPT, World

from cluster_stub import ClusterStub, Fault
from instar.errors import InstarError, ProviderUnavailable


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return snapshot_world(stub, tmp_path)


def snapshot(stub: ClusterStub, number: int) -> Any:
    return stub.one("volumesnapshots", f"shop-prod-data.{number}")["metadata"]


def test_a_kept_snapshot_counts_and_stays_without_its_label(world: World, stub: ClusterStub) -> None:
    take(world, cause=CAUSE)
    take(world)
    del snapshot(stub, 1)["labels"]["instar/whole"]
    snapshot(stub, 2)["labels"]["instar/whole"] = "no"
    assert numbers(world) == [1, 2]
    assert take(world) == 3
    assert numbers(world) == [1, 2, 3]
    assert world.told == []


@pytest.mark.parametrize("more", [{"instar/snapshot": "9"}, {"instar/ledger": "ffffffff"}, {"instar/turn": "4"}])
def test_a_kept_snapshot_that_is_relabelled_stays(world: World, stub: ClusterStub, more: dict[str, str]) -> None:
    take(world)
    labels = snapshot(stub, 1)["labels"]
    del labels["instar/whole"]
    labels.update(more)
    assert take(world) == 2
    assert stub.names("volumesnapshots") == ["shop-prod-data.1", "shop-prod-data.2"]


def test_a_kept_snapshot_stays_though_its_first_signature_is_written_back(world: World, stub: ClusterStub) -> None:
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world)
    first = copy.deepcopy(snapshot(stub, 1))
    stub.ready_snapshots = True
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.1"))
    assert take(world) == 1
    assert snapshot(stub, 1)["annotations"] != first["annotations"]
    snapshot(stub, 1).update(labels=first["labels"], annotations=first["annotations"])
    for _ in range(2):
        take(world)
    assert "shop-prod-data.1" in stub.names("volumesnapshots")
    (said,) = world.told  # once
    assert said.kind == "warning" and "kubectl delete volumesnapshot shop-prod-data.1 -n shop" in said.text


@pytest.mark.parametrize("name", ["pg-weekly-2026-11", "shop-prod-data.copy-0a1b2c3d", "shop-prod-data.copy-x"])
def test_a_strangers_snapshot_that_looks_like_one_to_copy_by_stays(world: World, stub: ClusterStub, name: str) -> None:
    take(world)
    ours = snapshot(stub, 1)
    labels = {one: said for one, said in ours["labels"].items() if one not in ("instar/whole", "instar/snapshot")}
    metadata = {"name": name, "labels": {**labels, "instar/copy": "yes"}, "annotations": ours["annotations"]}
    source = {"persistentVolumeClaimName": "pg-data"}
    stub.put("volumesnapshots", "shop", {"metadata": metadata, "spec": {"source": source}})
    take(world)
    assert name in stub.names("volumesnapshots")
    (said,) = world.told
    assert said.kind == "warning" and f"'shop/{name}' is left out" in said.text


def test_what_a_killed_copy_has_left_is_removed(world: World, stub: ClusterStub, tmp_path: Path) -> None:
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        kept(world).copy_volume(ENV, "data", STAGING, "seed")
    (left,) = stub.names("volumesnapshots")
    assert left.startswith("shop-staging-seed.copy-")
    stub.ready_snapshots = True
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", left))
    another = World(stub, tmp_path, KEPT)
    another.settings[STAGING] = KEPT
    kept(another).copy_volume(ENV, "data", STAGING, "seed")
    assert stub.names("volumesnapshots") == []


def test_what_a_relabelled_claim_is_yet_to_be_filled_from_stays(world: World, stub: ClusterStub) -> None:
    fast = {"metadata": {"name": "fast"}, "provisioner": "fast.example", "volumeBindingMode": "WaitForFirstConsumer"}
    stub.put("storageclasses", "", fast)
    stub.bound_claims = False
    kept(world).copy_volume(ENV, "data", STAGING, "seed")
    (by,) = stub.names("volumesnapshots")
    stub.one("persistentvolumeclaims", "shop-staging-seed")["metadata"]["labels"].clear()
    stub.faults.append(Fault(409, fits=lambda method, path: method == "POST" and path.endswith("claims")))
    with pytest.raises(InstarError):
        kept(world).copy_volume(ENV, "data", STAGING, "seed")  # its name is taken
    assert by in stub.names("volumesnapshots")


def test_what_cannot_be_signed_goes_again(world: World, stub: ClusterStub) -> None:
    stub.faults.append(Fault(500, times=1, fits=lambda method, path: method == "PATCH" and "volumesnapshots" in path))
    with pytest.raises(ProviderUnavailable):
        take(world)
    assert stub.names("volumesnapshots") == []


@pytest.mark.parametrize(("hours", "stays"), [(1, False), (25, True)])
def test_an_old_one_stays_though_its_first_signature_is_written_back_and_it_is_said_not_to_be_ready(
    world: World, stub: ClusterStub, hours: int, stays: bool
) -> None:
    """Its status is the snapshot controller's to write, and of who may; when it was made, nobody but the API says."""
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    begun = snapshot(stub, 1)["annotations"]["instar/signature"]
    stub.ready_snapshots = True
    stub.one("volumesnapshots", "shop-prod-data.1")["status"] = {"readyToUse": True}
    assert take(world, cause=CAUSE) == 1
    metadata = snapshot(stub, 1)
    metadata["annotations"]["instar/signature"] = begun
    del metadata["labels"]["instar/whole"]
    stub.one("volumesnapshots", "shop-prod-data.1")["status"] = {"readyToUse": False}
    metadata["creationTimestamp"] = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    assert take(world) == 2
    assert ("shop-prod-data.1" in stub.names("volumesnapshots")) == stays
    assert any("kubectl delete volumesnapshot shop-prod-data.1 -n shop" in one.text for one in world.told) == stays


def test_one_that_takes_longer_than_a_day_is_gone_on_with(world: World, stub: ClusterStub) -> None:
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    snapshot(stub, 1)["creationTimestamp"] = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    assert stub.names("volumesnapshots") == ["shop-prod-data.1"]
