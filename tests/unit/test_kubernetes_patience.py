"""What a group is made of is asked of a cluster object by object: one that is refused is asked for again by itself."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes_values import ENV, SERVICE, World

from cluster_stub import ClusterStub, Fault
from instar.errors import ProviderUnavailable
from instar.model.definition import Volume
from instar.model.lease import HeldLease
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between two tries, which nobody waits for; each is as long as it says."""
    made: list[float] = []
    clock = SimpleNamespace(sleep=made.append, monotonic=lambda: sum(made))
    monkeypatch.setattr("instar.waiting.time", clock)
    return made


@pytest.mark.parametrize(("status", "after"), [(429, 7.0), (500, 1.0), (503, 1.0), (504, 1.0)])
def test_an_answer_that_means_not_now_is_transient(
    world: World, stub: ClusterStub, pauses: list[float], status: int, after: float
) -> None:
    headers = {"Retry-After": "7"} if status == 429 else {}
    busy = Fault(status, {"message": "busy"}, headers=headers, times=99, fits=lambda method, _: method == "POST")
    stub.faults = [busy]
    with pytest.raises(ProviderUnavailable, match=f"the cluster says {status}: busy") as caught:
        world.create(world.release())
    assert caught.value.retry_after_s == after
    assert sum(pauses) >= 5.0, "it is asked again for a moment"
    stub.faults = []
    world.create(world.release())


def test_what_a_group_is_made_of_is_asked_for_again_one_by_one(
    world: World, stub: ClusterStub, pauses: list[float]
) -> None:
    """Begun anew from the first object with each refusal, it would never come to its end."""
    world.create(world.release())
    made = {kind for kind, *_ in stub.objects}
    stub.objects = {key: one for key, one in stub.objects.items() if key[0] in ("namespaces", "gateways")}
    asked: Counter[str] = Counter()

    def twice_of_three(method: str, path: str) -> bool:
        asked[f"{method} {path}"] += 1
        return asked[f"{method} {path}"] % 3 != 0

    stub.faults = [Fault(503, {"message": "busy"}, times=99, fits=twice_of_three)]
    world.create(world.release())
    assert {kind for kind, *_ in stub.objects} == made
    assert pauses == [1.0] * len(pauses) and len(pauses) >= 2 * len(made - {"namespaces", "gateways", "pods"})


def test_an_answer_that_was_lost_does_nothing_twice(world: World, stub: ClusterStub, pauses: list[float]) -> None:
    def of_deployments(method: str, path: str) -> bool:
        return "deployments" in path and method == "POST"

    stub.faults = [Fault(504, {"message": "timeout"}, fits=of_deployments, done=True)]
    world.create(world.release())
    assert pauses == [1.0]
    before = dict(stub.one("deployments", "shop-prod-1-1"))
    world.create(world.release())
    assert stub.one("deployments", "shop-prod-1-1") == before


def test_a_server_that_takes_a_call_and_never_answers_is_not_waited_for_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.connection.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        context = {"name": "a", "context": {"cluster": "a"}}
        found = {"clusters": [{"name": "a", "cluster": where}], "contexts": [context]}
        (tmp_path / "kubeconfig").write_text(json.dumps(found))
        environ = {"KUBECONFIG": str(tmp_path / "kubeconfig")}
        with pytest.raises(ProviderUnavailable, match="does not answer"):
            Api(find_config("a", environ), environ).find(NAMESPACE, None, "shop")


@pytest.mark.parametrize("plural", ["pods", "deployments", "persistentvolumeclaims", "leases"])
def test_the_end_of_an_environment_goes_on_after_a_question_without_an_answer(
    world: World, stub: ClusterStub, pauses: list[float], plural: str
) -> None:
    data = Volume(name="data", path="/data", access="shared")
    world.create(world.release(service=dataclasses.replace(SERVICE, volumes=(data,))))
    world.held = HeldLease(holder="one", number=1)
    stub.faults = [Fault(503, {"message": "busy"}, times=3, fits=lambda _, path: f"/{plural}" in path)]
    world.provider.forget(ENV, (), volumes=True)
    assert stub.names("persistentvolumeclaims") == [] and stub.names("leases") == []
    assert len(pauses) == 3


def test_an_environment_ends_not_for_ever_where_the_cluster_gives_no_answer(
    world: World, stub: ClusterStub, pauses: list[float]
) -> None:
    world.create(world.release())
    stub.faults = [Fault(503, {"message": "busy"}, times=9999, fits=lambda method, path: "/pods" in path)]
    with pytest.raises(ProviderUnavailable, match="busy"):
        world.provider.forget(ENV, (), volumes=False)
    assert 110 < sum(pauses) < 130
