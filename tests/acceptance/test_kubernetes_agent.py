"""The agent in the cluster, of the image that Instar bakes of itself: it keeps what is deployed from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import leftovers
import pytest
import yaml
from clusters.layout import layout

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, POD
from instar.providers.kubernetes.kubeconfig import find_config
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, authoring
from passing_on import PassingOn
from postgres import PASSWORD, PostgresServer

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.long]
CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = "{strategy: blue-green}\n    keep: {hot: 1}\n    drift: {check: 5s, action: replace}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What pods name: baked from this checkout, and pushed."""
    home = tmp_path_factory.mktemp("agent-image")
    registry = layout().registry
    (home / "config.yaml").write_text(f"registries: {{'{registry}': {{http: true}}}}\n")
    environ = {
        **os.environ,
        "INSTAR_HOME": os.environ.get("INSTAR_TESTS_HOME", str(home)),
        "PYTHONPATH": ":".join(sys.path),
    }

    def instar(*words: str) -> str:
        argv = [sys.executable, "-c", MAIN, *words]
        done = subprocess.run(argv, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    digest = instar("bake", "-f", "agent.yaml")
    yield instar("push", digest, f"{registry}/instar-agent")
    leftovers.remove_state(home)


@pytest.fixture
def ledger(postgres: PostgresServer) -> Iterator[tuple[str, str]]:
    """A ledger as this machine reaches it, and as pods do."""
    postgres.execute("DROP ROLE IF EXISTS gus", f"CREATE ROLE gus LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    database = postgres.database(postgres.template)
    with PassingOn(layout().host_address, postgres.port) as passing:
        yield (
            postgres.address(database),
            f"postgresql://gus@{layout().host_address}:{passing.port}/{database}",
        )


@pytest.fixture
def author(tmp_path: Path, ledger: tuple[str, str]) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.namespace.environ["INSTAR_LEDGER"] = ledger[0]
        made.write(rollout=KEPT)
        made.deploy()
        yield made
        # an agent that was killed in the middle of a pass has the environment until its lease is over
        destroyed = until(lambda: made.verb("destroy", "prod", "--yes").returncode == 0, Deadline.after(60), every_s=1)
        assert destroyed, made.verb("destroy", "prod", "--yes").stderr


@pytest.fixture
def agents(author: Author, ledger: tuple[str, str], image: str) -> Iterator[Agents]:
    made = Agents(author)
    key = author.instar("ledger", "key", "export").strip()
    machine = (author.folder / "config.yaml").read_text()
    told = {"address": ledger[1], "password": PASSWORD, "key": key}
    made.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": made.called("instar-ledger"), "stringData": told},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": made.called("instar-agent"),
            "data": {"config.yaml": machine},
        },
        *yaml.safe_load_all(author.instar("kubernetes", "agent", "prod", "--image", image)),
    )
    made.ready(2)
    yield made
    made.remove()


class Agents:
    def __init__(self, author: Author) -> None:
        self._author = author
        self._api, self._where = author.namespace.api, author.namespace.name

        self._applied = ""

    def called(self, name: str) -> Mapping[str, str]:
        return {"name": name, "namespace": self._where}

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self._applied = "\n---\n".join(json.dumps(one) for one in objects)
        self.kubectl("apply", "-f", "-", told=self._applied, where=())

    def remove(self) -> None:
        self.kubectl("delete", "--wait=false", "-f", "-", told=self._applied, where=())

    def kubectl(self, *words: str, told: str = "", where: tuple[str, ...] | None = None) -> str:
        inside = ("-n", self._where) if where is None else where
        argv = [str(CHECKOUT / "scripts/cluster"), "kubectl", *inside, *words]
        done = subprocess.run(argv, input=told, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ready(self, count: int) -> None:
        def are() -> bool:
            found = self._api.find(DEPLOYMENT, self._where, "instar-agent") or {}
            return bool((found.get("status") or {}).get("readyReplicas") == count)

        assert until(are, Deadline.after(120), every_s=0.5), self.kubectl("describe", "pods") + self.logs()

    def pods(self) -> list[str]:
        found = self._api.list(POD, self._where, {"app.kubernetes.io/name": "instar-agent"})
        return [one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp")]

    def logs(self) -> str:
        return "\n".join(self.kubectl("logs", one, "--all-containers") for one in self.pods())

    def leading(self) -> str:
        """Return the pod that leads."""
        components = self._author.json("doctor")["components"]
        found = next(one for one in components if one["name"] == "leading agent")["found"] or ""
        return next((pod for pod in self.pods() if f" {pod} " in found), "")


def groups(author: Author) -> list[str]:
    found = author.namespace.api.list(CONFIG_MAP, author.namespace.name, {"instar/part": "anchor"})
    return sorted(one["metadata"]["name"] for one in found)


def test_it_keeps_what_is_deployed_from_outside(author: Author, agents: Agents) -> None:
    assert until(agents.leading, Deadline.after(30), every_s=0.5), agents.logs()
    for greeting in ("hi", "hey"):
        author.write(rollout=KEPT, greeting=greeting)
        author.deploy()
    retired = until(lambda: [one[:-2] for one in groups(author)] == ["shop-prod-2", "shop-prod-3"], Deadline.after(60))
    assert retired, (groups(author), agents.logs())

    environ = author.namespace.environ
    stranger = Api(find_config(None, environ), environ, manager="kubectl-edit")
    active = groups(author)[-1]
    stranger.merge(
        DEPLOYMENT, author.namespace.name, active, {"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}
    )
    assert until(lambda: active not in groups(author), Deadline.after(90), every_s=0.5), agents.logs()
    kinds = [one["kind"] for one in author.json("history", "prod")]
    assert "drift" in kinds
    assert author.json("drift", "prod")["clean"]
    replaced = next(one for one in author.json("status", "prod")["releases"] if one["number"] == 3)
    assert (replaced["weight"], replaced["image"]) == (100, author.image)


def test_the_other_one_leads_when_it_is_killed(author: Author, agents: Agents) -> None:
    assert until(agents.leading, Deadline.after(30), every_s=0.5), agents.logs()
    first = agents.leading()
    agents.kubectl("delete", "pod", first, "--grace-period=0", "--force")
    assert until(lambda: agents.leading() not in ("", first), Deadline.after(60), every_s=0.5), agents.logs()
