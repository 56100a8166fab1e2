"""Whoever lacks rights is told which, and the roles that are printed are the least ones: each right of them is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from administrator import Administrator
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.storage import CLASS, snapshotting
from test_kubernetes_maintenance import holiday
from test_kubernetes_members import await_passes

from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, authoring
from postgres import PostgresServer

pytestmark = pytest.mark.cluster
AT_ONCE = "{strategy: blue-green}"
MORE = (
    "volumes: [{name: data, path: /data, access: shared, snapshot: true}]\n"
    '  before: [{command: [sh, -c, "echo $INSTAR_RELEASE >>/data/story"]}]\n'
    "  smoke: [{path: /}, {command: [grep, -q, s3cret, /run/secrets/TOKEN]}]"
)
SETTINGS = (
    "network: {allow: [{to: 10.9.0.0/16, ports: [5432]}]}\n"
    "    schedule: {often: {command: [sh, -c, exit], every: 10s}}\n"
    "    replace_within: 1s"
)
ASKED_BESIDES = {  # by the API itself, of whoever execs by a websocket, or applies what is not there yet
    ("", "configmaps/finalizers", "update"),  # of whoever makes what its owner waits for, by an admission plugin
    ("", "pods/exec", "create"),
    ("gateway.networking.k8s.io", "httproutes", "create"),
    ("gateway.networking.k8s.io", "tcproutes", "list"),  # which this cluster has not
    ("gateway.networking.k8s.io", "tlsroutes", "list"),
}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


@pytest.fixture
def administrator(author: Author) -> Iterator[Administrator]:
    made = Administrator(author)
    try:
        yield made
    finally:
        made.clear()


def test_an_account_without_roles_is_told_which_rights_it_lacks(author: Author, administrator: Administrator) -> None:
    administrator.become("default")
    author.write()
    told = author.deploy(status=1)
    assert "instar kubernetes rbac prod | kubectl apply -f -" in told, told
    for lacking in ("get namespaces; ", "create, get secrets", "create, get, patch, delete httproutes", "get gateways"):
        assert lacking in told, told
    assert "Traceback" not in told and author.left() == []


@pytest.mark.long
@pytest.mark.root
def test_each_right_of_the_printed_roles_is_used(
    author: Author, administrator: Administrator, postgres: PostgresServer
) -> None:
    """As the account that has them, by the API's audit log: all verbs, behind a gateway and without one."""
    author.namespace.environ["INSTAR_LEDGER"] = postgres.address(postgres.database(postgres.template))
    log = layout().logs / "audit.log"
    with snapshotting(Cluster(layout())):
        begins = log.stat().st_size
        write(author, "hello")
        administrator.apply("rbac")
        granted = rights(author)
        administrator.become_instar()
        author.deploy()
        holiday(author)  # by the administrator's own hand
        write(author, "hi")
        author.deploy()
        come_back(author)
        look_after(author)
        without_a_gateway(author)
        for environment in ("inner", "prod"):
            for one in author.json("volumes", "snapshots"):
                if one["environment"] == environment:
                    words = (f"shop/{environment}", "data", "--snapshot", str(one["number"]), "--yes")
                    author.instar("volumes", "remove", *words)
            author.instar("destroy", environment, "--volumes", "--yes")
        account = f"system:serviceaccount:{author.namespace.name}:instar"
        assert until(lambda: author.left() == [], Deadline.after(60), every_s=0.5), author.left()
    assert sorted(granted - used(log, begins, account) - ASKED_BESIDES) == []


def write(author: Author, greeting: str, *, storage: str = f", storage_class: {CLASS}") -> None:
    toolbox = f"{author.namespace.registry}/shop@{author.image}"
    author.write(
        greeting=greeting,
        instances="{min: 2, max: 3}",
        rollout=AT_ONCE,
        more=MORE,
        settings=SETTINGS,
        section=f'{storage}, toolbox: "{toolbox}", maintenance: {{service: holiday, port: 8000}}',
    )
    file = author.folder / "instar.yaml"
    here = file.read_text()
    inner = (
        here[here.index("  prod:\n") :]
        .replace("  prod:\n", "  inner:\n")
        .replace(", gateway: {name: public, namespace: gateways}", "")
    )
    inner = inner.replace(f'"{author.host}"', f"shop-inner.{author.namespace.name}.svc")
    inner = inner.replace(", maintenance: {service: holiday, port: 8000}", "")
    file.write_text(here + inner)


def come_back(author: Author) -> None:
    author.instar("rollback", "prod", "--with-data", "--yes")
    author.instar("volumes", "snapshots")
    author.instar("volumes", "remove", "shop/prod", "data", "--snapshot", "1", "--yes")


def look_after(author: Author) -> None:
    for words in (("status", "prod"), ("logs", "prod"), ("run", "prod", "--", "true")):
        author.instar(*words)
    for words in (("top", "prod"), ("drift", "prod")):
        author.verb(*words)
    author.instar("maintenance", "prod", "on")
    author.instar("maintenance", "prod", "off")
    for words in ((), ("--toolbox",)):
        author.instar("shell", "prod", *words, "--why", "a look", "--command", "true")

    def is_through() -> bool:
        history = author.json("history", "prod")
        tasks = [str(one["detail"]["task"]) for one in history if one["kind"] == "task"]
        has_run = any(one.startswith("schedule often ") for one in tasks)
        return has_run and "member-aside" in [one["kind"] for one in history]

    await_passes(author, is_through, "what was looked into is replaced, and what was due has run")


def without_a_gateway(author: Author) -> None:
    write(author, "hello", storage="")
    author.instar("deploy", "inner", "--image", author.image, status=1)  # by default volumes there cannot be kept
    for greeting in ("hello", "hi"):
        write(author, greeting)
        author.instar("deploy", "inner", "--image", author.image)
    author.run(sys.executable, "-c", MAIN, "drift", "inner")


def rights(author: Author) -> set[tuple[str, str, str]]:
    """Return what is printed, each as (group, resource, verb)."""
    rules = [
        rule
        for one in yaml.safe_load_all(author.instar("kubernetes", "rbac", "prod"))
        for rule in one.get("rules") or ()
    ]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(log: Path, begins: int, account: str) -> set[tuple[str, str, str]]:
    """Return what an account has asked for since the log had so many bytes."""
    with log.open("rb") as file:
        file.seek(begins)
        said = [json.loads(line) for line in file if account.encode() in line]
    found = [(one["verb"], one.get("objectRef") or {}) for one in said if one["user"]["username"] == account]
    return {
        (of.get("apiGroup", ""), "/".join(filter(None, (of["resource"], of.get("subresource")))), verb)
        for verb, of in found
        if "resource" in of
    }
