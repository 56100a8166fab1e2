"""What every day with a service needs goes on under a newer Instar as well: roles and their doors, names, commands by
the clock, access logs, snapshots and backups that an earlier one has made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import load
import pytest
from leftovers import remove_state
from project import Project, baked_project, copied_project, wait_for
from test_upgrade import agent, command_of
from test_uses import ASK

from free_ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.thorough]

# The first version that had all of it. When one is released that has, its commit comes here.
BEFORE = "400f4d36ad5676b986ff558cb664f290e78c063a"

ROLES = """\
roles:
  web:
    command: [/srv/serve]
    port: 8080
    health: {path: /cgi-bin/health, interval: 100ms, deadline: 4s}
    stop: {grace: 2s, drain: 5s}
    limits: {memory: 64M, cpus: 1.0, pids: 64}
    before: [{command: [sh, -c, 'echo migrated >>/var/lib/hello/form']}]
    volumes: [{name: data, path: /var/lib/hello, access: shared, snapshot: true}]
  api:
    command: [busybox, httpd, -f, -p, "9000", -h, /srv/www]
    port: 9000
    health: {path: /cgi-bin/health, interval: 100ms, deadline: 4s}
    stop: {grace: 2s, drain: 5s}
    limits: {memory: 64M, cpus: 1.0, pids: 64}
  worker:
    command: [sleep, "100000"]
    limits: {memory: 16M, cpus: 1.0, pids: 64}
    stop: {grace: 1s}
"""
DEV = """\
    uses: [stock]
    access_log: true
    secrets: {TOKEN: {file: token, variable: true}}
    schedule: {often: {command: [sh, -c, 'echo $INSTAR_INSTANCE >>/var/lib/hello/ran'], every: 10s}}
    drift: {check: 1s, action: replace}
"""


@dataclasses.dataclass(frozen=True)
class Shop:
    """A service and one that it uses, ``old`` as run by the version before, ``new`` by this one."""

    old: Project
    new: Project
    stock: Project

    def facts(self) -> list[dict[str, Any]]:
        """Return of each instance that serves what changes only when it does."""
        return [
            {key: instance.get(key) for key in ("id", "role", "state", "address", "started_at")}
            for name in ("hello/dev", "stock/dev")
            for release in self.new.json("status", name)["releases"]
            for instance in release["instances"]
        ]

    def assert_clean(self) -> None:
        for name in ("hello/dev", "stock/dev"):
            result = self.new.try_instar("drift", name, "--deep", "--json")
            assert (result.status, result.json["findings"]) == (0, []), f"{name}: {result.out}{result.err}"

    def events(self, kind: str) -> list[Any]:
        return [one["detail"] for one in self.new.json("history", "hello/dev") if one["kind"] == kind]

    def data(self, name: str) -> list[str]:
        file = self.new.home / "volumes/hello/dev/data" / name
        return file.read_text().split() if file.exists() else []


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    return command_of(BEFORE, tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def baked_before(before: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with baked_project(tmp_path_factory.mktemp("baked-before"), before) as made:
        yield made


@pytest.fixture
def project(baked_before: Project, tmp_path: Path) -> Iterator[Project]:
    with copied_project(baked_before, tmp_path) as made:
        yield made


@pytest.fixture
def stock(project: Project, before: tuple[str | Path, ...]) -> Iterator[Project]:
    made = dataclasses.replace(project, folder=project.folder.with_name("stock"), command=before)
    shutil.copytree(project.folder, made.folder)
    made.edit("name: hello", "name: stock")
    made.edit(f"listen: 127.0.0.1:{project.ports['dev']}", "listen: internal")
    made.instar("deploy", "dev")
    yield dataclasses.replace(made, command=project.command)
    project.instar("destroy", "stock/dev", "--yes", "--take-over")


@pytest.fixture
def shop(project: Project, stock: Project, before: tuple[str | Path, ...]) -> Shop:
    old = dataclasses.replace(project, command=before)
    write(project)
    old.instar("deploy", "dev")
    (project.home / "volumes/hello/dev/data").chmod(0o777)
    old.set_version("2")
    old.instar("deploy", "dev")
    made = Shop(old=old, new=project, stock=stock)

    def has_ended() -> bool:
        old.instar("agent", "--once")
        (entry,) = old.json("schedule", "dev")["schedule"]
        return entry["last"] is not None and entry["last"]["outcome"] == "done"

    wait_for(has_ended, "the clock begins nothing", timeout_s=90)
    return made


def write(project: Project) -> None:
    """Have its service as three roles, of which two have a door, and one uses what is in stock."""
    cast(dict[str, int], project.ports)["api"] = free_port()
    path = project.folder / "instar.yaml"
    head, _, _ = path.read_text().partition("service:\n")
    first, api = (f"127.0.0.1:{project.ports[name]}" for name in ("dev", "api"))
    dev = f"  dev:\n    listen: {{web: '{first}', api: '{api}'}}\n    config: {{GREETING: hello}}\n{DEV}"
    path.write_text(f"{head}{ROLES}\nenvironments:\n{dev}")
    (project.folder / "token").write_text("a secret\n")
    ask = project.folder / "app/www/cgi-bin/ask"
    ask.write_text(ASK)
    ask.chmod(0o755)


def asked(shop: Shop) -> str:
    return shop.new.get(path="/cgi-bin/ask")


@contextlib.contextmanager
def loaded(*urls: str) -> Iterator[None]:
    """Ask all that inside; not one request may fail."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(load.running(url, "--connections", "3", "--rate", "40")) for url in urls]
        yield
        for one in running:
            report = one.stop()
            assert report["served"] and not report["failed"], report


def test_what_an_earlier_version_has_begun_goes_on_every_day(shop: Shop, tmp_path: Path) -> None:
    new, file = shop.new, str(tmp_path / "backup.tar")
    assert asked(shop) == "hello from version 1\n"
    shop.old.instar("backup", "--volumes", "--without-secrets", file)
    facts, ran = shop.facts(), len(shop.data("ran"))
    with loaded(new.url(), new.url("api")):
        shop.assert_clean()
        with agent(new):
            wait_for(lambda: len(shop.data("ran")) > ran, "the schedule does not go on", timeout_s=60)
        new.instar("agent", "--once")
        wait_for(lambda: shop.facts() == facts, "an instance was replaced because Instar was upgraded", timeout_s=60)
        assert not [kind for kind in ("drift", "replace", "taint") if shop.events(kind)]
        plan = new.try_instar("deploy", "dev", "--plan")
        assert plan.status == 0, plan.out + plan.err
        shop.stock.set_version("2")
        shop.stock.instar("deploy", "dev")
        assert asked(shop) == "hello from version 2\n", "the name leads to the other's new release"
        looked_at_as_ever(shop)
    assert len(shop.data("ran")) == len(set(shop.data("ran"))), "each once"
    before = shop.data("form")
    assert before == ["migrated", "migrated"]
    assert new.json("rollback", "dev", "--with-data", "--yes")["release"] == 1
    assert shop.data("form") == ["migrated"], "the snapshot is the earlier version's"
    assert new.get() == "hello from version 1\n" and new.get("api")
    shop.assert_clean()
    new.instar("history", "--verify")
    its_backup_is_restored(new, tmp_path / "fresh", file)


def looked_at_as_ever(shop: Shop) -> None:
    new = shop.new
    assert new.instar("run", "dev", "--", "sh", "-c", "echo $TOKEN").out == "a secret\n"
    wait_for(lambda: "/cgi-bin/ask" in new.instar("logs", "dev", "--access").out, "no request is written down")
    (release, *_) = new.json("top", "dev")["releases"]
    assert {one["role"] for one in release["roles"]} == {"web", "api", "worker"}
    compared = new.try_instar("diff", "dev", "1", "2", "--json")
    assert (compared.status, [one["path"] for one in compared.json["files"]]) == (2, ["/srv/version"])
    assert "hello/dev" in new.instar("explain", "dev").out


def its_backup_is_restored(project: Project, home: Path, file: str) -> None:
    fresh = dataclasses.replace(project, home=home)
    try:
        fresh.instar("restore", "--machine", "new", "--no-machine-file", file)
        assert {one["environment"] for one in fresh.json("status")} == {"dev"}
        assert (home / "volumes/hello/dev/data/form").read_text() == "migrated\nmigrated\n"
        fresh.instar("history", "--verify")
    finally:
        fresh.try_instar("uninstall", "--yes", "--volumes")
        if home.exists():
            remove_state(home)
