"""Tasks and checks with the real runc: what a task has of its release, and what a check leaves behind."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest
from tiny_world import TinyWorld, wait_until

from instar.errors import ProviderError
from instar.model.definition import Health, Stop, Task, Volume
from instar.model.environment import Check
from instar.model.release import Instance, Release
from instar.providers.base import Probe
from instar.providers.local import allocations, record

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=2_000)


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


def begun(world: TinyWorld, release: Release, task: str) -> Instance:
    instance = dataclasses.replace(world.instance(release), task=task)
    world.runtime.create(instance, release, world.image)
    world.runtime.start(instance)
    return instance


def printed(world: TinyWorld, instance: Instance) -> list[str]:
    return [line.split(" ", 2)[2] for line in world.runtime.log_lines(instance.id)]


def test_a_task_has_what_its_service_has(world: TinyWorld) -> None:
    digest = world.keep_secret(b"hush\n")
    script = (
        "id -u; echo $GREETING $INSTAR_RELEASE; cat /run/secrets/TOKEN; echo new >/var/lib/tiny/form; ps -o pid,args"
    )
    release = world.release(
        ["false"],
        config={"GREETING": "hello"},
        volumes=(Volume(name="data", path="/var/lib/tiny"),),
        before=(Task(command=("sh", "-c", script)),),
    )
    object.__setattr__(release.configuration, "secrets", {"TOKEN": digest})
    instance = begun(world, release, "before 1")
    assert world.ended(instance).exit_status == 0
    lines = printed(world, instance)
    assert lines[:3] == ["10001", "hello 1", "hush"]
    assert any(line.split()[:2] == ["1", "/.instar/init"] for line in lines[3:])
    assert (world.state.volumes / "tiny/dev/data/form").read_text() == "new\n"
    world.destroy(instance, release)
    assert world.traces() == []
    world.runtime.forget(release.environment, [instance.id], volumes=True)


def test_a_task_gets_the_volumes_that_it_names_and_no_others(world: TinyWorld) -> None:
    script = "touch /data/a && echo written; touch /logs/a && echo written too; ls -d /data /logs"
    both = (Volume(name="data", path="/data"), Volume(name="logs", path="/logs", access="shared"))
    tasks = tuple(Task(command=("sh", "-c", script), volumes=names) for names in (("logs",), (), None))
    release = world.release(["false"], volumes=both, before=tasks)
    said = []
    for number in (1, 2, 3):
        instance = begun(world, release, f"before {number}")
        assert world.ended(instance).exit_status == 0
        lines = [line for line in printed(world, instance) if not line.startswith("touch:")]
        said.append(lines[sum(map(len, said)) :])  # their names, and so their logs, are one
        world.destroy(instance, release)
    assert said == [["written too", "/data", "/logs"], ["/data", "/logs"], ["written", "written too", "/data", "/logs"]]
    assert world.traces() == []
    world.runtime.forget(release.environment, [], volumes=True)


def test_a_task_is_asked_to_stop_as_its_service_is(world: TinyWorld) -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    release = world.release(["false"], stop=QUICK, after=(Task(command=("sh", "-c", script)),))
    instance = begun(world, release, "after 1")
    world.printed(instance, "ready")
    world.destroy(instance, release)
    assert printed(world, instance) == ["ready", "told"]
    world.runtime.forget(release.environment, [instance.id], volumes=False)


def test_a_task_that_has_ended_is_not_started_again(world: TinyWorld) -> None:
    release = world.release(["false"], before=(Task(command=("sh", "-c", "echo once")),))
    instance = begun(world, release, "before 1")
    world.ended(instance)
    with pytest.raises(ProviderError, match="cannot start 'tiny-dev-1-1'"):
        world.another_runtime().start(instance)
    assert printed(world, instance) == ["once"]
    world.destroy(instance, release)
    world.runtime.forget(release.environment, [instance.id], volumes=False)


def command(*words: str, timeout_ms: int = 5_000) -> Check:
    return Check(kind="command", command=words, timeout_ms=timeout_ms)


def test_a_check_by_command_says_what_came_instead(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)

    def cause(*words: str) -> str:
        return world.runtime.check(instance, release, command(*words)).cause

    assert world.runtime.check(instance, release, command("sh", "-c", "test $(id -u) = 10001")) == Probe(healthy=True)
    assert cause("sh", "-c", "echo first; echo no table >&2; exit 4") == (
        "'sh -c echo first; echo no table >&2; exit 4' ended with exit status 4: no table"
    )
    steering = cause("sh", "-c", r"printf '\033[2J\033]0;owned\007gone\r\342\200\256'; exit 1")
    assert steering.endswith("exit status 1: \ufffd[2J\ufffd]0;owned\ufffdgone \ufffd")
    assert cause("no-such-check") == (
        """'no-such-check' ended with exit status 255: exec: "no-such-check": executable file not found in $PATH"""
    )
    assert len(cause("sh", "-c", "head -c 9000 /dev/zero | busybox tr '\\0' x; exit 1")) < 500
    world.destroy(instance, release)


def test_a_command_that_is_late_is_ended_with_all_that_it_began(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    late = command("sh", "-c", "sleep 76 & sleep 77; true", timeout_ms=800)
    began = time.monotonic()
    probe = world.runtime.check(instance, release, late)
    assert time.monotonic() - began < 30
    assert probe == Probe(healthy=False, cause="'sh -c sleep 76 & sleep 77; true' did not end within 0.8 s")
    wait_until(lambda: not any("sleep 7" in words for words in world.processes()))
    assert world.observe(instance).state == "running"
    world.destroy(instance, release)


def test_a_check_of_a_service_that_is_gone_says_so(world: TinyWorld) -> None:
    health = Health(kind="http", path="/")
    release = world.release(["httpd", "-f", "-p", "127.0.0.1:8080"], port=8080, health=health, stop=QUICK)
    instance = world.run(release)
    ask = Check(kind="http", path="/", timeout_ms=1_000)
    advice = "nothing listens on port 8080; the service listens on 127.0.0.1:8080, which cannot be reached from outside"
    wait_until(lambda: world.runtime.check(instance, release, ask).cause.startswith(advice))
    inside = command("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9/")
    assert world.runtime.check(instance, release, inside).cause.startswith("'wget -q")
    world.destroy(instance, release)
    brief = world.release(["sh", "-c", "exit 5"])
    ended = world.run(brief)
    world.ended(ended)
    for check in (command("true"), dataclasses.replace(ask, path="/x")):
        assert world.runtime.check(ended, brief, check).cause == "it has ended (exit status 5)"
    world.destroy(ended, brief)


def test_a_check_of_a_url_is_asked_from_this_machine(world: TinyWorld) -> None:
    script = "mkdir /tmp/w; echo well >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
    release = world.release(["sh", "-c", script], stop=QUICK)
    instance = world.run(release)
    check = Check(kind="url", url=f"http://{world.address(instance)}:8080/", contains="well")
    wait_until(lambda: world.runtime.check(instance, release, check).healthy)
    world.destroy(instance, release)
    assert not world.runtime.check(instance, release, dataclasses.replace(check, timeout_ms=200)).healthy


def test_how_a_task_ended_is_known_though_its_maker_was_killed_before_its_last_record(world: TinyWorld) -> None:
    release = world.release(["false"], before=(Task(command=("true",)),))
    instance = dataclasses.replace(world.instance(release), task="before 1")
    world.runtime.create(instance, release, world.image)
    names = world.names(instance)
    allocations.set_process(names, None)
    world.runtime.start(instance)
    assert world.ended(instance).exit_status == 0
    found = allocations.find(names)
    assert found is not None and found.process == record.find_process(names)
