"""Snapshots and claims in a cluster that somebody else made, or wrote on: no data is lost to them or comes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from kubernetes_snapshots import kept, snapshot_world, take
from kubernetes_values import CAUSE, DATA, ENV, KEPT, SERVICE, World

from cluster_stub import ClusterStub, Fault
from instar.errors import HalfDone, NotFound, ProviderError, ProviderUnavailable, Refused
from instar.providers.kubernetes import snapshots as module
from instar.providers.kubernetes.signing import Signing


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return snapshot_world(stub, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        {"persistentVolumeClaimName": "evil"},
        {"persistentVolumeClaimName": "shop-prod-data.x"},
        {"persistentVolumeClaimName": "shop-prod-data", "volumeSnapshotContentName": "evil"},
        {"volumeSnapshotContentName": "evil"},
        {},
    ],
)
def test_a_snapshot_of_somebody_elses_data_is_no_way_back(
    world: World, stub: ClusterStub, source: dict[str, str]
) -> None:
    take(world, cause=CAUSE)
    ours = stub.one("volumesnapshots", "shop-prod-data.1")
    labels = {**ours["metadata"]["labels"], "instar/snapshot": "2"}
    for number, more in (("2", {}), ("3", {"instar/whole": "yes"})):
        metadata = {
            "name": f"shop-prod-data.{number}",
            "labels": {**labels, **more, "instar/snapshot": number},
            "annotations": {"instar/taken": ours["metadata"]["annotations"]["instar/taken"]},
        }
        if not more:
            metadata["labels"].pop("instar/whole")
        stub.put("volumesnapshots", "shop", {"metadata": metadata, "spec": {"source": source}})
    assert [one.number for one in kept(world).snapshots()] == [1]
    assert take(world, cause=CAUSE) == 4, "neither goes on with theirs, nor has their names"
    with pytest.raises(NotFound):
        kept(world).restore_snapshot(ENV, "data", 3)
    assert "shop-prod-data.2" in stub.names("volumesnapshots"), "what is not ours is left"
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data"]


def test_what_was_begun_of_an_older_claim_is_not_gone_on_with(world: World, stub: ClusterStub) -> None:
    take(world)
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    stub.ready_snapshots = True
    kept(world).restore_snapshot(ENV, "data", 1)
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.2"))
    world.provider.volumes.snapshots._begun.clear()
    assert take(world, cause=CAUSE) == 3
    source = stub.one("volumesnapshots", "shop-prod-data.3")["spec"]["source"]
    assert source == {"persistentVolumeClaimName": "shop-prod-data.1"}


def last(stub: ClusterStub, said: str) -> None:
    stub.one("persistentvolumeclaims", "shop-prod-data")["metadata"].setdefault("annotations", {})[
        "instar/last-snapshot"
    ] = said


def test_a_number_that_would_count_for_nothing_is_refused(world: World, stub: ClusterStub) -> None:
    last(stub, "999999999")
    with pytest.raises(Refused, match="cannot keep what the volume 'data' of 'shop/prod' holds") as raised:
        take(world)
    assert raised.value.hint is not None and "pvc shop-prod-data instar/last-snapshot=NUMBER" in raised.value.hint
    assert stub.names("volumesnapshots") == []
    last(stub, "999999998")
    assert take(world) == 999999999
    assert [one.number for one in kept(world).snapshots()] == [999999999]
    with pytest.raises(Refused, match="999999999 was given"):
        take(world)
    last(stub, "1000000000")  # of no form that Instar writes
    kept(world).remove_snapshot(ENV, "data", 999999999)
    assert take(world) == 1


def test_a_snapshot_that_is_changed_while_it_is_waited_for_is_not_said_to_be_kept(
    world: World, stub: ClusterStub
) -> None:
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world)
    found = stub.one("volumesnapshots", "shop-prod-data.1")
    begun = world.provider.volumes.snapshots._begun
    begun_find = module.ClusterSnapshots._begun_snapshot
    stub.ready_snapshots = True
    stub.put("volumesnapshots", "shop", found)

    def changed(*args: Any) -> Any:
        one = begun_find(*args)
        stub.one("volumesnapshots", "shop-prod-data.1")["metadata"]["labels"]["instar/snapshot"] = "1000000000"
        return one

    with pytest.MonkeyPatch.context() as patched, pytest.raises(ProviderError, match="not as Instar has made it"):
        patched.setattr(module.ClusterSnapshots, "_begun_snapshot", changed)
        take(world)
    assert begun and list(kept(world).snapshots()) == []


def test_a_claim_that_would_count_for_nothing_takes_the_place_of_no_data(world: World, stub: ClusterStub) -> None:
    take(world)
    ours = stub.one("persistentvolumeclaims", "shop-prod-data")
    labels = {**ours["metadata"]["labels"], "instar/turn": "999999999"}
    theirs = {**ours, "metadata": {"name": "shop-prod-data.999999999", "labels": labels}}
    stub.put("persistentvolumeclaims", "shop", theirs)
    with pytest.raises(Refused, match=r"the claim 'shop/shop-prod-data\.999999999' has the number 999999999"):
        kept(world).restore_snapshot(ENV, "data", 1)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.999999999"]


def test_a_claim_that_is_gone_before_it_counts_replaces_nothing(world: World, stub: ClusterStub) -> None:
    take(world)
    stub.faults.append(Fault(404, fits=lambda method, path: method == "PATCH" and path.endswith("data.1")))
    with pytest.raises(HalfDone, match="somebody has just removed it"):
        kept(world).restore_snapshot(ENV, "data", 1)
    assert "shop-prod-data" in stub.names("persistentvolumeclaims")


OF_CLAIM = {"source": {"persistentVolumeClaimName": "shop-prod-data"}}


def test_snapshots_of_others_are_none_of_ours(world: World, stub: ClusterStub) -> None:
    take(world)
    ours = stub.one("volumesnapshots", "shop-prod-data.1")["metadata"]["labels"]
    stub.put("volumesnapshots", "shop", {"metadata": {"name": "somebodys", "labels": ours}})
    stub.put(
        "volumesnapshots",
        "shop",
        {"metadata": {"name": "shop-prod-data.7", "labels": {**ours, "instar/ledger": "ffffffff"}}},
    )
    assert [one.number for one in kept(world).snapshots()] == [1]
    with pytest.raises(NotFound, match="cannot find snapshot 7") as raised:
        kept(world).remove_snapshot(ENV, "data", 7)
    assert raised.value.hint == "there is: 1"
    stub.put(
        "volumesnapshots",
        "shop",
        {"metadata": {"name": "shop-prod-data.8", "labels": {**ours, "instar/snapshot": "8"}}, "spec": OF_CLAIM},
    )
    assert [one.number for _ in range(2) for one in kept(world).snapshots()] == [1, 1]
    (said,) = world.told  # once
    assert said.kind == "warning" and "is not signed by" in said.text and "shop-prod-data.8" in said.text
    for ask in (kept(world).restore_snapshot, kept(world).remove_snapshot):
        with pytest.raises(NotFound, match="cannot find snapshot 8"):
            ask(ENV, "data", 8)


# what only looks like Instar's


def forge(stub: ClusterStub, number: int, *, source: str = "shop-prod-data", whole: bool = True) -> None:
    """Make what whoever may make snapshots can make: all that one of ours says, the signature of it too."""
    ours = stub.one("volumesnapshots", "shop-prod-data.1")
    labels = {**ours["metadata"]["labels"], "instar/snapshot": str(number)}
    if not whole:
        labels.pop("instar/whole")
    metadata = {
        "name": f"shop-prod-data.{number}",
        "labels": labels,
        "annotations": dict(ours["metadata"]["annotations"]),
    }
    stub.put(
        "volumesnapshots", "shop", {"metadata": metadata, "spec": {"source": {"persistentVolumeClaimName": source}}}
    )


@pytest.mark.parametrize("source", ["shop-prod-data", "shop-prod-data.7"])
def test_a_snapshot_that_others_took_of_the_very_claim_is_no_way_back(
    world: World, stub: ClusterStub, source: str
) -> None:
    take(world, cause=CAUSE)
    forge(stub, 5, source=source)  # that claim may be one without any label
    assert [one.number for one in kept(world).snapshots()] == [1]
    with pytest.raises(NotFound, match="cannot find snapshot 5"):
        kept(world).restore_snapshot(ENV, "data", 5)
    assert "shop-prod-data.5" in stub.names("volumesnapshots"), "what is not ours is left"


def test_what_others_have_begun_for_a_rollout_is_not_gone_on_with(
    world: World, stub: ClusterStub, tmp_path: Path
) -> None:
    take(world, cause=CAUSE)
    forge(stub, 2, whole=False)
    kept(world).remove_snapshot(ENV, "data", 1)
    another = World(stub, tmp_path, KEPT)
    assert take(another, cause=CAUSE) == 3
    assert [one.number for one in kept(another).snapshots()] == [3]
    assert "shop-prod-data.2" in stub.names("volumesnapshots"), "what is not ours is left"


def test_what_a_killed_one_had_signed_is_gone_on_with_and_what_it_had_not_is_begun_anew(
    world: World, stub: ClusterStub, tmp_path: Path
) -> None:
    stub.ready_snapshots = False
    stub.faults.append(Fault(500, times=1, fits=lambda method, path: method == "PATCH" and "volumesnapshots" in path))
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            take(world, cause=CAUSE)
    stub.ready_snapshots = True
    assert stub.names("volumesnapshots") == ["shop-prod-data.2"]
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.2"))
    assert take(World(stub, tmp_path, KEPT), cause=CAUSE) == 2


def test_one_that_was_made_anew_under_the_name_is_not_marked(world: World, stub: ClusterStub) -> None:
    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    stub.ready_snapshots = True
    key, find = ("volumesnapshots", "shop", "shop-prod-data.1"), Signing.require_signed
    ours = stub.objects[key]

    def another(*args: Any) -> None:
        find(*args)
        del stub.objects[key]
        stub.put("volumesnapshots", "shop", {**ours, "metadata": {**ours["metadata"], "uid": None}})

    stub.put("volumesnapshots", "shop", ours)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(ProviderError, match="field is immutable"):
        patched.setattr(Signing, "require_signed", another)
        take(world, cause=CAUSE)
    assert "instar/whole" not in stub.objects[key]["metadata"]["labels"]
    assert list(kept(world).snapshots()) == []


def forged_claim(stub: ClusterStub, turn: int) -> str:
    ours = stub.one("persistentvolumeclaims", "shop-prod-data")
    labels = {**ours["metadata"]["labels"], "instar/turn": str(turn), "instar/whole": "yes"}
    name = f"shop-prod-data.{turn}"
    metadata = {"name": name, "labels": labels, "annotations": {"instar/signature": "f" * 64}}
    stub.put("persistentvolumeclaims", "shop", {**ours, "metadata": metadata})
    return name


def test_a_claim_that_others_made_does_not_take_the_place_of_the_volumes_own(world: World, stub: ClusterStub) -> None:
    forged_claim(stub, 9)
    release = world.release(2, service=dataclasses.replace(SERVICE, volumes=(DATA,)))
    group = world.create(release, serial=2)
    volumes = stub.one("deployments", group.id)["spec"]["template"]["spec"]["volumes"]
    assert [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one] == [
        "shop-prod-data"
    ]
    assert [one.where for one in world.provider.volumes.volumes()] == ["shop/shop-prod-data"]


def test_no_empty_volume_is_made_where_a_claim_says_that_it_was_restored_and_nobody_signed_it(
    world: World, stub: ClusterStub
) -> None:
    name = forged_claim(stub, 9)
    del stub.objects["persistentvolumeclaims", "shop", "shop-prod-data"]
    release = world.release(2, service=dataclasses.replace(SERVICE, volumes=(DATA,)))
    with pytest.raises(Refused, match=rf"cannot tell whether the claim 'shop/{name}' is that of the volume 'data'"):
        world.create(release, serial=2)
    assert stub.names("persistentvolumeclaims") == [name]
    assert len(stub.names("deployments")) == 1


def test_another_ledger_counts_none_of_it(world: World, stub: ClusterStub, tmp_path: Path) -> None:
    take(world)
    for key in (b"o" * 32, None):
        another = World(stub, tmp_path, KEPT)
        another.signing_key = key
        assert list(kept(another).snapshots()) == []
    assert [one.number for one in kept(World(stub, tmp_path, KEPT)).snapshots()] == [1]
