"""Snapshots of volumes in a cluster, on a stub of one: what is made, begun, given up and refused."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_snapshots import STAGING, claim_of_pods, kept, snapshot_world, take, with_volume
from kubernetes_values import CAUSE, DATA, ENV, KEPT, SECTION, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.errors import (
    ComponentMissing,
    HalfDone,
    HostError,
    InstarError,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    Refused,
)
from instar.providers.kubernetes import filling as module
from instar.providers.kubernetes.rights import roles
from instar.waiting import Deadline


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return snapshot_world(stub, tmp_path)


def given_up(ask: Any) -> InstarError:
    """Return the error that is not to be tried again."""
    for _ in range(5):
        with pytest.raises(InstarError) as raised:
            ask()
        if raised.value.retry_after_s is None:
            return raised.value
    raise AssertionError("it is tried again and again")


def test_a_snapshot_says_itself_what_it_is(world: World, stub: ClusterStub) -> None:
    made = kept(world).take_snapshot(ENV, "data", running=True, cause=CAUSE)
    assert (made.number, made.running, made.cause, made.where) == (1, True, CAUSE, "shop/shop-prod-data.1")
    spec = stub.one("volumesnapshots", "shop-prod-data.1")["spec"]
    assert spec["volumeSnapshotClassName"] == "fast-kept"
    assert spec["source"] == {"persistentVolumeClaimName": "shop-prod-data"}
    assert list(kept(world).snapshots()) == list(kept(world).snapshots(ENV)) == [made]
    assert list(kept(world).snapshots(STAGING)) == []
    assert kept(world).copied_bytes(ENV, "data") is kept(world).free_bytes() is None


def test_no_number_is_given_twice(world: World) -> None:
    assert [take(world), take(world)] == [1, 2]
    kept(world).remove_snapshot(ENV, "data", 2)
    assert take(world) == 3
    kept(world).restore_snapshot(ENV, "data", 1)
    kept(world).remove_snapshot(ENV, "data", 3)
    assert take(world) == 4


def test_a_snapshot_that_is_not_ready_is_gone_on_with(world: World, stub: ClusterStub) -> None:
    stub.ready_snapshots = False
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="not ready to use"):
            take(world)
    assert list(kept(world).snapshots()) == []
    stub.ready_snapshots = True
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.1"))
    assert take(world) == 1
    assert stub.names("volumesnapshots") == ["shop-prod-data.1"]


def test_what_a_killed_one_has_begun_is_gone_on_with_for_its_rollout_and_else_begun_anew(
    world: World, stub: ClusterStub, tmp_path: Path
) -> None:
    stub.ready_snapshots = False
    for cause in (CAUSE, None):
        with pytest.raises(ProviderUnavailable):
            take(world, cause=cause)
    stub.ready_snapshots = True
    for one in stub.names("volumesnapshots"):
        stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", one))
    another = World(stub, tmp_path, KEPT)
    assert stub.names("volumesnapshots") == ["shop-prod-data.2"]  # the rollout's was removed by who asked for another
    assert take(another) == 3
    assert stub.names("volumesnapshots") == ["shop-prod-data.2", "shop-prod-data.3"]  # ready: it may have been kept
    assert [one.number for one in kept(another).snapshots()] == [3]

    stub.ready_snapshots = False
    with pytest.raises(ProviderUnavailable):
        take(world, cause=CAUSE)
    stub.ready_snapshots = True
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.4"))
    assert take(World(stub, tmp_path, KEPT), cause=CAUSE) == 4


def test_a_driver_that_fails_is_heard_and_nothing_is_left(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.ready_snapshots, stub.storage_says = False, "no room\nin the pool"
    with pytest.raises(ProviderUnavailable, match="no room in the pool"):
        take(world)
    monkeypatch.setattr(module, "_ERRS_S", 0.0)
    error = given_up(lambda: take(world, cause=CAUSE))
    assert "cannot keep what the volume 'data' of 'shop/prod' holds: no room in the pool" in error.message
    assert stub.names("volumesnapshots") == []


def test_a_restored_volume_is_another_claim_that_new_pods_get(world: World, stub: ClusterStub) -> None:
    take(world)
    world.provider.destroy(world.group(with_volume(world)), with_volume(world))
    kept(world).restore_snapshot(ENV, "data", 1)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.1"]
    spec = stub.one("persistentvolumeclaims", "shop-prod-data.1")["spec"]
    assert spec["dataSource"]["name"] == "shop-prod-data.1"
    assert spec["storageClassName"] == "fast"
    assert spec["resources"]["requests"]["storage"] == "2Gi"  # as large as what was kept
    (volume,) = world.provider.volumes.volumes()
    assert (volume.name, volume.where) == ("data", "shop/shop-prod-data.1")
    again = world.create(with_volume(world, 2), serial=2)
    assert claim_of_pods(stub, again.id) == "shop-prod-data.1"
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.1"]


def test_a_restore_that_fails_or_is_killed_leaves_what_the_volume_held(
    world: World, stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(world)
    stub.bound_claims, stub.storage_says = False, "snapshot is damaged"
    with pytest.raises(ProviderUnavailable, match="damaged"):
        kept(world).restore_snapshot(ENV, "data", 1)
    assert claim_of_pods(stub, world.create(with_volume(world, 2), serial=2).id) == "shop-prod-data"
    monkeypatch.setattr(module, "_ERRS_S", 0.0)
    another = World(stub, tmp_path, KEPT)
    assert [one.where for one in another.provider.volumes.volumes()] == ["shop/shop-prod-data"]
    error = given_up(lambda: kept(another).restore_snapshot(ENV, "data", 1))
    assert "snapshot is damaged" in error.message
    assert "left as it is" in str(error.hint)
    stub.bound_claims, stub.storage_says = True, ""
    kept(another).restore_snapshot(ENV, "data", 1)
    assert len(stub.names("persistentvolumeclaims")) == 1
    assert [one.name for one in another.provider.volumes.volumes()] == ["data"]


@pytest.mark.parametrize(("verb", "error"), [("POST", ProviderUnavailable), ("PATCH", HalfDone), ("DELETE", None)])
def test_a_restore_that_is_cut_after_any_call_is_whole_by_the_next(
    world: World, stub: ClusterStub, tmp_path: Path, verb: str, error: type[InstarError] | None
) -> None:
    take(world)
    stub.faults.append(Fault(500, times=1, done=True, fits=lambda method, path: method == verb and "claims" in path))
    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        kept(world).restore_snapshot(ENV, "data", 1)
    assert len(World(stub, tmp_path, KEPT).provider.volumes.volumes()) == 1
    kept(World(stub, tmp_path, KEPT)).restore_snapshot(ENV, "data", 1)
    assert len(stub.names("persistentvolumeclaims")) == 1


def phase(stub: ClusterStub, name: str, said: str) -> None:
    stub.one("persistentvolumeclaims", name)["status"] = {"phase": said}


def wait_for_pods(stub: ClusterStub) -> None:
    """Have a claim that is made from a snapshot get its storage with its first pod, and not before."""
    fast = {"metadata": {"name": "fast"}, "provisioner": "fast.example", "volumeBindingMode": "WaitForFirstConsumer"}
    stub.put("storageclasses", "", fast)
    stub.bound_claims = False


def test_data_stays_until_the_claim_that_counts_has_storage_of_its_own(world: World, stub: ClusterStub) -> None:
    take(world)
    wait_for_pods(stub)
    kept(world).restore_snapshot(ENV, "data", 1)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.1"]
    again = world.create(with_volume(world, 2), serial=2)
    assert claim_of_pods(stub, again.id) == "shop-prod-data.1"
    kept(world).restore_snapshot(ENV, "data", 1)  # a rollout that is given up: what was never filled goes
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.2"]
    world.create(with_volume(world, 3), serial=3)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.2"]
    phase(stub, "shop-prod-data.2", "Bound")
    world.create(with_volume(world, 4), serial=4)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.2"]


def test_what_replaced_claims_leave_is_removed_without_holding_up_a_group(world: World, stub: ClusterStub) -> None:
    take(world)
    wait_for_pods(stub)
    kept(world).restore_snapshot(ENV, "data", 1)
    phase(stub, "shop-prod-data.1", "Bound")
    stub.faults.append(Fault(500, fits=lambda method, path: method == "DELETE" and "claims" in path))
    world.create(with_volume(world, 2), serial=2)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.1"]
    world.create(with_volume(world, 3), serial=3)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.1"]


def test_a_claim_that_only_looks_newer_has_nobodys_data_removed(world: World, stub: ClusterStub) -> None:
    ours = stub.one("persistentvolumeclaims", "shop-prod-data")
    labels = {**ours["metadata"]["labels"], "instar/turn": "99", "instar/whole": "yes"}
    stub.put("persistentvolumeclaims", "shop", {**ours, "metadata": {"name": "shop-prod-data.99", "labels": labels}})
    world.create(with_volume(world, 2), serial=2)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-prod-data.99"]


def test_a_snapshot_that_a_claim_is_yet_to_be_filled_from_stays(world: World, stub: ClusterStub) -> None:
    take(world)
    wait_for_pods(stub)
    kept(world).restore_snapshot(ENV, "data", 1)
    with pytest.raises(Refused, match=r"the claim 'shop/shop-prod-data\.1' is yet to be filled from it"):
        kept(world).remove_snapshot(ENV, "data", 1)
    with pytest.raises(NotFound, match=r"no storage yet.*from the snapshot 'shop-prod-data\.1'"):
        take(world)
    assert stub.names("volumesnapshots") == ["shop-prod-data.1"]
    phase(stub, "shop-prod-data.1", "Bound")
    kept(world).remove_snapshot(ENV, "data", 1)
    assert stub.names("volumesnapshots") == []


def test_what_another_process_made_anew_is_not_taken_for_ones_own(world: World, stub: ClusterStub) -> None:
    take(world)
    stub.bound_claims = False
    with pytest.raises(ProviderUnavailable):
        kept(world).restore_snapshot(ENV, "data", 1)
    ours = stub.one("persistentvolumeclaims", "shop-prod-data.1")
    del stub.objects["persistentvolumeclaims", "shop", "shop-prod-data.1"]
    stub.put("persistentvolumeclaims", "shop", {**ours, "spec": {**ours["spec"], "dataSource": {"name": "another"}}})
    stub.bound_claims = True
    kept(world).restore_snapshot(ENV, "data", 1)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.2"]
    assert stub.one("persistentvolumeclaims", "shop-prod-data.2")["spec"]["dataSource"]["name"] == "shop-prod-data.1"


def test_a_driver_has_its_time_from_its_first_error_on(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it worked before that, and anew after each time that it says none."""
    made: list[float] = []
    over = SimpleNamespace(after=lambda seconds: made.append(seconds) or Deadline(0.0))
    monkeypatch.setattr(module, "Deadline", over)
    stub.ready_snapshots = False
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match=r"not ready to use$"):
            take(world)
    assert made.count(module._ERRS_S) == 0
    stub.storage_says = "no room"
    stub.put("volumesnapshots", "shop", stub.one("volumesnapshots", "shop-prod-data.1"))
    with pytest.raises(ProviderError, match="no room") as raised:
        take(world)
    assert raised.value.retry_after_s is None and made.count(module._ERRS_S) == 1


def warning(stub: ClusterStub, name: str, text: str, at: str) -> None:
    uid = stub.one("persistentvolumeclaims", "shop-prod-data.1")["metadata"]["uid"]
    involved = {"uid": uid, "name": "shop-prod-data.1"}
    stub.put(
        "events", "shop", {"metadata": {"name": name}, "message": text, "lastTimestamp": at, "involvedObject": involved}
    )


def test_a_warning_counts_as_long_as_it_is_said_again_and_the_newest_is_told(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(world)
    stub.bound_claims = False
    with pytest.raises(ProviderUnavailable):
        kept(world).restore_snapshot(ENV, "data", 1)
    warning(stub, "a", "the newest", "2026-11-30T09:00:05Z")
    warning(stub, "b", "an older one", "2026-11-30T09:00:01Z")
    monkeypatch.setattr(module, "_ERRS_S", 0.0)
    monkeypatch.setattr(module, "_FRESH_S", 0.0)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable, match="the newest"):
            kept(world).restore_snapshot(ENV, "data", 1)
    monkeypatch.setattr(module, "_FRESH_S", 60.0)
    warning(stub, "a", "the newest", "2026-11-30T09:00:09Z")
    assert "the newest" in given_up(lambda: kept(world).restore_snapshot(ENV, "data", 1)).message


def test_a_volume_that_is_gone_is_restored(world: World, stub: ClusterStub) -> None:
    take(world)
    world.provider.volumes.remove_volume(ENV, "data")
    assert [one.number for one in kept(world).snapshots(ENV)] == [1]
    kept(world).restore_snapshot(ENV, "data", 1)
    spec = stub.one("persistentvolumeclaims", "shop-prod-data.1")["spec"]
    assert (spec["accessModes"], spec["storageClassName"]) == (["ReadWriteMany"], "fast")
    world.provider.forget(ENV, [], volumes=True)
    assert stub.names("persistentvolumeclaims") == []


def test_a_volume_is_copied_to_another_environment(world: World, stub: ClusterStub) -> None:
    kept(world).copy_volume(ENV, "data", STAGING, "seed")
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data", "shop-staging-seed"]
    assert stub.names("volumesnapshots") == []
    with pytest.raises(Refused, match="there is one"):
        kept(world).copy_volume(ENV, "data", STAGING, "seed")
    world.settings[STAGING] = dataclasses.replace(KEPT, provider_settings={**SECTION, "namespace": "other"})
    with pytest.raises(Refused, match="different namespaces"):
        kept(world).copy_volume(ENV, "data", STAGING, "more")
    with pytest.raises(NotFound):
        kept(world).copy_volume(ENV, "nothing", STAGING, "more")


def test_a_copy_that_fails_leaves_nothing_that_counts(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.bound_claims, stub.storage_says = False, "no room"
    monkeypatch.setattr(module, "_ERRS_S", 0.0)
    assert "no room" in given_up(lambda: kept(world).copy_volume(ENV, "data", STAGING, "seed")).message
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data"]


def test_a_volume_is_not_shown_on_this_machine(world: World) -> None:
    with pytest.raises(HostError, match="it is in a cluster"), kept(world).shown(ENV, "data"):
        pass


# before anything is made


def preflight(world: World) -> None:
    service = dataclasses.replace(SERVICE, volumes=(DATA,))
    world.provider.preflight(ENV, world.settings[ENV], service, launching=False)


def test_what_keeps_no_snapshots_is_refused_beforehand(world: World, stub: ClusterStub) -> None:
    preflight(world)
    del stub.objects["volumesnapshotclasses", "", "fast-kept"]
    stub.put("volumesnapshotclasses", "", {"metadata": {"name": "others"}, "driver": "other.example"})
    for ask, defined in (
        (lambda: preflight(world), True),
        (lambda: take(world, cause=CAUSE), True),
        (lambda: take(world), False),
        (lambda: kept(world).copied_bytes(ENV, "data"), False),
    ):
        with pytest.raises(Refused, match=r"no VolumeSnapshotClass is of its driver .fast\.example.") as raised:
            ask()
        assert "other.example" in raised.value.message
        assert ("'snapshot: true'" in str(raised.value.hint)) is defined
    stub.has_snapshots = False
    with pytest.raises(ComponentMissing, match="no VolumeSnapshots"):
        preflight(world)
    assert list(kept(world).snapshots()) == []


def test_of_several_classes_one_has_to_be_marked(world: World, stub: ClusterStub) -> None:
    more = {"metadata": {"name": "fast-too"}, "driver": "fast.example"}
    stub.put("volumesnapshotclasses", "", more)
    with pytest.raises(Refused, match="there are fast-kept, fast-too"):
        preflight(world)
    annotations = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    stub.put("volumesnapshotclasses", "", {**more, "metadata": {"name": "fast-too", "annotations": annotations}})
    take(world)
    assert stub.one("volumesnapshots", "shop-prod-data.1")["spec"]["volumeSnapshotClassName"] == "fast-too"


def test_rights_that_are_missing_are_named(world: World, stub: ClusterStub) -> None:
    stub.allowed = lambda asked: asked["resource"] != "volumesnapshots" or asked["verb"] == "list"
    with pytest.raises(ProviderError, match=r"create, get, delete, patch volumesnapshots\.snapshot\.storage"):
        preflight(world)
    world.provider.preflight(ENV, SETTINGS, SERVICE, launching=False)  # what keeps nothing needs no such rights


def test_the_printed_roles_have_them() -> None:
    made = roles("shop", None)
    rules = [rule for one in made for rule in one.get("rules", ())]
    of = {(rule["apiGroups"][0], rule["resources"][0]): rule["verbs"] for rule in rules}
    assert set(of["snapshot.storage.k8s.io", "volumesnapshots"]) >= {
        "create",
        "get",
        "list",
        "patch",
        "delete",
        "watch",
    }
    assert of["snapshot.storage.k8s.io", "volumesnapshotclasses"] == ["list"]
    assert of["storage.k8s.io", "storageclasses"] == ["get", "list"]
