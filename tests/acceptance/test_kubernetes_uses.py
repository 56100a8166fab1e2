"""``uses`` on a real cluster: pods find another environment, and another role of it, by the names of Services, whatever
releases these have; and all its Services move together.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from project import wait_for

from asking_by_name import asking
from instar.errors import InstarError
from instar.providers.kubernetes.kinds import SERVICE
from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster

SERVE = (
    'mkdir -p /tmp/www; echo "{role} $INSTAR_RELEASE $GREETING" >/tmp/www/index.html; '
    '{more}httpd -f -p {port} -h /tmp/www & trap "kill 0; exit" TERM; wait'
)
SHOP = """\
name: shop
image: {{base: scratch}}
roles:
  web:
    command: {web}
    port: 8080
    ports: {{admin: 9001}}
    health: {{path: /, deadline: 60s}}
    stop: {{grace: 2s, drain: 1s}}
    limits: {{memory: 32M, cpus: 0.2}}
  api:
    command: {api}
    port: 9000
    {protocol}
    health: {{{health}, deadline: 60s}}
    stop: {{grace: 2s, drain: 1s}}
    limits: {{memory: 32M, cpus: 0.2}}
environments:
  prod:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: "{registry}/shop", pre_stop: 2s{section}}}
    listen: {listen}
    config: {{GREETING: {greeting}}}
    rollout: {{strategy: blue-green}}
"""
FRONT = """\
name: front
image: {{base: scratch}}
service:
  command: {command}
  health: {{command: ["true"], deadline: 60s}}
  stop: {{grace: 1s}}
  limits: {{memory: 32M, cpus: 0.1}}
environments:
  prod:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: "{registry}/front"}}
    uses: [shop, "shop:api"]
"""
GATEWAY = ", gateway: {name: public, namespace: gateways}"
SERVICES = {"shop-prod": "web", "shop-prod--api": "api", "shop-prod--0--admin": "web"}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def write(author: Author, where: str, greeting: str) -> None:
    namespace = author.namespace
    listen: dict[str, object] = {"web": "internal", "api": "internal"}
    if where == "inside":
        listen["web.admin"] = {"http": [f"shop-prod--0--admin.{namespace.name}.svc"]}
    elif greeting == "hi":  # it has a name outside from now on
        listen["web"] = {"http": [author.host]}
    admin = "httpd -f -p 9001 -h /tmp/www & "
    text = SHOP.format(
        web=json.dumps(["sh", "-c", SERVE.format(role="web", more=admin, port=8080)]),
        api=json.dumps(["sh", "-c", SERVE.format(role="api", more="", port=9000)]),
        namespace=namespace.name,
        registry=namespace.registry,
        section="" if where == "inside" else GATEWAY,
        protocol="protocol: http" if where == "inside" else "protocol: tcp",
        health="path: /" if where == "inside" else "tcp: true",
        listen=json.dumps(listen),
        greeting=greeting,
    )
    (author.folder / "instar.yaml").write_text(text)


def answered(author: Author, service: str) -> str:
    """Return what the pods of a Service say, asked through the API."""
    api, where = author.namespace.api, author.namespace.name
    try:
        status, content = api.answer(SERVICE.path(where, f"{service}:80", "proxy") + "/", 20, {})
        return content.decode().strip() if status == 200 else f"status {status} {content.decode()[:300]}"
    except (InstarError, httpx2.HTTPError, TimeoutError) as error:
        return repr(error)


@contextlib.contextmanager
def asked(author: Author, services: list[str]) -> Iterator[dict[str, Counter[str]]]:
    """Ask at Services all the while."""
    counted, over = {name: Counter[str]() for name in services}, threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            for name in services:
                counted[name][answered(author, name)] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield counted
    finally:
        over.set()
        asking.join()


@pytest.mark.parametrize("where", ["inside", "behind a gateway"])
def test_pods_find_roles_by_their_names_while_releases_of_them_come_and_go(where: str, author: Author) -> None:
    folder = author.folder / "front"
    folder.mkdir()
    namespace = author.namespace
    (folder / "instar.yaml").write_text(
        FRONT.format(
            command=json.dumps(asking("SHOP", "SHOP_API")), namespace=namespace.name, registry=namespace.registry
        )
    )
    front = ("deploy", "prod", "-f", "front/instar.yaml", "--image", author.image)
    refused = author.instar(*front, status=1)
    assert "it uses 'shop/prod', which is not there" in refused
    write(author, where, "hello")
    author.deploy()
    author.instar(*front)
    services = [name for name in SERVICES if where == "inside" or "admin" not in name]
    require_found(author, "1 hello")
    with asked(author, services) as counted:
        write(author, where, "hi")
        author.deploy()
        require_found(author, "2 hi")
        author.instar("rollback", "prod")
    for name in services:
        assert counted[name].keys() == {f"{SERVICES[name]} 1 hello", f"{SERVICES[name]} 2 hi"}, counted
    assert author.json("status", "front/prod")["active"] == 1, "nothing of who uses it was touched"
    used = [
        {"environment": f"shop/prod{role}", "name": f"{name}.{namespace.name}.svc:80", "trouble": None}
        for role, name in (("", "shop-prod"), (":api", "shop-prod--api"))
    ]
    assert author.json("status", "front/prod")["uses"] == used
    for name in ("shop/prod", "front/prod"):
        assert json.loads(author.instar("drift", name, "--json"))["clean"]
    author.instar("destroy", "shop/prod", "--yes")
    assert author.left() == []


def require_found(author: Author, said: str) -> None:
    """Both roles are found by whoever uses them, of the release that ``said`` is of."""

    def is_found() -> bool:
        lines = author.instar("logs", "front/prod")
        return all(f"{role} {said}" in lines for role in ("web", "api"))

    wait_for(
        is_found,
        lambda: f"it does not find the release: {author.instar('logs', 'front/prod')[-500:]}",
        timeout_s=40,
    )
