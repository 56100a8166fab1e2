"""A service of several roles: a web server that takes orders, and workers that carry them out, from one image."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from project import Project, wait_for
from test_agent import agent

pytestmark = pytest.mark.root

ROLES = """\
roles:
  worker:
    command: [/srv/work]
    workdir: /srv
    health: {command: [test, -e, /tmp/ready], interval: 100ms, deadline: 4s}
    stop: {grace: 2s}
    limits: {memory: 32M, cpus: 1.0, pids: 32}
    instances: 2
    volumes: [{name: orders, path: /var/lib/hello, access: shared}]
  web:
    command: [/srv/serve]
    volumes: [{name: orders, path: /var/lib/hello, access: shared}]
"""

WORK = """\
#!/bin/sh
echo "working as ${MODE:-well} in $INSTAR_ROLE"
case "$MODE" in idle) exit 4 ;; esac
touch /tmp/ready
while :; do
  for order in /var/lib/hello/order-*; do
    [ -e "$order" ] && mv "$order" "/var/lib/hello/taken-$$" 2>/dev/null && mv "/var/lib/hello/taken-$$" \\
      "/var/lib/hello/done-$(cat /srv/version)-${order##*-}"
  done
  sleep 0.1
done
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """The project, with its service as two roles."""
    path = project.folder / "instar.yaml"
    text = path.read_text()
    begin, rest = text.split("service:\n  command: [/srv/serve]\n")
    own, environments = rest.split("\nenvironments:", 1)
    web = "".join(f"  {line}\n" for line in own.rstrip("\n").split("\n"))
    environments = environments.replace("    instances: 2\n", "")
    path.write_text(f"{begin}{ROLES}{web}\nenvironments:{environments}")
    work = project.folder / "app/work"
    work.write_text(WORK)
    work.chmod(0o755)
    return project


def roles(status: Any, number: int) -> Counter[tuple[str, str]]:
    """Return how many instances of a release are in which state, by role."""
    (release,) = (one for one in status["releases"] if one["number"] == number)
    return Counter((one["role"], one["state"]) for one in release["instances"])


def orders(project: Project) -> Path:
    return project.home / "volumes/hello/dev/orders"


def carried_out(project: Project, name: str, version: str) -> None:
    """Give an order, and wait until a worker of that version has carried it out."""
    (orders(project) / f"order-{name}").touch()
    wait_for((orders(project) / f"done-{version}-{name}").exists, "nobody carried the order out")


def test_a_release_covers_all_roles_from_its_launch_to_the_way_back(shop: Project) -> None:
    deployed = shop.instar("deploy", "dev")
    assert "launch" in deployed.err and "worker · 2 of 2 healthy" in deployed.err
    status = shop.json("status", "dev")
    assert roles(status, 1) == {("web", "running"): 1, ("worker", "running"): 2}
    assert status["releases"][0]["weight"] == 100, "only the role with a port has traffic"
    orders(shop).chmod(0o777)
    carried_out(shop, "one", "1")
    shop.set_version("2")
    assert shop.json("deploy", "dev")["outcome"] == "done"
    assert shop.get() == "hello from version 2\n"
    carried_out(shop, "two", "2")
    status = shop.json("status", "dev")
    assert roles(status, 2) == {("web", "running"): 1, ("worker", "running"): 2}
    assert roles(status, 1) == {("web", "running"): 1, ("worker", "created"): 2}, "a worker would work: it sleeps"
    shown = shop.instar("status", "dev").out
    assert "ROLE" in shown and "1 healthy, 2 ready to start" in shown
    back = shop.json("rollback", "dev")
    assert (back["release"], back["outcome"]) == (1, "done")
    assert shop.get() == "hello from version 1\n"
    carried_out(shop, "three", "1")
    assert roles(shop.json("status", "dev"), 2) == {("web", "running"): 1, ("worker", "created"): 2}


def test_a_worker_that_falls_takes_the_rollout_back(shop: Project) -> None:
    shop.instar("deploy", "dev")
    shop.edit('case "$MODE" in idle)', "case broken in broken)", "app/work")
    shop.set_version("2")
    failed = shop.try_instar("deploy", "dev")
    assert failed.status == 1
    assert "exit status 4" in failed.err and "working as well" in failed.err, "its last words are shown"
    assert shop.get() == "hello from version 1\n"
    assert roles(shop.json("status", "dev"), 1) == {("web", "running"): 1, ("worker", "running"): 2}


def test_roles_are_looked_at_replaced_and_counted_each_for_itself(shop: Project) -> None:
    shop.edit("config: {GREETING: hello}", "config: {GREETING: hello}\n    roles: {worker: {instances: 1}}")
    shop.instar("deploy", "dev")
    status = shop.json("status", "dev")
    assert roles(status, 1) == {("web", "running"): 1, ("worker", "running"): 1}
    assert "working as well" in shop.instar("logs", "dev", "--role", "worker").out
    assert "working" not in shop.instar("logs", "dev", "--role", "web").out
    unknown = shop.try_instar("logs", "dev", "--role", "wrker")
    assert unknown.status == 1 and "its roles are web, worker" in unknown.err
    shown = shop.instar("shell", "dev", "--role", "worker", "--why", "a look", "--command", "echo $INSTAR_ROLE")
    assert shown.out == "worker\n"
    assert shop.json("drift", "dev")["clean"]
    (worker,) = (one["id"] for one in status["releases"][0]["instances"] if one["role"] == "worker")
    shop.instar("taint", "dev", worker, "--why", "a look")
    shop.instar("deploy", "dev")
    after = shop.json("status", "dev")
    assert roles(after, 1) == {("web", "running"): 1, ("worker", "running"): 1}
    assert worker not in {one["id"] for one in after["releases"][0]["instances"]}
    shop.edit("{worker: {instances: 1}}", "{worker: {instances: 3}}")
    planned = shop.try_instar("deploy", "dev", "--plan")
    assert planned.status == 2 and "  roles.worker.instances" in planned.out
    shop.instar("deploy", "dev")
    assert roles(shop.json("status", "dev"), 1) == {("web", "running"): 1, ("worker", "running"): 3}


def test_a_role_comes_and_goes_with_its_release(shop: Project) -> None:
    shop.instar("deploy", "dev")
    shop.edit("  worker:\n", "  jobs:\n")
    assert shop.json("deploy", "dev")["outcome"] == "done"
    status = shop.json("status", "dev")
    assert roles(status, 2) == {("web", "running"): 1, ("jobs", "running"): 2}
    assert roles(status, 1) == {("web", "running"): 1, ("worker", "created"): 2}
    assert shop.json("rollback", "dev")["outcome"] == "done"
    assert roles(shop.json("status", "dev"), 1)["worker", "running"] >= 1
    assert shop.json("promote", "dev", "production")["outcome"] == "done"
    promoted = shop.json("status", "production")
    assert roles(promoted, 1)["worker", "running"] >= 1


def test_a_role_begins_when_the_traffic_has_moved_or_before_as_is_said(shop: Project) -> None:
    shop.instar("deploy", "dev")
    for version, first in (("2", "shift"), ("3", "started")):
        if first == "started":
            shop.edit("    instances: 2\n", "    instances: 2\n    with: before\n")
        shop.set_version(version)
        shop.instar("deploy", "dev")
        events = [one for one in shop.json("history", "dev") if one["release"] == int(version)]
        status = shop.json("status", "dev")
        workers = {one["id"] for one in status["releases"][0]["instances"] if one["role"] == "worker"}
        begun = [one["seq"] for one in events if one["kind"] == "started" and one["detail"]["instance"] in workers]
        moved = max(one["seq"] for one in events if one["kind"] == "shift")
        assert len(begun) == 2 and all((seq < moved) == (first == "started") for seq in begun), events


def test_an_intruder_in_one_role_costs_that_role_its_instance_and_no_other(shop: Project) -> None:
    shop.edit("config: {GREETING: hello}", "config: {GREETING: hello}\n    drift: {check: 1s, action: replace}")
    shop.instar("deploy", "dev")
    before = {one["id"]: one["role"] for one in shop.json("status", "dev")["releases"][0]["instances"]}
    victim, *others = sorted(before, key=lambda name: (before[name] != "worker", name))
    words = ["nsenter", "-t", str(shop.pid(victim)), "-m", "-p", "-n", "sleep", "600"]
    with subprocess.Popen(words) as intruder:
        found = shop.try_instar("drift", "dev", "--json")
        assert (found.status, {one["instance"] for one in found.json["findings"]}) == (2, {victim}), found
        with agent(shop):
            wait_for(lambda: victim not in shop.instance_ids(), lambda: shop.instar("history", "dev").out, timeout_s=90)
            wait_for(lambda: len(shop.instance_ids()) == len(before), "it has no successor", timeout_s=60)
        intruder.kill()
    after = {one["id"]: one["role"] for one in shop.json("status", "dev")["releases"][0]["instances"]}
    assert set(others) < set(after) and sorted(after.values()) == sorted(before.values())
    wait_for(lambda: shop.try_instar("drift", "dev").status == 0, "it has drifted still")
