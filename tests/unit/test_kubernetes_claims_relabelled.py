"""Restored claims in a cluster that somebody has relabelled: no group begins with an empty volume, or an older one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from kubernetes_snapshots import claim_of_pods, kept, snapshot_world, take, with_volume
from kubernetes_values import ENV, KEPT, World

from cluster_stub import ClusterStub, Fault
from instar.errors import InstarError, ProviderError, ProviderUnavailable, Refused

LABELS = ["service", "environment", "ledger", "volume", "turn"]


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    made = snapshot_world(stub, tmp_path)
    take(made)
    return made


def deploy(world: World, stub: ClusterStub, number: int) -> str:
    """Return the claim that the pods of a new group have."""
    return claim_of_pods(stub, world.create(with_volume(world, number), serial=number).id)


def restore(world: World) -> None:
    kept(world).restore_snapshot(ENV, "data", 1)


def wait_for_pods(stub: ClusterStub) -> None:
    fast = {"metadata": {"name": "fast"}, "provisioner": "fast.example", "volumeBindingMode": "WaitForFirstConsumer"}
    stub.put("storageclasses", "", fast)
    stub.bound_claims = False


def claim(stub: ClusterStub, name: str = "shop-prod-data.1") -> Any:
    return stub.one("persistentvolumeclaims", name)["metadata"]


@pytest.mark.parametrize("said", [None, "no"])
def test_a_restored_claim_counts_without_its_label(world: World, stub: ClusterStub, said: str | None) -> None:
    restore(world)
    claim(stub)["labels"].pop("instar/whole")
    claim(stub)["labels"].update({} if said is None else {"instar/whole": said})
    assert deploy(world, stub, 2) == "shop-prod-data.1"
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.1"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("said", [None, "7", "other"])
@pytest.mark.parametrize("signature", ["kept", "gone"])
def test_no_empty_volume_takes_the_place_of_a_relabelled_one(
    world: World, stub: ClusterStub, label: str, said: str | None, signature: str
) -> None:
    restore(world)
    metadata = claim(stub)
    metadata["labels"].pop(f"instar/{label}")
    metadata["labels"].update({} if said is None else {f"instar/{label}": said})
    if signature == "gone":
        del metadata["annotations"]["instar/signature"]
    with pytest.raises(Refused, match=r"cannot tell whether the claim 'shop/shop-prod-data\.1' is that of") as raised:
        deploy(world, stub, 2)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.1"]
    if signature == "kept":
        assert raised.value.hint is not None
        _, _, written = raised.value.hint.partition("pvc shop-prod-data.1 ")
        words = written.partition(";")[0].split()
        metadata["labels"].update(word.split("=", 1) for word in words)
        assert deploy(world, stub, 3) == "shop-prod-data.1", "as the hint says"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("mark", ["signature", "replaced-by"])
def test_an_older_volume_takes_not_the_place_of_a_relabelled_one(
    world: World, stub: ClusterStub, label: str, mark: str
) -> None:
    """One of both says so: what the older is replaced by, and the signature."""
    wait_for_pods(stub)
    restore(world)
    del claim(stub)["labels"][f"instar/{label}"]
    of = claim(stub, "shop-prod-data") if mark == "signature" else claim(stub)
    del of["annotations"]["instar/replaced-by" if mark == "signature" else "instar/signature"]
    with pytest.raises(Refused, match=r"the claim 'shop/shop-prod-data\.1'"):
        deploy(world, stub, 2)


@pytest.mark.parametrize("label", ["service", "environment", "ledger", "volume"])
def test_a_first_claim_that_is_relabelled_is_had_or_refused(world: World, stub: ClusterStub, label: str) -> None:
    claim(stub, "shop-prod-data")["labels"][f"instar/{label}"] = "other"
    try:
        assert deploy(world, stub, 2) == "shop-prod-data"
    except InstarError as error:
        assert "shop-prod-data" in error.message
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data"]


def test_a_restore_that_was_killed_leaves_no_empty_volume_in_place_of_one_that_is_gone(
    world: World, stub: ClusterStub
) -> None:
    world.provider.volumes.remove_volume(ENV, "data")
    stub.bound_claims = False
    with pytest.raises(ProviderUnavailable):
        restore(world)
    with pytest.raises(Refused, match="cannot tell") as raised:
        deploy(world, stub, 2)
    assert "restore again" in str(raised.value.hint)
    stub.bound_claims = True
    stub.put("persistentvolumeclaims", "shop", stub.one("persistentvolumeclaims", "shop-prod-data.1"))
    restore(world)
    assert deploy(world, stub, 2) == "shop-prod-data.1"


def test_others_that_are_called_alike_keep_nobody_from_his_volume(world: World, stub: ClusterStub) -> None:
    stub.put("persistentvolumeclaims", "shop", {"metadata": {"name": "shop-prod-data.7"}})
    stub.put("persistentvolumeclaims", "shop", {"metadata": {"name": "shop-prod-data.x"}})
    assert deploy(world, stub, 2) == "shop-prod-data"


@pytest.mark.parametrize("service", ["7", "s" * 63])
def test_a_claim_with_words_that_make_no_name_hides_no_others(world: World, stub: ClusterStub, service: str) -> None:
    labels = {**claim(stub, "shop-prod-data")["labels"], "instar/service": service}
    stub.put("persistentvolumeclaims", "shop", {"metadata": {"name": "theirs", "labels": labels}})
    assert [one.where for one in world.provider.volumes.volumes()] == ["shop/shop-prod-data"]


# what a claim is yet to be filled from


@pytest.mark.parametrize(("made_anew", "text"), [(True, "is another one now"), (False, "is gone")])
def test_a_claim_is_filled_from_no_other_snapshot_of_that_name(
    world: World, stub: ClusterStub, made_anew: bool, text: str
) -> None:
    wait_for_pods(stub)
    restore(world)
    ours = stub.objects.pop(("volumesnapshots", "shop", "shop-prod-data.1"))
    if made_anew:
        stub.put("volumesnapshots", "shop", {**ours, "metadata": {"name": "shop-prod-data.1"}})
    with pytest.raises(Refused, match=rf"'shop/shop-prod-data\.1' that it was made from {text}"):
        deploy(world, stub, 2)
    assert len(stub.names("deployments")) == 1
    stub.one("persistentvolumeclaims", "shop-prod-data.1")["status"] = {"phase": "Bound"}
    assert deploy(world, stub, 3) == "shop-prod-data.1", "it is filled: what its source has come to is all the same"


@pytest.mark.parametrize("label", LABELS)
def test_what_a_relabelled_claim_is_yet_to_be_filled_from_is_not_removed(
    world: World, stub: ClusterStub, label: str
) -> None:
    wait_for_pods(stub)
    restore(world)
    claim(stub)["labels"][f"instar/{label}"] = "other"
    with pytest.raises(Refused, match="is yet to be filled from it"):
        world.provider.volumes.snapshots.remove_snapshot(ENV, "data", 1)
    assert stub.names("volumesnapshots") == ["shop-prod-data.1"]


@pytest.mark.parametrize("said", [None, "uid-of-another"])
def test_what_a_claim_is_filled_from_is_signed(world: World, stub: ClusterStub, said: str | None) -> None:
    wait_for_pods(stub)
    restore(world)
    assert deploy(world, stub, 2) == "shop-prod-data.1"
    annotations = claim(stub)["annotations"]
    del annotations["instar/filled-from"]
    annotations.update({} if said is None else {"instar/filled-from": said})
    with pytest.raises(Refused, match="cannot tell"):
        deploy(world, stub, 3)


@pytest.mark.parametrize("verb", ["destroy", "remove"])
def test_a_claim_that_only_says_that_it_is_a_restored_one_is_not_removed(
    world: World, stub: ClusterStub, verb: str
) -> None:
    """Anybody who may make claims can give one our labels and a name like ours; what Instar has signed, nobody."""
    restore(world)
    own = claim(stub)
    labels = {**own["labels"], "instar/turn": "7", "instar/whole": "yes"}
    signature = {"instar/signature": own["annotations"]["instar/signature"]}
    theirs = {"metadata": {"name": "shop-prod-data.7", "labels": labels, "annotations": signature}}
    stub.put("persistentvolumeclaims", "shop", theirs)
    remove(world, verb)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.7"]
    if verb == "destroy":
        (told,) = [one.text for one in world.told if one.kind == "warning" and "stays" in one.text]
        assert "the claim 'shop-prod-data.7' stays" in told and "kubectl delete pvc shop-prod-data.7 -n shop" in told


@pytest.mark.parametrize("verb", ["destroy", "remove"])
@pytest.mark.parametrize("label", LABELS)
def test_a_restored_claim_goes_whatever_somebody_has_written_on_it(
    world: World, stub: ClusterStub, label: str, verb: str
) -> None:
    restore(world)
    claim(stub)["labels"][f"instar/{label}"] = "other"
    remove(world, verb)
    assert stub.names("persistentvolumeclaims") == []


def remove(world: World, verb: str) -> None:
    if verb == "destroy":
        world.provider.forget(ENV, (), volumes=True)
    else:
        world.provider.volumes.remove_volume(ENV, "data")


@pytest.mark.parametrize("verb", ["destroy", "remove"])
@pytest.mark.parametrize("gone", [True, False], ids=["as soon as it was made", "before it had its storage"])
def test_a_claim_that_a_killed_restore_has_begun_goes_with_the_volume(
    world: World, stub: ClusterStub, verb: str, gone: bool, tmp_path: Path
) -> None:
    if gone:
        stub.faults.append(Fault(400, {"message": "gone"}, times=99, fits=lambda method, path: "-data.1" in path))
    stub.bound_claims = False
    with pytest.raises(ProviderError if gone else ProviderUnavailable):
        restore(world)
    stub.faults.clear()
    begun = copy.deepcopy(stub.one("persistentvolumeclaims", "shop-prod-data.1"))
    assert deploy(World(stub, tmp_path, KEPT), stub, 2) == "shop-prod-data", "it counts for nothing"
    claim(stub)["labels"]["instar/volume"] = "other"  # whatever somebody writes on it
    begun["metadata"]["name"] = "shop-prod-data.2"
    stub.put("persistentvolumeclaims", "shop", begun)
    remove(World(stub, tmp_path, KEPT), verb)
    assert stub.names("persistentvolumeclaims") == ["shop-prod-data.2"], "somebody's, with words of another's"
