"""What other tests build on: the simulator writes down each task that was begun, and sends a task no requests."""

from __future__ import annotations

import dataclasses

from instar.model.definition import Task
from instar.model.environment import Check
from simulated import Behaviour, Simulation
from simulated.values import image, instance, release

OF = release(before=(Task(command=("migrate",)),))
TASK = dataclasses.replace(instance(1, of=OF), task="before 1")


def test_a_task_is_written_down_once_it_began_and_never_gets_traffic() -> None:
    runtime = Simulation().runtime
    runtime.create(TASK, OF, image())
    assert runtime.tasks_run == []
    runtime.start(TASK)
    runtime.start(TASK)
    assert runtime.tasks_run == [(1, "before 1")]
    assert not runtime.well_at(runtime.find_address(TASK) or "", 8080)
    runtime.destroy(TASK, OF)
    web = instance(2, of=OF)
    runtime.create(web, OF, image())
    runtime.start(web)
    assert runtime.tasks_run == [(1, "before 1")]
    assert runtime.well_at(runtime.find_address(web) or "", 8080)


def test_the_narrowest_behaviour_counts() -> None:
    simulation = Simulation()
    runtime = simulation.runtime
    runtime.behave(1, Behaviour(task_exit_status=1))
    runtime.behave((1, "before 1"), Behaviour(task_lasts_s=30, task_exit_status=2))
    runtime.create(TASK, OF, image())
    runtime.start(TASK)
    assert runtime.observe([TASK])[0].state == "running"
    simulation.clock.sleep(31)
    (ended,) = runtime.observe([TASK])
    assert (ended.state, ended.exit_status) == ("stopped", 2)


def test_a_check_fails_by_what_it_asks_for_and_until_that_is_changed() -> None:
    simulation = Simulation()
    runtime, web, ask = simulation.runtime, instance(2, of=OF), Check(kind="url", url="https://example.org/")
    runtime.behave(1, Behaviour(fails_checks={"https://example.org/"}))
    runtime.create(web, OF, image())
    runtime.start(web)
    assert runtime.check(web, OF, ask).cause == "GET https://example.org/ answered 500"
    assert runtime.check(web, OF, Check(kind="command", command=("true",))).healthy
    runtime.change(web.id, fails_checks=())
    assert runtime.check(web, OF, ask).healthy
    assert runtime.checked == [(web.id, "https://example.org/"), (web.id, "true"), (web.id, "https://example.org/")]
    began = simulation.clock.peek()
    runtime.change(web.id, hangs=True)
    assert runtime.check(web, OF, Check(kind="http", path="/x")).cause == "GET /x did not answer within 10 s"
    assert (simulation.clock.peek() - began).total_seconds() == 10
