"""The demo's journey, from one file: baked, deployed on this machine, promoted to a cluster by its digest, changed
under load, a bad release that a canary takes back, a pod that dies, the way back, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import leftovers
import load
import pytest
from test_kubernetes_analysis import Prometheus
from test_kubernetes_members import is_ready

from free_ports import free_port
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD, ROUTE, SERVICE, VOLUME_CLAIM, Kind
from instar.waiting import Deadline, retry, until
from kubernetes_author import MAIN
from kubernetes_namespace import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.long]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/guestbook"
PRODUCTION = """\
  production:
    provider: kubernetes
    kubernetes:
      namespace: {namespace}
      registry: "{registry}/guestbook"
      gateway: {{name: public, namespace: gateways}}
      prometheus: {{url: "{prometheus}"}}
    listen: {{http: [{host}]}}
    instances: 2
    promote_from: dev
    config: {{GREETING: Please sign our guestbook}}
    rollout: {rollout}
"""
CANARY = "{strategy: canary, steps: [20], pause: 20s, analysis: {min_requests: 20}}"
FAILS_REQUESTS = ("    page = PAGE.format(", "    page = 1 / 0  # PAGE.format(")


class Journey:
    """A copy of the guestbook, whose production is in a cluster, and the commands on it."""

    prometheus = ""  # the address of the one that counts what the gateway has answered

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        home.mkdir(exist_ok=True)
        self.home = home
        self.namespace = Namespace(home)
        self.host = f"{self.namespace.name}.cluster.test"
        self.port = free_port()
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)

    def write(self, rollout: str = "{strategy: blue-green}") -> None:
        definition = (EXAMPLE / "instar.yaml").read_text()
        text = definition[: definition.index("  production:")].replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        where = {"namespace": self.namespace.name, "registry": self.namespace.registry, "host": self.host}
        text += PRODUCTION.format(prometheus=self.prometheus, rollout=rollout, **where)
        (self.folder / "instar.yaml").write_text(
            text.replace("drain: 30s", "drain: 2s").replace("deadline: 30s", "deadline: 3m")
        )

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **self.namespace.environ, "HOME": os.environ["HOME"]}
        argv = [sys.executable, "-c", MAIN, *words]
        return subprocess.run(argv, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)

    def instar(self, *words: str) -> Any:
        done = self.verb(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def bake(self) -> str:
        """Bake as the example was locked; an archive that has dropped a locked version since gets a new lock."""
        if self.verb("bake").returncode != 0:
            self.instar("lock", "--update")
        return str(self.instar("bake")["digest"])

    def change(self, old: str, new: str) -> None:
        source = self.folder / "app/guestbook.py"
        text = source.read_text()
        assert old in text
        source.write_text(text.replace(old, new))

    def ask(self, path: str, *, dev: bool = False, form: dict[str, str] | None = None) -> tuple[str | None, str]:
        """Return which version answered, and what."""
        url = f"http://127.0.0.1:{self.port}{path}" if dev else self.namespace.gateway + path
        data = urllib.parse.urlencode(form).encode() if form else None
        asked = urllib.request.Request(url, data=data, headers={} if dev else {"Host": self.host})
        opener = urllib.request.build_opener(_Stays)
        with opener.open(asked, timeout=10) as answer:
            return answer.headers["X-Guestbook-Version"], answer.read().decode()

    def pods(self) -> list[dict[str, Any]]:
        found = self.listed(POD)
        return [dict(one) for one in found if not one["metadata"].get("deletionTimestamp") and is_ready(one)]

    def left(self) -> list[str]:
        kinds = (CONFIG_MAP, DEPLOYMENT, SERVICE, POD, ROUTE, VOLUME_CLAIM)
        return [f"{kind.name} {one['metadata']['name']}" for kind in kinds for one in self.listed(kind)]

    def listed(self, kind: Kind) -> Sequence[Any]:
        """Return the guestbook's objects of a kind: a busy API server is asked again, as Instar does."""
        namespace, labels = self.namespace.name, {"instar/service": "guestbook"}
        return retry(lambda: self.namespace.api.list(kind, namespace, labels), Deadline.after(60), longest_pause_s=2)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Where a form leads to is told by a name that only the gateway knows."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    kept = os.environ.get("INSTAR_TESTS_HOME")  # what was fetched and baked there before is not again
    made = Journey(tmp_path / "guestbook", Path(kept) if kept else tmp_path / "home")
    prometheus = Prometheus(tmp_path / "prometheus", urlsplit(made.namespace.gateway).hostname or "")
    try:
        prometheus.wait()
        made.prometheus = prometheus.url
        made.write()
        yield made
    finally:
        for environment in ("production", "dev"):
            made.verb("destroy", environment, "--volumes", "--yes")
        prometheus.close()
        made.namespace.close()
    assert leftovers.remaining(lambda: leftovers.traces((made.home / "id").read_text().strip())) == []
    if not kept:
        leftovers.remove_state(made.home)


def test_from_one_file_to_a_cluster_and_back(journey: Journey) -> None:
    first = journey.bake()
    assert journey.instar("deploy", "dev")["image"] == first
    assert journey.ask("/", dev=True)[0] == "1"
    promoted = journey.instar("promote", "dev", "production")
    assert promoted["image"] == first
    images = {one["spec"]["containers"][0]["image"].partition("@")[2] for one in journey.pods()}
    assert images == {first} and len(journey.pods()) == 2
    sign(journey, "Ada", "the first entry")

    words = ("--name", journey.host, "--rate", "50", "--connections", "8", "--tally", "X-Guestbook-Version")
    with load.running(journey.namespace.gateway + "/", *words) as traffic:
        journey.change('VERSION = "1"', 'VERSION = "2"')
        second = journey.bake()
        journey.instar("deploy", "dev")
        assert journey.instar("promote", "dev", "production")["image"] == second
        assert journey.ask("/")[0] == "2"
        assert journey.instar("rollback", "production")["image"] == first
        time.sleep(1)
        told = traffic.stop()
    assert told["failed"] == 0, json.dumps(told, indent=1)
    assert set(told["tally"]) == {"1", "2"}, told

    a_canary_that_fails_is_taken_back(journey, words)
    a_pod_that_dies_is_replaced(journey)
    assert "the first entry" in journey.ask("/")[1], "what is in the volume outlives all of it, and all pods have it"
    assert journey.instar("drift", "production")["clean"]
    for environment in ("production", "dev"):
        destroyed = journey.verb("destroy", environment, "--volumes", "--yes")
        assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert until(lambda: journey.left() == [], Deadline.after(30), every_s=0.5), journey.left()


def sign(journey: Journey, name: str, text: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="303"):
        journey.ask("/entries", form={"name": name, "text": text})
    for _ in range(10):  # by either pod
        assert text in journey.ask("/entries")[1]


def a_canary_that_fails_is_taken_back(journey: Journey, words: tuple[str, ...]) -> None:
    """It is well by its health check, and fails what users ask."""
    journey.write(CANARY)
    journey.change(*FAILS_REQUESTS)
    journey.instar("deploy", "dev")
    with load.running(journey.namespace.gateway + "/", *words) as traffic:
        done = journey.verb("promote", "dev", "production", "--json")
        time.sleep(1)
        told = traffic.stop()
    assert done.returncode == 1, done.stdout + done.stderr
    refused = json.loads(done.stdout)
    assert refused["outcome"] == "failed" and "requests failed" in refused["reason"], refused
    assert 0 < told["failed"] < told["requests"] / 2, told
    assert journey.ask("/")[0] == "1"


def a_pod_that_dies_is_replaced(journey: Journey) -> None:
    own = f"guestbook-production-{journey.instar('status', 'production')['active']}-1-"

    def members() -> set[str]:
        return {name for name in (str(one["metadata"]["name"]) for one in journey.pods()) if name.startswith(own)}

    victim, other = members()
    path = POD.path(journey.namespace.name, victim)
    journey.namespace.api._ask("DELETE", path, "kill it", params={"gracePeriodSeconds": "0"})

    def are_two() -> bool:
        return len(members()) == 2 and other in members() and victim not in members()

    assert until(are_two, Deadline.after(60), every_s=0.2)
    status = journey.instar("status", "production")
    (active,) = [one for one in status["releases"] if one["number"] == status["active"]]
    assert active["instances"][0]["ready"] == 2
