"""The Job of what is due by the clock is called after that: a second one is refused, and the first is taken for it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from kubernetes_values import ENV, World

from cluster_stub import ClusterStub, Fault
from instar.errors import Refused
from instar.model.occurrence import Occurrence
from instar.model.release import Command, EnvironmentId, Instance
from instar.providers.kubernetes.names import job_name
from instar.providers.kubernetes.observation import is_name_of

DUE = datetime(2026, 11, 30, 2, 0, tzinfo=UTC)


@pytest.fixture
def stub(stub: ClusterStub) -> ClusterStub:
    stub.ends_at_once = True
    return stub


def scheduled(world: World, serial: int = 1, entry: str = "nightly", number: int = 1) -> Instance:
    task = Occurrence(entry=entry, due_at=DUE, number=number).name
    made = world.group(world.release(), serial, members=1, task=task)
    return dataclasses.replace(made, command=Command(argv=("work",)))


def create(world: World, group: Instance) -> None:
    world.provider.create(group, world.release(), world.image)


def test_it_is_called_after_its_entry_and_time_whichever_group_it_is_of(world: World) -> None:
    name = job_name(scheduled(world))
    assert name.startswith("shop-prod-nightly-20261130020000-")
    assert name == job_name(scheduled(world, serial=7))
    assert len({name, job_name(scheduled(world, number=2)), job_name(scheduled(world, entry="weekly"))}) == 3


@pytest.mark.parametrize("entry", ["a", "n" * 63, "a-b-" + "c" * 50, "Nightly_dump.old"])
def test_any_entry_has_a_name_with_room_for_that_of_its_pod(world: World, entry: str) -> None:
    group = scheduled(world, entry=entry)
    long = dataclasses.replace(group, environment=EnvironmentId(service="s" * 40, name="production"))
    for name in (job_name(group), job_name(long)):
        assert len(name) <= 57 and name == name.lower() and "--" not in name
    assert is_name_of(f"{job_name(group)}-x7k2p", group.id)


def test_entries_that_are_cut_alike_and_other_environments_are_others(world: World) -> None:
    group = scheduled(world, entry="a-b")
    other = dataclasses.replace(scheduled(world, entry="b"), environment=EnvironmentId(service="shop", name="prod-a"))
    assert job_name(group) != job_name(other)
    assert job_name(scheduled(world, entry="n" * 60 + "x")) != job_name(scheduled(world, entry="n" * 60 + "y"))


def test_what_is_run_by_hand_is_called_after_its_group(world: World) -> None:
    group = dataclasses.replace(scheduled(world), task=Occurrence(entry="nightly", number=3).name)
    assert job_name(group) == group.id
    release_task = dataclasses.replace(scheduled(world), task="before 1", command=None)
    assert job_name(release_task) == release_task.id


def test_of_two_that_begin_it_one_job_is_made_and_both_see_its_end(world: World, stub: ClusterStub) -> None:
    first, second = scheduled(world), scheduled(world, serial=2)
    create(world, first)
    create(world, second)
    assert stub.names("jobs") == [job_name(first)]
    for group in (first, second):
        seen = world.provider.observe(ENV, [group]).groups[0]
        assert (seen.state, seen.exit_status) == ("stopped", 0)
    world.provider.destroy(second, world.release())
    assert stub.names("jobs") == stub.names("pods") == []
    assert world.provider.destroy(first, world.release())


def test_an_answer_that_was_lost_makes_no_second_one(world: World, stub: ClusterStub) -> None:
    stub.faults.append(Fault(503, done=True, fits=lambda method, path: method == "POST" and path.endswith("/jobs")))
    group = scheduled(world)
    create(world, group)  # each object is asked for again by itself
    create(world, group)
    assert stub.names("jobs") == [job_name(group)]


def test_a_job_of_that_name_that_is_another_s_is_told_and_left(world: World, stub: ClusterStub) -> None:
    group = scheduled(world)
    theirs = {"metadata": {"name": job_name(group)}, "spec": {"template": {"metadata": {}, "spec": {}}}}
    made = stub.put("jobs", "shop", theirs)
    with pytest.raises(Refused, match="it is not Instar's for 'shop/prod'"):
        create(world, group)
    assert stub.one("jobs", job_name(group)) == made


def test_ours_for_another_time_is_not_taken_for_it(world: World, stub: ClusterStub) -> None:
    first = scheduled(world)
    create(world, first)
    job = stub.one("jobs", job_name(first))
    job["metadata"]["annotations"]["instar/occurrence"] = "schedule nightly 2026-11-29T02:00:00Z"
    with pytest.raises(Refused, match="not as Instar makes it"):
        create(world, scheduled(world, serial=2))


def test_a_job_with_labels_that_anybody_wrote_ends_no_group(world: World, stub: ClusterStub) -> None:
    serving = world.create(world.release(), serial=5)
    group = scheduled(world)
    create(world, group)
    job = stub.one("jobs", job_name(group))
    job["metadata"]["labels"]["instar/group"] = serving.id
    world.provider.destroy(group, world.release())
    assert serving.id in stub.names("configmaps")
