"""The verbs on a real cluster: from the first deploy to the last trace, with requests all the while."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, ROUTE, SERVICE
from instar.store import Store
from kubernetes_namespace import Namespace, tiny_image

pytestmark = pytest.mark.cluster

MAIN = "import sys; from instar.cli.main import main; sys.exit(main())"
SERVE = (
    'mkdir -p /tmp/www; echo "$INSTAR_RELEASE $GREETING $(cat /run/secrets/TOKEN)" >/tmp/www/index.html; '
    "echo serving; exec httpd -f -p 8080 -h /tmp/www"
)
DEFINITION = """\
name: shop
image: {{base: scratch}}
service:
  command: {command}
  port: 8080
  health: {{path: /, deadline: {deadline}}}
  stop: {{grace: 2s, drain: 1s}}
  limits: {{memory: 32M, cpus: 0.2}}
  {more}
environments:
  prod:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: "{registry}/shop", pre_stop: 2s{gateway}}}
    listen: {{http: ["{host}"]}}
    instances: 2
    config: {{GREETING: {greeting}}}
    secrets: {{TOKEN: {{file: token}}}}
    rollout: {rollout}
"""
CANARY = "{strategy: canary, steps: [50], pause: 2s}"


class Author:
    """Somebody with a definition, a state directory of their own and a namespace in the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = Namespace(folder)
        self.host = f"{self.namespace.name}.cluster.test"
        self.image = tiny_image(Store(folder / "store"), folder).digest
        (folder / "token").write_text("s3cret")

    def write(self, *, host: str = "", gateway: bool = True, **changed: Any) -> None:
        told = {"greeting": "hello", "deadline": "30s", "rollout": CANARY, "more": "", "command": ["sh", "-c", SERVE]}
        told |= changed
        told["command"] = json.dumps(told["command"])
        behind = ", gateway: {name: public, namespace: gateways}" if gateway else ""
        text = DEFINITION.format(
            namespace=self.namespace.name,
            registry=self.namespace.registry,
            host=host or self.host,
            gateway=behind,
            **told,
        )
        (self.folder / "instar.yaml").write_text(text)

    def instar(self, *words: str, status: int = 0) -> str:
        argv = [sys.executable, "-c", MAIN, *words]
        environ = {**self.namespace.environ, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            argv, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def deploy(self, *words: str, status: int = 0) -> str:
        return self.instar("deploy", "prod", "--image", self.image, *words, status=status)

    def left(self) -> list[str]:
        """Return what is in the namespace that is this environment's."""
        labels = {"instar/service": "shop"}
        kinds = (CONFIG_MAP, DEPLOYMENT, SERVICE, JOB, POD, ROUTE)
        found = [(kind, one) for kind in kinds for one in self.namespace.api.list(kind, self.namespace.name, labels)]
        return [f"{kind.name} {one['metadata']['name']}" for kind, one in found]


class Requests:
    """Asks the gateway all the while, on connections that stay open and on new ones; counts who answered."""

    def __init__(self, author: Author) -> None:
        self.answers: Counter[str] = Counter()
        self._author = author
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(4)]

    def __enter__(self) -> Requests:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _run(self, keep: bool) -> None:
        where = urlsplit(self._author.namespace.gateway)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        while not self._stop.wait(0.01):
            try:
                connection.request("GET", "/", headers={"Host": self._author.host})
                answer = connection.getresponse()
                body = answer.read().decode()
                self.answers[body.strip() if answer.status == 200 else f"status {answer.status}"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
                connection.close()
            if not keep:
                connection.close()
        connection.close()


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    made = Author(tmp_path)
    try:
        yield made
    finally:
        made.namespace.close()


def test_from_the_first_deploy_to_the_last_trace(author: Author) -> None:
    author.write()
    author.deploy()
    with Requests(author) as asked:
        author.write(greeting="hi")
        author.deploy()
        before = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
        author.instar("rollback", "prod")
        time.sleep(0.5)
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, "no request was lost"
    assert min(asked.answers.values()) > 20

    made = {one["metadata"]["name"]: one["metadata"]["generation"] for one in before}
    assert made == {"shop-prod-1-1": 1, "shop-prod-2-1": 1}, "nothing that was made was ever changed"
    told = json.loads(author.instar("status", "prod", "--json"))
    shown = [(one["number"], one["weight"], one["state"]) for one in told["releases"]]
    assert shown == [(2, 0, "hot"), (1, 100, "active")]
    assert "serving" in author.instar("logs", "prod")

    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_a_release_that_never_answers_is_taken_back_with_its_reason(author: Author) -> None:
    author.write()
    author.deploy()
    author.write(deadline="6s", more="timeouts: {request: 30s}", command=["sh", "-c", "echo deaf; sleep 999"])
    told = author.deploy(status=1)
    assert "0 of 2 healthy after 6 s: shop-prod-2-1-" in told
    assert "probe failed" in told and "deaf" in told
    author.write(command=["nothing-there"], deadline="6s")
    assert "nothing-there" in author.deploy(status=1)
    assert {one.partition(" ")[2].removesuffix("-config").removesuffix("-secrets")[:13] for one in author.left()} == {
        "shop-prod",
        "shop-prod-1-1",
    }, "what failed is gone, and what served is there"
    author.instar("destroy", "prod", "--yes")


def test_tasks_run_as_jobs_and_smoke_checks_are_asked_of_the_pods(author: Author) -> None:
    more = (
        'before: [{command: [sh, -c, "echo migrating"]}]\n'
        "  smoke: [{path: /, contains: s3cret}, {command: [grep, -q, s3cret, /run/secrets/TOKEN]}]"
    )
    author.write(more=more)
    told = author.deploy()
    assert "2 checks passed" in told
    assert "migrating" in author.instar("logs", "prod", "shop-prod-1-1")
    author.write(more='before: [{command: [sh, -c, "echo no; exit 3"]}]')
    told = author.deploy(status=1)
    assert "exit status 3" in told or "status 3" in told
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []


def test_without_a_gateway_it_is_blue_green_by_a_selector(author: Author) -> None:
    host = f"shop-prod.{author.namespace.name}.svc"
    author.write(gateway=False, host=host)
    assert "a canary needs 'kubernetes.gateway'" in author.deploy(status=1)
    author.write(gateway=False, host=host, rollout="{strategy: blue-green}")
    author.deploy()
    author.write(gateway=False, host=host, rollout="{strategy: blue-green}", greeting="hi")
    author.deploy()
    found = author.namespace.api.find(SERVICE, author.namespace.name, "shop-prod")
    assert found is not None and found["spec"]["selector"] == {"instar/group": "shop-prod-2-1"}
    connection = http.client.HTTPConnection(found["spec"]["clusterIP"], 80, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read().decode().strip() == "2 hi s3cret"
    connection.close()
    author.instar("rollback", "prod")
    found = author.namespace.api.find(SERVICE, author.namespace.name, "shop-prod")
    assert found is not None and found["spec"]["selector"] == {"instar/group": "shop-prod-1-1"}
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []
