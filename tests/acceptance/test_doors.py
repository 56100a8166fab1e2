"""A service of two ports, each with a door of its own: a rollout moves both, whoever is killed in the middle."""

from __future__ import annotations

import socket
import urllib.request
from typing import cast

import load
import pytest
from killed_deploys import deploy_killed_all_over
from project import Project, wait_for
from test_agent import agent

from free_ports import free_port

pytestmark = pytest.mark.root
SECOND = '[ "$MODE" = first-alone ] || busybox httpd -p 9000 -h /srv/www\nexec busybox httpd -f -p 8080 -h /srv/www\n'

CLOSE = """\
#!/bin/sh
printf 'Status: 200 OK\\r\\n\\r\\nclosed'
for one in /proc/[0-9]*; do busybox grep -qa 9000 $one/cmdline && kill ${one#/proc/}; done
"""
ADMIN = "#!/bin/sh\nprintf 'Status: 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\nadmin\\n'\n"


@pytest.fixture
def shop(project: Project) -> Project:
    """The project, whose service listens on a second port too."""
    cast(dict[str, int], project.ports)["admin"] = free_port()
    project.edit("  port: 8080\n", "  port: 8080\n  ports: {admin: 9000}\n")
    project.edit("exec busybox httpd -f -p 8080 -h /srv/www\n", SECOND, "app/serve")
    open_door(project)
    return project


def open_door(project: Project) -> None:
    first, admin = f"127.0.0.1:{project.ports['dev']}", f"127.0.0.1:{project.ports['admin']}"
    project.edit(f"    listen: {first}\n", f"    listen: {{service: '{first}', service.admin: '{admin}'}}\n")


def both(project: Project) -> tuple[str, str]:
    return project.get(), project.get("admin")


def test_both_doors_follow_a_rollout_and_the_way_back(shop: Project) -> None:
    shop.instar("deploy", "dev")
    assert both(shop) == ("hello from version 1\n",) * 2
    first_at, admin_at = (f"127.0.0.1:{shop.ports[name]}" for name in ("dev", "admin"))
    status = shop.json("status", "dev")
    assert status["listen"] == [first_at, admin_at]
    assert status["doors"] == {"service": [first_at], "service.admin": [admin_at]}
    assert f"service.admin is reached at {admin_at}" in shop.instar("status", "dev").out
    options = ("--rate", "100", "--connections", "4")
    with load.running(shop.url(), *options) as first, load.running(shop.url("admin"), *options) as second:
        for version in ("2", "3"):
            shop.set_version(version)
            assert shop.json("deploy", "dev")["outcome"] == "done"
            assert both(shop) == (f"hello from version {version}\n",) * 2
        shop.instar("rollback", "dev")
        assert both(shop) == ("hello from version 2\n",) * 2
        shop.edit(
            "    config: {GREETING: hello}",
            "    rollout: {strategy: canary, steps: [30], pause: 1s}\n    config: {GREETING: hello}",
        )
        shop.set_version("4")
        shop.instar("deploy", "dev")
        reports = first.stop(), second.stop()
    assert [report["failed"] for report in reports] == [0, 0], reports
    assert both(shop) == ("hello from version 4\n",) * 2
    assert shop.json("drift", "dev")["clean"], "neither port is a finding"


def test_a_door_comes_and_goes_without_a_release(shop: Project) -> None:
    first, admin = f"127.0.0.1:{shop.ports['dev']}", f"127.0.0.1:{shop.ports['admin']}"
    shop.edit(f"{{service: '{first}', service.admin: '{admin}'}}", first)
    shop.instar("deploy", "dev")
    with load.running(shop.url(), "--rate", "100", "--connections", "4") as traffic:
        open_door(shop)
        assert f"listen.service.admin  —  →  {admin}" in shop.try_instar("deploy", "dev", "--plan").out
        assert shop.json("deploy", "dev")["release"] == 1
        assert shop.get("admin") == "hello from version 1\n"
        shop.edit(f"{{service: '{first}', service.admin: '{admin}'}}", first)
        assert shop.json("deploy", "dev")["release"] == 1
        with pytest.raises(OSError):
            shop.get("admin")
        assert traffic.stop()["failed"] == 0


def test_a_release_whose_second_port_is_closed_gets_no_traffic(shop: Project) -> None:
    shop.instar("deploy", "dev")
    shop.edit("{GREETING: hello}", "{GREETING: hello, MODE: first-alone}")
    refused = shop.try_instar("deploy", "dev")
    assert refused.status == 1
    assert "0 of 1 healthy after 4 s: nothing listens on port 9000" in refused.err, refused.err
    assert both(shop) == ("hello from version 1\n",) * 2


def test_an_instance_whose_second_port_alone_dies_is_replaced(shop: Project) -> None:
    shop.edit('[ "$MODE" = first-alone ] || busybox httpd -p 9000', "busybox httpd -p 9000", "app/serve")
    close = shop.folder / "app/www/cgi-bin/close"
    close.write_text(CLOSE)
    close.chmod(0o755)
    shop.instar("deploy", "dev")
    (before,) = shop.json("status", "dev")["releases"][0]["instances"]
    with agent(shop), load.running(shop.url(), "--rate", "50", "--connections", "2") as traffic:
        assert shop.get(path="/cgi-bin/close") == "closed"
        wait_for(lambda: len(shop.instance_ids()) == 1 and before["id"] not in shop.instance_ids(), "not replaced")
        assert traffic.stop()["failed"] == 0, "the first port answered all the time"
    assert both(shop) == ("hello from version 1\n",) * 2


def test_a_plan_says_that_an_address_is_taken(shop: Project) -> None:
    with socket.create_server(("127.0.0.1", shop.ports["admin"])):
        planned = shop.try_instar("deploy", "dev", "--plan")
        assert planned.status == shop.try_instar("deploy", "dev").status != 2
        assert f"cannot listen on '127.0.0.1:{shop.ports['admin']}'" in planned.err, planned.err
    assert shop.try_instar("deploy", "dev", "--plan").status == 2
    shop.instar("deploy", "dev")
    assert shop.try_instar("deploy", "dev", "--plan").status == 0, "its own router is nobody else"


def test_a_way_back_to_before_there_was_that_port_is_told(project: Project) -> None:
    project.instar("deploy", "dev")
    cast(dict[str, int], project.ports)["admin"] = free_port()
    project.edit("  port: 8080\n", "  port: 8080\n  ports: {admin: 9000}\n")
    project.edit("exec busybox httpd -f -p 8080 -h /srv/www\n", SECOND, "app/serve")
    open_door(project)
    project.instar("deploy", "dev")
    assert both(project) == ("hello from version 1\n",) * 2
    back = project.instar("rollback", "dev")
    told = f"release 1 has no port 'admin': nobody answers at 127.0.0.1:{project.ports['admin']}"
    assert told in " ".join(back.err.split())
    assert project.get() == "hello from version 1\n"
    project.instar("rollback", "dev", "--to", "2")
    assert both(project) == ("hello from version 1\n",) * 2


def test_a_deploy_killed_at_points_all_over_it_loses_no_request_at_either_door(shop: Project) -> None:
    deploy_killed_all_over(shop, "admin", lambda: both(shop), lambda version: (f"hello from version {version}\n",) * 2)


def test_names_lead_to_the_port_that_they_are_written_at(shop: Project) -> None:
    edge, config = free_port(), shop.home / "config.yaml"
    config.write_text(f"edge: {{http: '127.0.0.1:{edge}', https: '127.0.0.1:{free_port()}'}}\n")
    config.chmod(0o600)
    scripts = shop.folder / "app/admin/cgi-bin"
    scripts.mkdir(parents=True)
    for name, text in {"hello": ADMIN, "x": ADMIN}.items():
        (scripts / name).write_text(text)
        (scripts / name).chmod(0o755)
    shop.edit("-p 9000 -h /srv/www", "-p 9000 -h /srv/admin", "app/serve")
    first, admin = f"127.0.0.1:{shop.ports['dev']}", f"127.0.0.1:{shop.ports['admin']}"
    names = "{service: {http: a.test}, service.admin: {http: [admin.a.test, a.test/cgi-bin/x]}}"
    shop.edit(f"{{service: '{first}', service.admin: '{admin}'}}", names)

    def asked(name: str, path: str = "/cgi-bin/hello") -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{edge}{path}", headers={"Host": name})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    shop.instar("deploy", "dev")
    assert asked("a.test") == "hello from version 1\n"
    assert asked("A.test.:80") == "hello from version 1\n"
    assert asked("admin.a.test") == asked("ADMIN.a.test:80") == "admin\n"
    assert asked("a.test", "/cgi-bin/x") == asked("a.test", "/cgi-bin/x?y=1") == "admin\n"
    assert [one.rpartition(":")[0] for one in shop.json("status", "dev")["names"]] == [
        "http://a.test",
        "http://admin.a.test",
        "http://a.test",
    ]
    shop.edit("{GREETING: hello}", "{GREETING: hi}")
    shop.instar("deploy", "dev")
    assert asked("a.test") == "hi from version 1\n"
    assert asked("admin.a.test") == "admin\n"
    assert shop.json("drift", "dev")["clean"]
    shop.edit(names, "{service: {http: [a.test, admin.a.test]}}")
    shop.instar("deploy", "dev")
    assert asked("admin.a.test") == "hi from version 1\n", "it leads elsewhere from the next deploy on"
