"""What every runtime does, as providers/machine_runtime.py says it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from runtime_benches import BENCHES, ENV, MISSING, Kind, RuntimeBench, instance, release

from instar.errors import ProviderError
from instar.model.environment import Allow, Check, Network
from instar.model.release import Command, Instance, Release
from instar.model.survey import differences
from instar.providers.base import NetworkPlan, Observed, Probe, Streams

MADE: list[tuple[Instance, Release]] = []


@pytest.fixture(scope="module", params=BENCHES)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeBench]:
    with request.param(tmp_path_factory.mktemp("home")) as bench:
        yield bench


@pytest.fixture
def bench(machine: RuntimeBench) -> Iterator[RuntimeBench]:
    """With nothing on it. Nothing may be left either: a test destroys what it has created, unless it fails."""
    yield machine
    left = machine.traces()
    names = [one.id for one, _ in MADE]
    while MADE:
        destroy(machine, *MADE.pop())
    machine.runtime.forget(ENV, names, volumes=True)
    assert not left


def destroy(bench: RuntimeBench, one: Instance, of: Release) -> None:
    """Have it destroyed to the end, however long it takes."""
    bench.until(lambda: bench.runtime.destroy(one, of))


def made(bench: RuntimeBench, kind: Kind, *, start: bool = True, task: str | None = None) -> tuple[Instance, Release]:
    of = release(kind, bench)
    one = instance(of, bench, task)
    MADE.append((one, of))
    bench.runtime.create(one, of, bench.image)
    if start:
        bench.runtime.start(one)
    return one, of


def seen(bench: RuntimeBench, one: Instance) -> Observed:
    (found,) = bench.runtime.observe([one])
    return found


def ended(bench: RuntimeBench, one: Instance) -> Observed:
    bench.until(lambda: seen(bench, one).state == "stopped")
    return seen(bench, one)


def said(bench: RuntimeBench, one: Instance) -> list[str]:
    return [line.split(" ", 2)[2] for line in bench.runtime.log_lines(one.id)]


def test_each_has_an_address_of_its_own_that_stays(bench: RuntimeBench) -> None:
    (one, of), (two, _) = made(bench, "worker"), made(bench, "worker", start=False)
    addresses = [bench.runtime.find_address(each) for each in (one, two)]
    assert None not in addresses and len({*addresses}) == 2 and bench.runtime.room_addresses() > 100
    assert [bench.another().find_address(each) for each in (one, two)] == addresses
    assert [each.address for each in bench.runtime.observe([one, two])] == addresses
    for each in (one, two):
        destroy(bench, each, of)
    bench.runtime.release([one.id, two.id])


def test_it_says_how_much_room_there_is_and_what_is_in_the_way(bench: RuntimeBench) -> None:
    assert bench.runtime.room_bytes() > 0
    assert all(isinstance(warning, str) for warning in bench.runtime.warnings())


def test_what_was_not_created_is_absent(bench: RuntimeBench) -> None:
    of = release("worker", bench)
    one = instance(of, bench)
    assert bench.runtime.observe([]) == ()
    assert seen(bench, one).state == "absent"
    probe = bench.runtime.probe(one, of)
    assert not probe.healthy and probe.cause
    with pytest.raises(ProviderError, match=f"cannot start '{one.id}'"):
        bench.runtime.start(one)
    destroy(bench, one, of)


def test_a_created_one_waits(bench: RuntimeBench) -> None:
    of = release("web", bench)
    one = instance(of, bench)
    bench.runtime.create(one, of, bench.image)
    assert seen(bench, one).state == "created"
    assert not bench.runtime.probe(one, of).healthy
    assert list(bench.runtime.log_lines(one.id)) == []
    destroy(bench, one, of)
    assert seen(bench, one).state == "absent"


def test_creating_twice_creates_once(bench: RuntimeBench) -> None:
    one, of = made(bench, "web", start=False)
    process = bench.first_process(one)
    bench.runtime.create(one, of, bench.image)
    bench.another().create(one, of, bench.image)
    bench.runtime.start(one)
    bench.runtime.create(one, of, bench.image)
    assert bench.first_process(one) == process is not None
    assert seen(bench, one).state == "running"
    destroy(bench, one, of)


def test_a_started_one_runs_and_gets_healthy(bench: RuntimeBench) -> None:
    one, of = made(bench, "web", start=False)
    process = bench.first_process(one)
    bench.runtime.start(one)
    bench.runtime.start(one)
    bench.another().start(one)
    assert seen(bench, one).state == "running" and bench.first_process(one) == process is not None
    bench.until(lambda: bench.runtime.probe(one, of).healthy)
    assert bench.another().probe(one, of).healthy
    assert said(bench, one) == ["serving"]
    destroy(bench, one, of)


def test_without_a_health_check_it_is_well_while_it_lives(bench: RuntimeBench) -> None:
    one, of = made(bench, "worker")
    assert bench.runtime.probe(one, of).healthy
    bench.kill(one)
    ended(bench, one)
    assert not bench.runtime.probe(one, of).healthy
    destroy(bench, one, of)


def test_what_came_instead_of_health_is_said(bench: RuntimeBench) -> None:
    one, of = made(bench, "ill")
    bench.until(lambda: "answered 404" in bench.runtime.probe(one, of).cause)
    assert not bench.runtime.probe(one, of).healthy
    assert seen(bench, one).state == "running"
    destroy(bench, one, of)


def test_one_that_ended_says_how_and_does_not_start_again(bench: RuntimeBench) -> None:
    one, of = made(bench, "brief")
    found = ended(bench, one)
    assert found.exit_status == 3
    assert not bench.runtime.probe(one, of).healthy
    assert said(bench, one) == ["going"]
    destroy(bench, one, of)
    assert seen(bench, one).state == "absent"


def test_one_that_was_killed_is_seen_by_everybody(bench: RuntimeBench) -> None:
    one, of = made(bench, "worker")
    bench.kill(one)
    assert ended(bench, one).exit_status == 137
    assert bench.another().observe([one]) == (seen(bench, one),)
    destroy(bench, one, of)


def test_a_command_that_is_not_in_the_image_is_named_and_nothing_stays(bench: RuntimeBench) -> None:
    of = release("missing", bench)
    one = instance(of, bench)
    with pytest.raises(ProviderError, match=f"cannot create '{one.id}'.*{MISSING}"):
        bench.runtime.create(one, of, bench.image)
    assert seen(bench, one).state == "absent"
    assert bench.traces() == bench.traces()[:0]


@pytest.mark.parametrize("kind", ["web", "brief"])
def test_destroying_leaves_the_log_until_it_is_forgotten(bench: RuntimeBench, kind: Kind) -> None:
    one, of = made(bench, kind)
    bench.until(lambda: said(bench, one) != [])
    destroy(bench, one, of)
    destroy(bench, one, of)
    bench.another().destroy(one, of)
    assert seen(bench, one).state == "absent"
    (line,) = bench.runtime.log_lines(one.id)
    time, stream, text = line.split(" ", 2)
    assert datetime.fromisoformat(time).tzinfo and stream == "stdout" and text
    assert list(bench.another().log_lines(one.id, last=5)) == [line]
    assert list(bench.runtime.log_lines(one.id, last=0)) == []
    bench.runtime.forget(ENV, [f"{one.id}1"], volumes=False)
    assert list(bench.runtime.log_lines(one.id)) == [line]
    bench.runtime.forget(ENV, [one.id], volumes=False)
    bench.runtime.forget(ENV, [one.id], volumes=False)
    assert list(bench.runtime.log_lines(one.id)) == []


def test_a_destroyed_one_can_be_created_again(bench: RuntimeBench) -> None:
    one, of = made(bench, "worker")
    before = bench.first_process(one)
    destroy(bench, one, of)
    bench.runtime.create(one, of, bench.image)
    assert bench.first_process(one) not in (None, before)
    assert seen(bench, one).state == "created"
    destroy(bench, one, of)


def test_several_at_once_are_observed_in_the_order_that_was_asked(bench: RuntimeBench) -> None:
    of = release("worker", bench)
    ones = [instance(of, bench) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: bench.runtime.create(one, of, bench.image), ones))
        assert {len({*map(found, ones)}) for found in (bench.first_process, bench.runtime.find_address)} == {4}
        list(threads.map(bench.runtime.start, ones[:2]))
    asked = [ones[3], ones[0], ones[3], ones[1]]
    found = bench.runtime.observe(asked)
    assert [each.id for each in found] == [one.id for one in asked]
    assert [each.state for each in found] == ["created", "running", "created", "running"]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: destroy(bench, one, of), ones))


def test_only_what_is_unknown_is_an_orphan(bench: RuntimeBench) -> None:
    known, of = made(bench, "worker")
    unknown, waiting = instance(of, bench), instance(of, bench)

    def somebody_who_dies() -> None:
        for one in (unknown, waiting):
            bench.runtime.create(one, of, bench.image)
        bench.runtime.start(unknown)

    bench.in_another_process(somebody_who_dies)
    assert [each.state for each in bench.runtime.observe([known, unknown, waiting])] == [
        "running",
        "running",
        "created",
    ]
    assert sorted(bench.another().clear_orphans(lambda: [known])) == sorted([unknown.id, waiting.id])
    assert [each.state for each in bench.runtime.observe([known, unknown, waiting])] == ["running", "absent", "absent"]
    assert bench.runtime.clear_orphans(lambda: [known]) == ()
    destroy(bench, known, of)


def test_a_task_runs_instead_of_the_service(bench: RuntimeBench) -> None:
    one, of = made(bench, "tasks", start=False, task="before 1")
    process = bench.first_process(one)
    assert seen(bench, one).state == "created" and process is not None
    bench.another().create(one, of, bench.image)
    assert bench.first_process(one) == process
    assert said(bench, one) == []
    bench.runtime.start(one)
    found = ended(bench, one)
    assert found.exit_status == 0
    assert said(bench, one) == ["migrated"]
    destroy(bench, one, of)
    assert seen(bench, one).state == "absent"
    assert said(bench, one) == ["migrated"]


def test_a_task_that_failed_says_how(bench: RuntimeBench) -> None:
    one, of = made(bench, "tasks", task="before 2")
    assert ended(bench, one).exit_status == 4
    assert bench.another().observe([one]) == (seen(bench, one),)
    assert said(bench, one) == ["trying"]
    destroy(bench, one, of)


def test_a_task_beside_its_service_is_another_instance(bench: RuntimeBench) -> None:
    web, of = made(bench, "tasks")
    task, _ = made(bench, "tasks", task="before 3")
    assert [each.state for each in bench.runtime.observe([web, task])] == ["running", "running"]
    bench.until(lambda: bench.runtime.probe(web, of).healthy)
    assert not bench.runtime.probe(task, of).healthy
    bench.kill(task)
    assert ended(bench, task).exit_status == 137
    assert seen(bench, web).state == "running"
    for one in (task, web):
        destroy(bench, one, of)


def test_a_task_that_nobody_knows_is_an_orphan(bench: RuntimeBench) -> None:
    of = release("tasks", bench)
    unknown = instance(of, bench, "before 3")

    def somebody_who_dies() -> None:
        bench.runtime.create(unknown, of, bench.image)
        bench.runtime.start(unknown)

    bench.in_another_process(somebody_who_dies)
    assert bench.runtime.clear_orphans(lambda: [unknown]) == ()
    assert seen(bench, unknown).state == "running"
    assert bench.runtime.clear_orphans(lambda: []) == (unknown.id,)
    assert seen(bench, unknown).state == "absent"


def test_the_command_of_a_task_that_is_not_in_the_image_is_looked_for_where_it_was_written(
    bench: RuntimeBench,
) -> None:
    of = release("tasks", bench)
    one = instance(of, bench, "after 1")
    with pytest.raises(ProviderError, match=f"cannot create '{one.id}'.*{MISSING}") as failure:
        bench.runtime.create(one, of, bench.image)
    assert failure.value.hint and failure.value.hint.startswith("service.after, task 1 in the definition")
    assert seen(bench, one).state == "absent"
    nothing = instance(of, bench, "after 2")
    with pytest.raises(ProviderError, match=f"cannot create '{nothing.id}': release 6 has no task 'after 2'"):
        bench.runtime.create(nothing, of, bench.image)
    assert seen(bench, nothing).state == "absent"


@pytest.mark.parametrize(
    ("check", "cause"),
    [
        (Check(kind="http", path="/"), ""),
        (Check(kind="http", path="/", status=200, contains="well"), ""),
        (Check(kind="http", path="/nowhere"), "GET /nowhere answered "),
        (Check(kind="http", path="/index.html", contains="ill?"), "GET /index.html does not contain 'ill?'"),
        (Check(kind="command", command=("true",)), ""),
        (Check(kind="command", command=("false",)), "'false' ended with exit status 1"),
    ],
)
def test_a_check_of_a_running_one_is_answered(bench: RuntimeBench, check: Check, cause: str) -> None:
    one, of = made(bench, "web")
    bench.until(lambda: bench.runtime.probe(one, of).healthy)
    probe = bench.runtime.check(one, of, check)
    assert probe.healthy == (not cause)
    assert probe.cause.startswith(cause) and bool(probe.cause) == bool(cause)
    destroy(bench, one, of)


def test_what_does_not_run_passes_no_check(bench: RuntimeBench) -> None:
    of = release("web", bench)
    one = instance(of, bench)
    asked = [Check(kind="http", path="/"), Check(kind="command", command=("true",))]
    nothing = Probe(healthy=False, cause="it is not running")
    assert [bench.runtime.check(one, of, check) for check in asked] == [nothing, nothing]
    bench.runtime.create(one, of, bench.image)
    assert [bench.runtime.check(one, of, check) for check in asked] == [nothing, nothing]
    destroy(bench, one, of)


def test_a_shell_ends_with_its_command_s_status_and_shows_what_that_changed(bench: RuntimeBench) -> None:
    one, of = made(bench, "web")
    bench.until(lambda: bench.runtime.probe(one, of).healthy)
    assert opened(bench, one, of, "exit 7") == (7, ())
    assert opened(bench, one, of, "touch /tmp/me") == (0, ("/tmp/me",))
    destroy(bench, one, of)
    with pytest.raises(ProviderError, match=f"cannot open a shell in '{one.id}': it does not run"):
        bench.runtime.open_shell(one, of, toolbox=False)


def opened(bench: RuntimeBench, one: Instance, of: Release, command: str) -> tuple[int | None, tuple[str, ...]]:
    """Run a command with a shell; return its exit status, and the files that differ."""
    shell = bench.runtime.open_shell(one, of, toolbox=False)
    before = shell.survey()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        shell.begin(command, Streams(stdin=null, stdout=null, stderr=null), term="dumb")
        status = shell.wait()
    finally:
        os.close(null)
        shell.close()
    after = shell.survey()
    assert before and after
    return status, tuple(found.name for found in differences(before, after))


def test_a_command_in_an_instance_of_its_own_has_its_streams_and_gives_its_status(bench: RuntimeBench) -> None:
    of = release("web", bench)
    one = dataclasses.replace(instance(of, bench, "run 1"), command=Command(argv=("true",)))
    MADE.append((one, of))
    bench.runtime.create(one, of, bench.image)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(ProviderError, match="does not run"):
            bench.runtime.attach(one, of, Streams(stdin=null, stdout=null, stderr=null))
        bench.runtime.start(one)
        bench.until(lambda: seen(bench, one).state == "running")
        attachment = bench.runtime.attach(one, of, Streams(stdin=null, stdout=null, stderr=null))
        assert attachment.wait() == 0
        attachment.resized()
        attachment.end()
        attachment.close()
    finally:
        os.close(null)
    destroy(bench, one, of)
    assert seen(bench, one).state == "absent"


def test_what_may_be_reached_is_said_once_and_known_to_everybody(bench: RuntimeBench) -> None:
    allowed = Network(allow=(Allow(to="contract/later", ports=("80/tcp", "53/udp")), Allow(to="machine")))
    plan = NetworkPlan(environment=ENV, network=allowed, listen=("127.0.0.1:8080", "0.0.0.0:8081", "[::1]:8082"))
    bench.runtime.name(ENV, 8080)
    assert bench.another().network_plan(ENV) is None, "to be found by others says nothing of what it may reach"
    for wanted in (plan, plan, NetworkPlan(environment=ENV, network=Network(connections=99), listen=())):
        bench.runtime.set_network(wanted)
        assert bench.another().network_plan(ENV) == wanted
    one, of = made(bench, "web")
    bench.until(lambda: bench.runtime.probe(one, of).healthy)
    bench.runtime.name(ENV, 8081)
    assert bench.runtime.network_plan(ENV) == wanted, "an instance that is made, or a name, changes nothing of it"
    destroy(bench, one, of)
    bench.runtime.forget(ENV, [one.id], volumes=False)
    assert bench.another().network_plan(ENV) is None
