"""Rollouts and rollbacks on a cluster (scripts/cluster), beside kubectl's of the same image, probes and limits; and the
agent's passes over a thousand pods."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/integration")]

from clusters.cluster import Cluster  # noqa: E402  (the author of the tests is one folder away)
from clusters.layout import layout  # noqa: E402
from clusters.simulated import simulated_nodes  # noqa: E402

from instar.providers.kubernetes.kinds import DEPLOYMENT  # noqa: E402
from kubernetes_author import Author, authoring  # noqa: E402
from kubernetes_thousand import NODES, passes, released  # noqa: E402

if TYPE_CHECKING:
    from items import Bench

PODS = 10
_BLUE_GREEN = "{strategy: blue-green}"
_PEER = "peer"


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds, and calls to the API of the command alone, for a rollout and for its rollback."""

    rollout_s: float
    rollout_calls: int
    rollback_s: float
    rollback_calls: int


class Side:
    """Runs what is measured, and counts in the audit log what it asked."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._log = cluster.layout.logs / "audit.log"
        self._client = client

    def measured(self, *acts: Any) -> tuple[float, int]:
        start = self._log.stat().st_size
        began = time.perf_counter()
        for act in acts:
            act()
        seconds = time.perf_counter() - began
        with self._log.open("rb") as log:
            log.seek(max(0, start - 1))
            _, *lines = log.read().split(b"\n")  # the first ends a line of before, the last has still to end
        entries = [json.loads(line) for line in lines[:-1]]
        mine = {one["auditID"] for one in entries if str(one.get("userAgent", "")).startswith(self._client)}
        return seconds, len(mine)


@contextmanager
def a_cluster() -> Iterator[Cluster]:
    """Have the machine's cluster whole; where there was none, it ends with the block."""
    cluster = Cluster(layout())
    was_there, script = cluster.size() > 0, ROOT / "scripts/cluster"
    subprocess.run([script, "up"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield cluster
    finally:
        if not was_there:
            subprocess.run([script, "down"], check=True)


@contextmanager
def an_author(folder: Path) -> Iterator[Author]:
    """Have a definition and a namespace in the cluster; in the end nothing of it is there."""
    folder.mkdir()
    with authoring(folder) as author:
        try:
            yield author
        finally:
            author.instar("destroy", "prod", "--yes")
            shutil.rmtree(folder, ignore_errors=True)


def rolled_out(bench: Bench) -> list[Figure]:
    """Ten pods are rolled out, and back, on a cluster."""
    made = rounds(bench.fresh("kubernetes"), len(bench.times(5)))

    def figure(what: str, name: str, unit: str, peer: str, most: float | None = None) -> Figure:
        ours, others = ([float(getattr(one, name)) for one in side] for side in zip(*made, strict=True))
        return Figure(what=f"Kubernetes, 10 pods: {what}", ours=ours, unit=unit, beside=others, peer=peer, most=most)

    return [
        figure("rollout", "rollout_s", "s", "kubectl rollout"),
        figure("calls to the API of a rollout", "rollout_calls", "", "kubectl rollout"),
        figure("rollback", "rollback_s", "s", "kubectl rollout undo", 0.1),
        figure("calls to the API of a rollback", "rollback_calls", "", "kubectl rollout undo"),
    ]


def thousand(bench: Bench) -> list[Figure]:
    """The agent passes over a thousand pods of ten environments, on simulated nodes."""
    folder = bench.fresh("thousand")
    folder.mkdir()
    with a_cluster() as cluster, simulated_nodes(cluster, NODES), authoring(folder) as author, released(author):
        made = [one for _ in bench.times(5) for one in passes(author, 3)]
    checked, quiet = [one for one in made if one.checked], [one for one in made if not one.checked]
    what = "Kubernetes, 1,000 pods of 10 environments"
    return [
        Figure(what=f"{what}: a pass", ours=[one.seconds for one in quiet], unit="s", most=2.0),
        Figure(what=f"{what}: calls to the API of a pass", ours=[float(one.calls) for one in quiet], unit=""),
        Figure(what=f"{what}: a pass that looks for drift", ours=[one.seconds for one in checked], unit="s", most=2.0),
        Figure(what=f"{what}: its calls to the API", ours=[float(one.calls) for one in checked], unit=""),
    ]


def rounds(folder: Path, number: int) -> list[tuple[Round, Round]]:
    """Release and go back so often, Instar and kubectl by turns."""
    with a_cluster() as cluster, an_author(folder) as author:
        _write(author, "r0")
        author.deploy()
        _make_peer(cluster, author)
        return [(_ours(cluster, author, one), _kubectl(cluster, author, one)) for one in range(1, number + 1)]


def _write(author: Author, greeting: str) -> None:
    author.write(instances=PODS, rollout=_BLUE_GREEN, greeting=greeting, deadline="120s")


def _ours(cluster: Cluster, author: Author, number: int) -> Round:
    side = Side(cluster, "python-httpx2")
    _write(author, f"r{number}")
    forth = side.measured(author.deploy)
    back = side.measured(lambda: author.instar("rollback", "prod"))
    return Round(rollout_s=forth[0], rollout_calls=forth[1], rollback_s=back[0], rollback_calls=back[1])


def _make_peer(cluster: Cluster, author: Author) -> None:
    """Make a Deployment of the same pods that is changed in place, as kubectl does it."""
    (made, *_) = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
    template: Mapping[str, Any] = made["spec"]["template"]
    labels = {"app": _PEER}
    pod = {**template["spec"], "topologySpreadConstraints": []}
    spec = {"replicas": PODS, "selector": {"matchLabels": labels}}
    spec["template"] = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": _PEER, "namespace": author.namespace.name}
    peer = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    cluster.api.kubectl("apply", "-f", "-", stdin=json.dumps(peer))
    _wait(cluster, author)


def _wait(cluster: Cluster, author: Author) -> None:
    cluster.api.kubectl("rollout", "status", f"deployment/{_PEER}", "-n", author.namespace.name, "--timeout=180s")


def _kubectl(cluster: Cluster, author: Author, number: int) -> Round:
    side, where = Side(cluster, "kubectl"), ("-n", author.namespace.name)
    change = ("set", "env", f"deployment/{_PEER}", f"ROUND={number}", *where)
    undo = ("rollout", "undo", f"deployment/{_PEER}", *where)
    forth = side.measured(lambda: cluster.api.kubectl(*change), lambda: _wait(cluster, author))
    back = side.measured(lambda: cluster.api.kubectl(*undo), lambda: _wait(cluster, author))
    return Round(rollout_s=forth[0], rollout_calls=forth[1], rollback_s=back[0], rollback_calls=back[1])
