"""A service of two roles that requests go to, and one that works: each has a door, and one release covers them all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import cast

import load
import pytest
from killed_deploys import deploy_killed_all_over
from project import Project, wait_for
from test_agent import agent

from free_ports import free_port

pytestmark = pytest.mark.root

ROLES = """\
roles:
  web:
    command: [/srv/serve]
    port: 8080
    health: {path: /cgi-bin/health, interval: 100ms, deadline: 4s}
    limits: {memory: 64M, cpus: 1.0, pids: 64}
    stop: {grace: 2s, drain: 5s}
  api:
    command: [/srv/serve-api]
    port: 9000
    health: {path: /cgi-bin/health, interval: 100ms, deadline: 4s}
    smoke: [{path: /cgi-bin/hello, contains: version}]
    limits: {memory: 64M, cpus: 1.0, pids: 64}
    stop: {grace: 2s, drain: 5s}
  worker:
    command: [sleep, "100000"]
    limits: {memory: 16M, cpus: 1.0, pids: 64}
    stop: {grace: 1s}
"""
API = """\
#!/bin/sh
case "$MODE" in api-dies) exit 3 ;; esac
GREETING="api, $GREETING" exec busybox httpd -f -p 9000 -h /srv/www
"""
ASK = """\
#!/usr/bin/perl
use IO::Socket::INET;
print "Status: 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\n";
for my $role ("HELLO", "HELLO_API") {
  my $one = IO::Socket::INET->new(PeerAddr => $ENV{"${role}_HOST"}, PeerPort => $ENV{"${role}_PORT"}, Timeout => 5);
  if (!$one) { print "$role: nobody answers: $!\\n"; next; }
  print $one "GET /cgi-bin/hello HTTP/1.0\\r\\nHost: hello\\r\\n\\r\\n";
  local $/;
  my ($head, $body) = split /\\r\\n\\r\\n/, <$one>, 2;
  print $head =~ / 200 / ? $body : "failed: $head\\n";
}
"""
OPTIONS = ("--rate", "60", "--connections", "3")


@pytest.fixture
def shop(project: Project) -> Project:
    """The project, with its service as three roles, of which two have a door in dev."""
    cast(dict[str, int], project.ports)["api"] = free_port()
    path = project.folder / "instar.yaml"
    head, _, rest = path.read_text().partition("service:\n")
    first, api = (f"127.0.0.1:{project.ports[name]}" for name in ("dev", "api"))
    dev = f"  dev:\n    listen: {{web: '{first}', api: '{api}'}}\n    config: {{GREETING: hello}}\n"
    assert rest
    path.write_text(f"{head}{ROLES}\nenvironments:\n{dev}")
    serve = project.folder / "app/serve-api"
    serve.write_text(API)
    serve.chmod(0o755)
    return project


@pytest.fixture
def asker(project: Project) -> Iterator[Project]:
    """Another service, which uses both roles of the first: its path /cgi-bin/ask shows what they answer."""
    folder = project.folder.with_name("asker")
    shutil.copytree(project.folder, folder)
    made = Project(folder=folder, home=project.home, ports={"dev": free_port()})
    made.edit("name: hello", "name: asker")
    made.edit(f"listen: 127.0.0.1:{project.ports['dev']}", f"listen: 127.0.0.1:{made.ports['dev']}")
    made.edit("  dev:\n", "  dev:\n    uses: [hello, 'hello:api']\n")
    ask = folder / "app/www/cgi-bin/ask"
    ask.write_text(ASK)
    ask.chmod(0o755)
    yield made
    if made.json("status"):
        made.instar("destroy", "asker/dev", "--yes", "--take-over")


def test_each_role_is_found_by_a_name_of_its_own(asker: Project, shop: Project) -> None:
    refused = asker.try_instar("deploy", "dev")
    assert refused.status == 1 and "which is not there" in refused.err
    shop.instar("deploy", "dev")
    asker.instar("deploy", "dev")
    assert asker.get(path="/cgi-bin/ask") == "".join(said(1))
    uses = {one["environment"]: one["name"] for one in asker.json("status", "asker/dev")["uses"]}
    assert uses == {"hello/dev": "hello.internal:8080", "hello/dev:api": "api.hello.internal:9000"}
    with load.running(shop.url(), *OPTIONS) as first:
        shop.edit(f"api: '127.0.0.1:{shop.ports['api']}'", f"api: '127.0.0.1:{free_port()}'")  # another HAProxy
        shop.set_version("2")
        outcome = shop.json("deploy", "dev")
        assert first.stop()["failed"] == 0
    assert outcome["requests"] > 0 and (outcome["failed"], outcome["counted_since"]) == (0, None)
    assert asker.get(path="/cgi-bin/ask") == "".join(said(2))
    for name in ("asker/dev", "hello/dev"):
        assert shop.json("drift", name)["clean"], shop.instar("drift", name).out


def both(project: Project) -> tuple[str, str]:
    return project.get(), project.get("api")


def said(version: int, greeting: str = "hello") -> tuple[str, str]:
    return f"{greeting} from version {version}\n", f"api, {greeting} from version {version}\n"


def test_both_roles_follow_rollouts_and_ways_back_and_no_request_fails(shop: Project) -> None:
    shop.instar("deploy", "dev")
    assert both(shop) == said(1)
    at = {name: f"127.0.0.1:{shop.ports[name]}" for name in ("dev", "api")}
    status = shop.json("status", "dev")
    assert (status["listen"], status["doors"]) == ([at["dev"], at["api"]], {"web": [at["dev"]], "api": [at["api"]]})
    with load.running(shop.url(), *OPTIONS) as first, load.running(shop.url("api"), *OPTIONS) as second:
        for version in (2, 3):
            shop.set_version(str(version))
            assert shop.json("deploy", "dev")["outcome"] == "done"
            assert both(shop) == said(version)
        for back in (2, 3) * 4:
            shop.instar("rollback", "dev", "--to", str(back))
            assert both(shop) == said(back)
        shop.edit("    config: {GR", "    rollout: {strategy: canary, steps: [30], pause: 1s}\n    config: {GR")
        shop.set_version("4")
        shop.instar("deploy", "dev")
        reports = first.stop(), second.stop()
    assert [report["failed"] for report in reports] == [0, 0], reports
    assert both(shop) == said(4)
    assert shop.json("drift", "dev")["clean"]


def test_a_role_that_is_not_well_keeps_both_where_they_are(shop: Project) -> None:
    shop.instar("deploy", "dev")
    shop.edit("{GREETING: hello}", "{GREETING: hello, MODE: api-dies}")
    with load.running(shop.url(), *OPTIONS) as first, load.running(shop.url("api"), *OPTIONS) as second:
        failed = shop.try_instar("deploy", "dev")
        reports = first.stop(), second.stop()
    assert failed.status == 1 and "ended" in failed.err
    assert [report["failed"] for report in reports] == [0, 0], reports
    assert both(shop) == said(1)
    shop.edit(", MODE: api-dies}", "}")
    shop.edit("contains: version}", "contains: nonsense}")
    failed = shop.try_instar("deploy", "dev")
    assert failed.status == 1 and "smoke check" in failed.err, failed.err
    assert both(shop) == said(1)


def test_an_instance_of_the_other_role_that_dies_is_replaced(shop: Project) -> None:
    shop.instar("deploy", "dev")
    api = _of(shop, "api")
    with agent(shop), load.running(shop.url(), *OPTIONS) as traffic:
        shop.instar("taint", "dev", api, "--why", "a trial")
        wait_for(lambda: _of(shop, "api") not in (api, ""), "not replaced")
        assert traffic.stop()["failed"] == 0
    assert both(shop) == said(1)


def _of(project: Project, role: str) -> str:
    found = [one for one in project.json("status", "dev")["releases"][0]["instances"] if one["role"] == role]
    return found[0]["id"] if len(found) == 1 and found[0]["healthy"] else ""


def test_a_role_comes_and_goes_and_its_door_with_it(shop: Project) -> None:
    two = (shop.folder / "instar.yaml").read_text()
    begin, _, rest = two.partition("  api:\n")
    one = begin + rest[rest.index("  worker:") :]
    one = one.replace(f", api: '127.0.0.1:{shop.ports['api']}'", "")
    file = shop.folder / "instar.yaml"
    file.write_text(one)
    shop.instar("deploy", "dev")
    with load.running(shop.url(), *OPTIONS) as traffic:
        file.write_text(two)
        shop.instar("deploy", "dev")
        assert both(shop) == said(1)
        back = shop.instar("rollback", "dev")
        assert "release 1 has no role 'api': nobody answers" in " ".join(back.err.split())
        shop.instar("rollback", "dev", "--to", "2")
        assert both(shop) == said(1)
        file.write_text(one)
        shop.instar("deploy", "dev")
        with pytest.raises(OSError):
            shop.get("api")
        back = shop.instar("rollback", "dev")
        assert "release 2 has a port of role 'api' to which no door leads" in " ".join(back.err.split())
        assert traffic.stop()["failed"] == 0
    assert shop.get() == said(1)[0]
    file.write_text(two)
    shop.instar("deploy", "dev")
    web, api = two[two.index("  web:\n") : two.index("  api:\n")], two[two.index("  api:\n") : two.index("  worker:\n")]
    file.write_text(two.replace(web + api, api + web))
    for words in (("deploy", "dev"), ("deploy", "dev", "--plan")):
        refused = shop.try_instar(*words)
        assert refused.status not in (0, 2) and "the first role with a port is 'web' now" in refused.err, refused.err
    assert both(shop) == said(1)


@pytest.mark.thorough  # that of two doors of one role (test_doors.py) takes a third of it
def test_a_deploy_killed_at_points_all_over_it_loses_no_request_of_either_role(shop: Project) -> None:
    deploy_killed_all_over(shop, "api", lambda: both(shop), said)
