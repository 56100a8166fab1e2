"""Whoever starts or ends a cluster may be killed at any moment: the next command goes on, and its end leaves nothing.
A node may go away, and come back.

A second cluster beside the first, with a name and addresses of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest
from cluster_kit import made_namespace, pushed_hello, wait_for
from clusters.api import condition
from clusters.cluster import Cluster
from clusters.layout import Layout, layout
from clusters.parts import NODE_IS_LOST_S

ROOT = Path(__file__).parents[2]
NAME, NETWORK = "instar-k9s", "10.168"
ENVIRON = {**os.environ, "INSTAR_CLUSTER_NAME": NAME, "INSTAR_CLUSTER_NETWORK": NETWORK}
START_S = 120


def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [ROOT / "scripts/cluster", *words],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def killed_when(*words: str, said: str) -> None:
    """Run a command, and kill it as soon as it has said something."""
    with subprocess.Popen([ROOT / "scripts/cluster", *words], env=ENVIRON, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        told: list[str] = []
        while (not told or said not in told[-1]) and (line := child.stderr.readline()):
            told.append(line)
        child.send_signal(signal.SIGKILL)
    assert told and said in told[-1], f"it never said {said!r}:\n{''.join(told)}"


@pytest.fixture
def second() -> Iterator[Layout]:
    run("down")  # a run that was killed may have left one
    yield layout(ENVIRON)
    run("down")
    assert left() == []


def left() -> list[str]:
    """Return what is there of the second cluster: on the machine, and of its files."""
    found = leftovers.remaining(lambda: leftovers.traces(NAME))
    state = layout(ENVIRON).state
    return [*found, *([str(state)] if state.exists() else [])]


@pytest.mark.parametrize("said", ["node 0 made", "etcd started", "kubelet started"])
def test_a_start_that_is_killed_leaves_nothing_after_down(second: Layout, said: str) -> None:
    killed_when("up", "--nodes", "1", said=said)
    run("down")
    assert left() == []


def test_what_was_interrupted_is_gone_on_with(second: Layout) -> None:
    killed_when("up", "--nodes", "1", said="kube-scheduler started")
    assert run("status", status=1).stderr
    run("up")
    run("status")
    again = run("up")
    assert "started" not in again.stderr
    refused = run("up", "--nodes", "2", status=1)
    assert "keeps them" in refused.stderr
    run("part", "kill", "0", "coredns")
    assert "part start 0 coredns" in run("status", status=1).stderr
    run("up")
    run("status")


def test_a_node_that_goes_away_is_missed_and_comes_back(second: Layout) -> None:
    run("up")
    cluster = Cluster(second)
    hello, namespace = pushed_hello(cluster), made_namespace(cluster)
    here, away = second.node(0).name, second.node(1).name
    namespace.deploy("here", hello["1"], node=here)
    namespace.deploy("away", hello["2"], node=away)
    namespace.wait_until_ready("here")
    namespace.wait_until_ready("away")
    cluster.stop_node(1)
    wait_for(
        lambda: condition(cluster.api.find(f"/api/v1/nodes/{away}"), "Ready").get("status") == "Unknown",
        "the notice that the node is gone",
        timeout_s=NODE_IS_LOST_S * 3,
    )
    wait_for(lambda: namespace.ready("away") == 0, "the notice that its pod is gone")
    assert namespace.ready("here") == 1
    cluster.start_node(1)
    assert list(cluster.problems()) == []
    namespace.wait_until_ready("away")


def test_what_is_not_there_is_said(second: Layout) -> None:
    assert "scripts/cluster up" in run("status", status=1).stderr
    assert "scripts/cluster up" in run("kubectl", "get", "nodes", status=1).stderr
    assert "there is no node 3" in run("node", "stop", "3", status=1).stderr
    run("down")
