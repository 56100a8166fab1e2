"""A hundred rollouts and as many rollbacks on a cluster, with requests all the while, on connections that stay open and
on new ones: none fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import pytest

from kubernetes_author import Author, authoring
from progress import Progress

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.alone]

ROUNDS = int(os.environ.get("INSTAR_ROUNDS", "100"))
STRATEGIES = ("{strategy: blue-green}", "{strategy: canary, steps: [10, 50], pause: 200ms}")
LOAD = Path(load.__file__)


class Load:
    """Eight connections, four of them new ones for each request, 100 requests a second."""

    def __init__(self, author: Author) -> None:
        words = [f"{author.namespace.gateway}/", "--name", author.host, "--seconds", "3600", "--rate", "100"]
        words += ["--connections", "8", "--closing", "4"]
        self._process = subprocess.Popen(
            [sys.executable, "-B", str(LOAD), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        assert "the first request was served" in self._process.stderr.readline()

    def end(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGTERM)
        out, err = self._process.communicate(timeout=30)
        assert out, err
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.write(rollout=STRATEGIES[0])
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


def test_a_hundred_rollouts_and_rollbacks_lose_no_request(author: Author) -> None:
    progress = Progress("kubernetes-rounds")
    for number in range(len(progress.done), ROUNDS):
        asked, began = Load(author), time.monotonic()
        try:
            author.write(greeting=f"round{number}", rollout=STRATEGIES[number % len(STRATEGIES)], deadline="3m")
            author.deploy()
            deployed = time.monotonic()
            author.instar("rollback", "prod")
            seconds = {"rollout_s": deployed - began, "rollback_s": time.monotonic() - deployed}
        finally:
            told = asked.end()
        assert told["failed"] == 0, (number, told)
        progress.add(round=number, requests=told["requests"], gap_ms=told["longest_gap_ms"], **seconds)
    requests = sum(one["requests"] for one in progress.done)
    gap_ms = max(one["gap_ms"] for one in progress.done)
    print(f"{ROUNDS} rounds, {requests} requests, 0 failed, longest gap {gap_ms} ms", file=sys.stderr)
