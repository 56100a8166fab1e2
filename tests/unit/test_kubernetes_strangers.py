"""What others in a namespace can do with the labels and names that Instar knows its own by, and an API that lies."""

from __future__ import annotations

import copy
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, World

from cluster_stub import ClusterStub, Fault
from instar.definition.cluster_forms import annotation
from instar.definition.forms import Misfit
from instar.errors import InstarError, NotFound, ProviderError, Refused
from instar.model.definition import Volume
from instar.model.environment import Check
from instar.providers.facets import Member
from instar.providers.kubernetes import checks
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.observation import is_of

OURS = {"instar/service": "shop", "instar/environment": "prod", "instar/ledger": "0a1b2c3d"}
BEGAN = {"creationTimestamp": "2020-01-01T00:00:00Z"}


def stranger(stub: ClusterStub, name: str, labels: dict[str, str], plural: str = "pods") -> None:
    stub.put(plural, "shop", {"metadata": {"name": name, "labels": labels, **BEGAN}, "spec": {}})


def member(name: str, group: str) -> Member:
    at = datetime(2020, 1, 1, tzinfo=UTC)
    return Member(
        name=name, group=group, wanted=1, own=False, serves=True, ready=True, tainted=True, began_at=at, until=None
    )


def test_a_pod_of_somebody_else_s_that_is_labelled_as_tainted_is_never_ended(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    stranger(stub, "database-0", {**OURS, "instar/tainted": group.id})
    assert "database-0" not in {one.name for one in world.provider.members.members(ENV)}
    world.provider.members.end_all(ENV)
    assert "deletionTimestamp" not in stub.one("pods", "database-0")["metadata"]


def test_one_with_the_label_of_a_group_too_leaves_it_and_stays(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    stranger(stub, "database-0", {**OURS, "instar/tainted": group.id, "instar/group": group.id})
    world.provider.members.end_all(ENV)
    kept = stub.one("pods", "database-0")["metadata"]
    assert "deletionTimestamp" not in kept and not {"instar/group", "instar/tainted"} & {
        name for name, value in kept["labels"].items() if value is not None
    }


def test_what_a_lying_api_calls_a_group_leads_out_of_no_folder(world: World, stub: ClusterStub, tmp_path: Path) -> None:
    world.create(world.release())
    up = "../../../outside"
    stranger(stub, f"{up}-0", {**OURS, "instar/tainted": up})
    assert up not in {one.group for one in world.provider.members.members(ENV)}
    with pytest.raises(InstarError):
        world.provider._logs._file(up)
    assert not list(tmp_path.rglob("outside.log")) and not (tmp_path.parent / "outside.log").exists()


@pytest.mark.parametrize("more", [{}, {"instar/service": "another"}, {**OURS, "instar/ledger": "ffffffff"}])
def test_a_pod_that_says_only_of_which_group_it_is_is_seen_and_not_taken_for_the_engine_s(
    more: dict[str, str], world: World, stub: ClusterStub
) -> None:
    group = world.create(world.release())
    stranger(stub, "database-0", {"instar/group": group.id, **more})
    members = {one.name: one for one in world.provider.members.members(ENV)}
    assert len(members) == 3 and (members["database-0"].serves, members["database-0"].own) == (True, False)


def test_nothing_of_a_stranger_s_is_told_as_what_a_group_printed(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release(), members=1)
    printed = list(world.provider.log_lines(group.id))
    stub.asked.clear()
    stranger(stub, "stranger", {"instar/group": group.id})
    assert list(world.provider.log_lines(group.id)) == printed
    assert not any("stranger" in path for _, path in stub.asked)


def test_a_group_is_not_one_whose_name_it_begins_with() -> None:
    def pod(owner: str) -> Any:
        return {"metadata": {"ownerReferences": [{"controller": True, "name": owner}]}}

    assert is_of(pod("shop-prod-1-1-6f7b9"), "shop-prod-1-1") and is_of(pod("shop-prod-1-1"), "shop-prod-1-1")
    assert not is_of(pod("shop-prod-1-10-6f7b9"), "shop-prod-1-1")


def test_a_claim_of_somebody_else_s_with_our_labels_is_never_removed(world: World, stub: ClusterStub) -> None:
    stranger(stub, "database", {**OURS, "instar/volume": "data"}, "persistentvolumeclaims")
    assert world.provider.volumes.volumes() == ()
    with pytest.raises(NotFound):
        world.provider.volumes.remove_volume(ENV, "data")
    service = dataclasses.replace(world.release().service, volumes=(Volume(name="data", path="/data"),))
    world.create(world.release(service=service))
    world.provider.forget(ENV, (), volumes=True)
    assert stub.names("persistentvolumeclaims") == ["database"]


@pytest.mark.parametrize("change", ["image", "init", "host", "config", "owner", "selector"])
def test_what_somebody_made_before_under_our_name_is_not_taken_for_ours(
    world: World, stub: ClusterStub, change: str
) -> None:
    release = world.release(config={"GREETING": "hello"})
    group = world.create(release)
    world.provider.create(group, release, world.image)  # what a killed one has left is gone on with
    plural, name = {"config": ("configmaps", f"{group.id}-config"), "selector": ("services", group.id)}.get(
        change, ("deployments", group.id)
    )
    made = copy.deepcopy(stub.one(plural, name))
    if plural == "deployments":
        spec = made["spec"]["template"]["spec"]
        if change == "image":
            spec["containers"][0]["image"] = "evil.example/shop@sha256:" + "0" * 64
        elif change == "init":
            spec["initContainers"] = [{"name": "evil", "image": "evil"}]
        elif change == "host":
            spec["hostPID"] = True
        else:
            made["metadata"]["ownerReferences"] = []
    elif change == "config":
        made["data"]["GREETING"] = "evil"
    else:
        made["spec"]["selector"] = {"app": "evil"}
    stub.objects[plural, "shop", name] = made
    with pytest.raises(Refused, match="which was there before: it is not as Instar makes it"):
        world.provider.create(group, release, world.image)


def api(stub: ClusterStub, folder: Path, token: str = "good") -> Api:
    environ = {"KUBECONFIG": str(stub.kubeconfig(folder, {"token": token})), "HOME": str(folder)}
    return Api(find_config("stub", environ), environ)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"items":' + b'{"a":' * 100_000,
        b'{"items": 5}',
        b'{"items": ["a"]}',
        b'{"items": [{"metadata": []}]}',
        b'{"items": [{"metadata": {"name": 5}}]}',
        b'{"items": [{"metadata": {"name": "a", "labels": {"b": {}}}}]}',
        b'{"items": [{"metadata": {"name": "a"}, "spec": "b"}]}',
    ],
)
def test_an_api_that_answers_with_something_else_is_an_error_with_a_message(
    stub: ClusterStub, tmp_path: Path, body: bytes
) -> None:
    stub.faults.append(Fault(200, body))  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="the cluster answers"):
        api(stub, tmp_path).list(POD, "shop", {})


def test_a_refusal_that_is_nested_without_end_is_an_error_with_a_message(stub: ClusterStub, tmp_path: Path) -> None:
    stub.faults.append(Fault(400, b"[" * 200_000))  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="cannot list pods"):
        api(stub, tmp_path).list(POD, "shop", {})
    stub.faults.append(Fault(409, {"details": ["x"]}))  # type: ignore[dict-item]
    with pytest.raises(ProviderError, match="cannot list pods"):
        api(stub, tmp_path).list(POD, "shop", {})


def test_a_list_without_an_end_is_given_up(stub: ClusterStub, tmp_path: Path) -> None:
    stub.faults.append(Fault(200, {"items": [], "metadata": {"continue": "more"}}, times=100_000))
    with pytest.raises(ProviderError, match="their list has no end"):
        api(stub, tmp_path).list(POD, "shop", {})
    assert len(stub.asked) < 1_000


def test_an_answer_of_any_size_fills_no_memory(
    stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from instar.providers.kubernetes import api as module
    from instar.providers.kubernetes.reading import Limits

    monkeypatch.setattr(module, "_WHOLE", Limits(most_bytes=1 << 20, within_s=60.0))
    stub.faults.append(Fault(200, b" " * (2 << 20)))  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="more than 1 MiB at once"):
        api(stub, tmp_path).find(POD, "shop", "a")


def test_of_what_an_instance_answers_to_a_check_only_the_beginning_is_read(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release, members=1)
    end = b"x" * (1 << 20) + b"the end"
    stub.faults.append(Fault(200, end, fits=lambda _, path: "proxy" in path))  # type: ignore[arg-type]
    asked = Check(kind="http", path="/", contains="the end")
    assert not world.provider.ask(group, release, asked).healthy


def test_of_what_an_address_answers_to_a_check_only_the_beginning_is_read(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release, members=1)
    stub.answer = lambda *_: (200, b"x" * (1 << 20) + b"the end", {})  # type: ignore[method-assign]
    asked = Check(kind="url", url=stub.url, contains="the end")
    assert not checks.ask(world.provider.cluster.reach(ENV)[0], "shop", [group.id], release.service, asked).healthy
    assert checks.ask(
        world.provider.cluster.reach(ENV)[0], "shop", [], release.service, dataclasses.replace(asked, contains="xx")
    ).healthy


@pytest.mark.parametrize("written", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"])
def test_no_time_that_a_stranger_writes_holds_up_the_members_of_an_environment(
    world: World, stub: ClusterStub, written: str
) -> None:
    group = world.create(world.release())
    labels = {**OURS, "instar/tainted": group.id}
    annotations = {"instar/aside-at": written}
    stub.put(
        "pods", "shop", {"metadata": {"name": f"{group.id}-x", "labels": labels, "annotations": annotations, **BEGAN}}
    )
    found = {one.name: one for one in world.provider.members.members(ENV)}
    assert f"{group.id}-x" in found and found[f"{group.id}-x"].until == datetime(2020, 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("after", ["nan", "inf", "-inf", "1e999"])
def test_an_api_that_says_no_number_of_seconds_is_asked_again_soon(
    stub: ClusterStub, tmp_path: Path, after: str
) -> None:
    stub.faults.append(Fault(429, headers={"Retry-After": after}))
    with pytest.raises(ProviderError) as caught:
        api(stub, tmp_path).list(POD, "shop", {})
    assert caught.value.retry_after_s == 1.0


def test_a_token_that_cannot_be_sent_is_never_in_a_message(stub: ClusterStub, tmp_path: Path) -> None:
    for token in ("sekret\n", "sekret\x00"):
        with pytest.raises(ProviderError, match="credentials cannot be sent") as caught:
            api(stub, tmp_path, token).list(POD, "shop", {})
        assert "sekr" not in f"{caught.value.message} {caught.value.hint}"
        assert caught.value.__cause__ is None


def test_a_folder_that_is_somebody_else_s_is_not_uninstalled(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from instar.model.state import StateDirectory
    from instar.operations.uninstall import plan_uninstall

    for name in ("logs", "secrets", "run"):
        (tmp_path / name).mkdir()
    workspace: Any = SimpleNamespace(state=StateDirectory(tmp_path, tmp_path / "run"))
    with pytest.raises(Refused, match="nothing says that"):
        plan_uninstall(workspace)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["logs", "run", "secrets"]


@pytest.mark.parametrize(
    "name",
    [
        "container.apparmor.security.beta.kubernetes.io/service",
        "seccomp.security.alpha.kubernetes.io/pod",
        "kubernetes.io/config.mirror",
        "io.kubernetes.cri-o.userns-mode",
    ],
)
def test_no_definition_has_a_pod_confined_otherwise_by_an_annotation(name: str) -> None:
    with pytest.raises(Misfit):
        annotation(name)
    assert annotation("kubectl.kubernetes.io/default-container")
