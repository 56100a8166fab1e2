"""Doors of roles and of a further port on a real cluster, with requests at each of them all the while."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from instar.providers.kubernetes.kinds import ROUTE
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster

KILLER = Path(__file__).with_name("api_killer.py")
NEVER = 10**9
POINTS = 3
SERVE = (
    'mkdir -p /tmp/www; echo "{role} $INSTAR_RELEASE $GREETING s3cret" >/tmp/www/index.html; '
    '{more}httpd -f -p {port} -h /tmp/www & trap "kill 0; exit" TERM; wait'
)
DEFINITION = """\
name: shop
image: {{base: scratch}}
roles:
  web:
    command: {web}
    port: 8080
    {ports}
    health: {{path: /, deadline: 60s}}
    stop: {{grace: 2s, drain: 1s}}
    limits: {{memory: 32M, cpus: 0.2}}
{api}
environments:
  prod:
    provider: kubernetes
    kubernetes:
      namespace: {namespace}
      registry: "{registry}/shop"
      pre_stop: 2s
      gateway: {{name: public, namespace: gateways}}
    listen: {listen}
    config: {{GREETING: {greeting}}}
    rollout: {rollout}
"""
API = """\
  api:
    command: {api}
    port: 9000
    health: {{path: /, deadline: 60s}}
    stop: {{grace: 2s, drain: 1s}}
    limits: {{memory: 32M, cpus: 0.2}}
"""
ROLLOUTS = ("{strategy: blue-green}", "{strategy: canary, steps: [50], pause: 1s}")


class Shop:
    """An author whose service has two roles with doors, of which one has a further port with one too."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.hosts = {"web": author.host, "web.admin": f"admin.{author.host}", "api": f"api.{author.host}"}
        self.greetings = (f"v{number}" for number in itertools.count(1))
        self.greeting = ""

    def write(
        self, rollout: str = ROLLOUTS[0], doors: tuple[str, ...] = ("web", "web.admin", "api"), **listen: object
    ) -> None:
        self.greeting = next(self.greetings)
        admin = "httpd -f -p 9001 -h /tmp/www & "
        web = ["sh", "-c", SERVE.format(role="web", more=admin, port=8080)]
        api = ["sh", "-c", SERVE.format(role="api", more="", port=9000)]
        listen = {door: {"http": [self.hosts[door]]} for door in doors} | listen
        text = DEFINITION.format(
            web=json.dumps(web),
            ports="ports: {admin: 9001}",
            api=API.format(api=json.dumps(api)) if "api" in doors else "",
            namespace=self.author.namespace.name,
            registry=self.author.namespace.registry,
            listen=json.dumps(listen),
            greeting=self.greeting,
            rollout=rollout,
        )
        (self.author.folder / "instar.yaml").write_text(text)

    @contextlib.contextmanager
    def asked(self, *doors: str) -> Iterator[dict[str, Counter[str]]]:
        """Ask at doors all the while, by a connection that stays and by new ones; none of what is asked is lost, and
        each door leads to its role."""
        with contextlib.ExitStack() as stack:
            asking = {door: Requests(self.author, host=self.hosts[door], at_once=2) for door in doors}
            each = {door: stack.enter_context(one) for door, one in asking.items()}
            yield {door: one.answers for door, one in each.items()}
        for door, one in each.items():
            role = door.partition(".")[0]
            lost = {told: number for told, number in one.answers.items() if not told.startswith(f"{role} ")}
            assert lost == {} and one.answers, f"{door}: {one.answers}"

    def routes(self) -> list[str]:
        namespace = self.author.namespace
        return sorted(one["metadata"]["name"] for one in namespace.api.list(ROUTE, namespace.name, {}))

    def check(self) -> None:
        """All doors lead to the active release, and nothing else is there."""
        status = self.author.json("status", "prod")
        active = status["active"]
        assert status["rollout"] is None
        for route in (one for one in self.routes() if "redirect" not in one):
            weights = {name: weight for name, weight in self.author.weights(route).items() if weight}
            assert [name.split("-")[2] for name in weights] == [str(active)], (route, weights)
            assert set(weights.values()) == {100}, (route, weights)
        assert json.loads(self.author.instar("drift", "prod", "--json"))["clean"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with authoring(tmp_path) as author:
        yield Shop(author)


def test_all_doors_follow_rollouts_and_ways_back_and_no_request_fails(shop: Shop) -> None:
    author = shop.author
    shop.write()
    author.deploy()
    assert shop.routes() == ["shop-prod", "shop-prod.0.admin", "shop-prod.api"]
    with shop.asked("web", "web.admin", "api"):
        for rollout in ROLLOUTS:
            shop.write(rollout)
            author.deploy()
            shop.check()
            newest = author.json("status", "prod")["active"]
            for to in (newest - 1, newest):
                author.instar("rollback", "prod", "--to", str(to))
                shop.check()
    with shop.asked("web"):
        shop.write(doors=("web",))
        author.deploy()
        assert shop.routes() == ["shop-prod"], "what led to what is gone is gone"
        shop.write()
        author.deploy()
    with shop.asked("web", "web.admin", "api"):
        shop.check()
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_names_with_other_paths_many_paths_and_names_that_are_sent_on(shop: Shop) -> None:
    """What one route cannot hold is several, and a name goes from one to another without a request lost."""
    author, host = shop.author, shop.author.host
    shop.write(doors=("web",))
    author.deploy()
    paths = [f"{host}/p{number}" for number in range(10)]
    sites = {"http": [host, *paths, f"b.{host}/only"], "redirect": {f"www.{host}": host}}
    with Requests(author) as asked:
        shop.write(doors=("web",), web=sites)
        author.deploy()
        assert len(shop.routes()) == 4, shop.routes()
        author.instar("rollback", "prod")
        shop.check()
        shop.write(doors=("web",), web={"http": [f"b.{host}", host]})
        author.deploy()
        assert shop.routes() == ["shop-prod"]
        shop.write(doors=("web",), web=sites)
        author.deploy()
    assert all(told.startswith("web ") for told in asked.answers), asked.answers
    assert answer(shop, f"b.{host}", "/only/")[0] == 404, "it came to the service, which has no such file"
    status, to = answer(shop, f"www.{host}", "/a?b=c")
    assert status == 301 and urlsplit(to or "")[:4] in (
        ("http", f"{host}{port}", "/a", "b=c") for port in ("", ":8080")
    )
    shop.check()
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def answer(shop: Shop, host: str, path: str) -> tuple[int, str | None]:
    where = urlsplit(shop.author.namespace.gateway)
    with contextlib.closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Host": host})
        found = connection.getresponse()
        return found.status, found.headers.get("Location")


def test_killed_in_the_middle_all_doors_end_where_they_would_have(shop: Shop) -> None:
    author = shop.author
    count = 0
    for _ in range(2):  # the second one removes what is hot no more
        shop.write(ROLLOUTS[1])
        count = run(shop, NEVER) or 0
    assert count
    with shop.asked("web", "web.admin", "api"):
        for number in range(1, POINTS + 1):
            shop.write(ROLLOUTS[1])
            assert run(shop, count * number // (POINTS + 1)) is None
            author.deploy()
            shop.check()
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def run(shop: Shop, kill_at: int) -> int | None:
    """Deploy; return how many points it had at which something is changed, None when it was killed at one."""
    counted = shop.author.folder / "count"
    counted.unlink(missing_ok=True)
    words = ("deploy", "prod", "--image", shop.author.image)
    done = shop.author.run(sys.executable, "-B", str(KILLER), str(kill_at), str(counted), *words)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, f"killed at {kill_at}: {done.stderr}{done.stdout}"
    return int(counted.read_text())
