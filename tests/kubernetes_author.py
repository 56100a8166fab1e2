"""Somebody who releases to the cluster of this machine by the command line, and somebody who asks all the while."""

from __future__ import annotations

import contextlib
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

import forked_commands
from instar.providers.kubernetes.kinds import (
    AUTOSCALER,
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    POLICY,
    ROUTE,
    SECRET,
    SERVICE,
)
from instar.store import Store
from kubernetes_namespace import Namespace, tiny_image

MAIN = "import sys; from instar.cli.main import main; sys.exit(main())"
COMMAND = (sys.executable, "-c", MAIN)
LONGEST_S = 180
SERVE = (
    'mkdir -p /tmp/www; echo "$INSTAR_RELEASE $GREETING $(cat /run/secrets/TOKEN)" >/tmp/www/index.html; '
    'echo serving; httpd -f -p 8080 -h /tmp/www & trap "kill $!; exit" TERM; wait'
)  # as the first process of a pod httpd would not end by SIGTERM, and each end would take all of its time
DEFINITION = """\
name: shop
image: {{base: scratch}}
service:
  command: {command}
  port: 8080
  health: {{path: /, deadline: {deadline}}}
  stop: {stop}
  limits: {{memory: 32M, cpus: 0.2}}
  {more}
environments:
  prod:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: "{registry}/shop", pre_stop: {pre_stop}{gateway}{section}}}
    listen: {{http: ["{host}"]}}
    instances: {instances}
    config: {{GREETING: {greeting}}}
    secrets: {{TOKEN: {{file: token}}}}
    rollout: {rollout}
    {settings}
"""
CANARY = "{strategy: canary, steps: [50], pause: 2s}"


class Author:
    """Somebody with a definition, a state directory of their own and a namespace in the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = MAIN  # what runs the command line
        self.namespace = Namespace(folder)
        self.host = f"{self.namespace.name}.cluster.test"
        self.image = tiny_image(Store(folder / "store"), folder).digest
        self.begun: list[subprocess.Popen[str]] = []  # that may not have ended when a test does
        (folder / "token").write_text("s3cret")

    def write(self, *, host: str = "", gateway: bool = True, **changed: Any) -> None:
        told: dict[str, Any] = {
            "greeting": "hello",
            "deadline": "30s",
            "pre_stop": "2s",
            "stop": "{grace: 2s, drain: 1s}",
            "rollout": CANARY,
            "more": "",
            "command": ["sh", "-c", SERVE],
        }
        told |= {"section": "", "settings": "", "instances": 2}
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
        done = self.run(sys.executable, "-c", self.main, *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *words: str) -> Any:
        done = self.run(sys.executable, "-c", self.main, *words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Instar to its end, however that is."""
        return self.run(sys.executable, "-c", self.main, *words)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run something in the author's folder and environment to its end, however that is."""
        if argv[:3] == COMMAND:
            return forked_commands.run(argv[3:], self.folder, self.environ, timeout_s=LONGEST_S)
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=LONGEST_S)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def start(self, *argv: str, stdin: int | None = None) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environ, stdin=stdin, stdout=pipe, stderr=pipe, text=True
        )

    @property
    def environ(self) -> dict[str, str]:
        return {**self.namespace.environ, "PYTHONPATH": ":".join(sys.path)}

    def start_deploy(self) -> subprocess.Popen[str]:
        """Begin a deploy and leave it running."""
        return self.start(sys.executable, "-c", self.main, "deploy", "prod", "--image", self.image)

    def deploy(self, *words: str, status: int = 0) -> str:
        return self.instar("deploy", "prod", "--image", self.image, *words, status=status)

    def weights(self, route: str = "shop-prod") -> dict[str, int]:
        """Return what a route says: the weight of each group's Service that it names."""
        found = self.namespace.api.find(ROUTE, self.namespace.name, route) or {"spec": {"rules": []}}
        backends = [one for rule in found["spec"]["rules"] for one in rule.get("backendRefs", ())]
        return {one["name"]: one.get("weight", 1) for one in backends}

    def is_taken_up(self) -> bool:
        """Say whether the gateway has said that it has taken up the route as it is."""
        route = self.namespace.api.find(ROUTE, self.namespace.name, "shop-prod") or {}
        said = [
            one for parent in route["status"]["parents"] for one in parent["conditions"] if one["type"] == "Accepted"
        ]
        return any(one["observedGeneration"] == route["metadata"]["generation"] for one in said)

    def left(self) -> list[str]:
        """Return what is in the namespace that is this environment's."""
        labels = {"instar/service": "shop"}
        kinds = (CONFIG_MAP, SECRET, DEPLOYMENT, SERVICE, BUDGET, AUTOSCALER, POLICY, JOB, POD, ROUTE)
        found = [(kind, one) for kind in kinds for one in self.namespace.api.list(kind, self.namespace.name, labels)]
        return [f"{kind.name} {one['metadata']['name']}" for kind, one in found]


@contextlib.contextmanager
def authoring(folder: Path) -> Iterator[Author]:
    """Have an author, whose namespace goes with them."""
    made = Author(folder)
    try:
        yield made
    finally:
        made.namespace.close()


class Requests:
    """Asks the gateway all the while, on connections that stay open and on new ones; counts who answered.

    About 120 a second: a pod forks for each, and more are the processors that whoever releases works with. ``begun``
    and ``ended``: when the first request that was answered so began, and the last one ended. ``apart_s``: so long
    after one another they begin to ask.
    """

    def __init__(
        self, author: Author, path: str = "/", *, host: str = "", at_once: int = 4, apart_s: float = 0
    ) -> None:
        self.answers: Counter[str] = Counter()
        self.begun: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._author = author
        self._host = host or author.host
        self._path = path
        self._stop = threading.Event()
        numbers = range(at_once)
        self._threads = [threading.Thread(target=self._run, args=(one % 2 == 0, one * apart_s)) for one in numbers]

    def __enter__(self) -> Requests:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _run(self, keep: bool, after_s: float) -> None:
        self._stop.wait(after_s)
        where = urlsplit(self._author.namespace.gateway)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        while not self._stop.wait(0.03):
            began = time.monotonic()
            try:
                connection.request("GET", self._path, headers={"Host": self._host})
                answer = connection.getresponse()
                body = answer.read().decode()
                self._count(body.strip() if answer.status == 200 else f"status {answer.status}", began)
            except (OSError, http.client.HTTPException) as error:
                self._count(repr(error), began)
                connection.close()
            if not keep:
                connection.close()
        connection.close()

    def _count(self, answer: str, began: float) -> None:
        self.answers[answer] += 1
        self.begun.setdefault(answer, began)
        self.ended[answer] = time.monotonic()
