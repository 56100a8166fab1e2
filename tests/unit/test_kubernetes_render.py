"""What is printed of an environment for review is what a deploy would make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.model.definition import Task, Volume
from instar.model.environment import ScheduledTask, Settings
from instar.model.release import Instance, Release
from instar.operations.documents import _groups
from instar.providers.kubernetes.comparison import differences
from instar.providers.kubernetes.documents import NOT_APPLIED, render
from instar.providers.kubernetes.kinds import VOLUME_CLAIM
from instar.providers.kubernetes.names import TURN, VOLUME, Names
from instar.providers.package import PlannedEnvironment
from instar.providers.router_plan import RouterPlan

DATA = dataclasses.replace(SERVICE, volumes=(Volume(name="data", path="/data", access="exclusive"),))
PLURALS = {
    "ConfigMap": "configmaps",
    "Service": "services",
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "HTTPRoute": "httproutes",
}


def rendered(world: World, release: Release, groups: tuple[Instance, ...], settings: Settings = SETTINGS) -> list[Any]:
    planned = PlannedEnvironment(environment=ENV, settings=settings, release=release, image=world.image, groups=groups)
    return [one for text in render(world.site, planned).values() if (one := yaml.safe_load(text))]


def unmarked(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object without what tells tools to leave it alone, which every one has."""
    own = dict(one["metadata"]["annotations"])
    assert {name: own.pop(name) for name in NOT_APPLIED} == NOT_APPLIED
    return {**one, "metadata": {**one["metadata"], "annotations": own}}


def require_made(stub: ClusterStub, found: list[Any]) -> None:
    for one in map(unmarked, found):
        made = stub.one(PLURALS[one["kind"]], one["metadata"]["name"])
        assert list(differences(one, made)) == [], one["kind"]


def restored(world: World, stub: ClusterStub) -> str:
    """Have a claim in the place of the first one, as a restore leaves it; return its name."""
    names = Names(environment=ENV, ledger="0a1b2c3d")
    name = f"{names.claim('data')}.1"
    labels = {**names.all_labels, VOLUME: "data", TURN: "1"}
    found = stub.put("persistentvolumeclaims", "shop", {"metadata": {"name": name, "labels": labels}})
    api, _, _ = world.provider.cluster.reach(ENV)
    world.provider.cluster.signing.sign(api, VOLUME_CLAIM, "shop", found, "whole")
    return name


def test_every_object_is_the_one_that_a_deploy_makes(world: World, stub: ClusterStub) -> None:
    release = world.release(service=DATA, config={"A": "b"})
    found = rendered(world, release, (group := world.group(release),))
    assert {one["kind"] for one in found} == PLURALS.keys()
    world.provider.create(group, release, world.image)
    world.provider.expose(release, [group], RouterPlan.of(ENV, SETTINGS, DATA))
    world.provider.route(ENV, {group.id: 100})
    (route,) = (one for one in found if one["kind"] == "HTTPRoute")
    require_made(stub, [one for one in found if one is not route])
    made = stub.one("httproutes", "shop-prod")["spec"]
    assert route["spec"]["rules"][-1] == made["rules"][-1], "those before answer Instar's own questions"
    assert {**route["spec"], "rules": None} == {**made, "rules": None}


def test_a_restored_volume_has_the_claim_that_it_has_and_no_other_is_made(world: World, stub: ClusterStub) -> None:
    release = world.release(service=DATA)
    name = restored(world, stub)
    found = rendered(world, release, (group := world.group(release),))
    world.provider.create(group, release, world.image)
    assert stub.names("persistentvolumeclaims") == [name]
    assert "PersistentVolumeClaim" not in {one["kind"] for one in found}
    require_made(stub, [one for one in found if one["kind"] != "HTTPRoute"])


def test_where_a_cluster_cannot_be_asked_for_claims_it_is_said(world: World, stub: ClusterStub) -> None:
    stub.token = "another"
    release = world.release(service=DATA)
    planned = PlannedEnvironment(
        environment=ENV, settings=SETTINGS, release=release, image=world.image, groups=(world.group(release),)
    )
    about = render(world.site, planned)["00-about.yaml"]
    assert "Which claims the volumes have, other ones once restored, is not known" in about
    assert "does not accept these credentials" in about
    assert yaml.safe_load(about) is None


def test_nobody_is_asked_where_there_are_no_volumes(world: World, stub: ClusterStub) -> None:
    release = world.release()
    assert rendered(world, release, (world.group(release),))
    assert stub.asked == []


def test_without_a_gateway_the_service_is_for_review_too(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path, WITHOUT_GATEWAY)
    release = world.release()
    found = rendered(world, release, (world.group(release),), WITHOUT_GATEWAY)
    assert [unmarked(one)["metadata"]["name"] for one in found if one["kind"] == "Service"][-1] == "shop-prod"


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
    found = [one for text in render(world.site, planned).values() if (one := yaml.safe_load(text))]
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert {("Job", "shop-prod-1-1"), ("Deployment", "shop-prod-1-2")} <= names
    (route,) = (one for one in found if one["kind"] == "HTTPRoute")
    assert "shop-prod-1-1" not in str(route)


def test_what_is_made_later_is_told_of(world: World) -> None:
    plain, after = world.release(), dataclasses.replace(SERVICE, after=(Task(command=("warm",)),))
    tasks = {"nightly": ScheduledTask(command=("report",)), "poll": ScheduledTask(command=("poll",))}
    configuration = dataclasses.replace(plain.configuration, service=after, schedule=tasks)

    def about(release: Release) -> str:
        planned = PlannedEnvironment(environment=ENV, settings=SETTINGS, release=release, image=world.image, groups=())
        return render(world.site, planned)["00-about.yaml"]

    assert "Job" not in about(plain)
    said = about(dataclasses.replace(plain, configuration=configuration))
    assert "# Of the schedule (nightly, poll) a Job is made whenever one is due: none is in this.\n" in said
    assert "# Tasks after the release (after) are Jobs too" in said
