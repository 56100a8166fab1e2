"""A canary on a real cluster is judged by what a real Prometheus has counted at the cluster's own gateway."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from free_ports import free_port
from kubernetes_author import Author, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.long]
WORKS = (
    "mkdir -p /tmp/www/cgi-bin; echo well >/tmp/www/index.html; "
    "printf '#!/bin/sh\\nprintf \"Status: {status}\\\\r\\\\n\\\\r\\\\n{word}\"\\n' >/tmp/www/cgi-bin/work; "
    "chmod +x /tmp/www/cgi-bin/work; exec httpd -f -p 8080 -h /tmp/www"
)
ANALYSIS = "{{strategy: canary, steps: [50], pause: 4s, analysis: {{min_requests: {least}, wait: {wait}}}}}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


class Prometheus:
    """Debian's, which looks at the gateway's figures each second."""

    def __init__(self, folder: Path, gateway: str) -> None:
        folder.mkdir()
        scrape = {"job_name": "gateway", "metrics_path": "/stats/prometheus"}
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{**scrape, "static_configs": [{"targets": [f"{gateway}:8002"]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        listen = f"--web.listen-address={urlsplit(self.url).netloc}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(["prometheus", *words, listen], stdout=log, stderr=log)

    def wait(self) -> None:
        asked = f"{self.url}/api/v1/query?{urlencode({'query': 'sum(up)'})}"
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, LookupError):
                if json.load(urllib.request.urlopen(asked, timeout=2))["data"]["result"][0]["value"][1] == "1":
                    return
            assert time.monotonic() < deadline, "Prometheus has looked at the gateway"
            time.sleep(0.2)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def prometheus(author: Author, tmp_path: Path) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path / "prometheus", urlsplit(author.namespace.gateway).hostname or "")
    try:
        made.wait()
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def asking(author: Author) -> Iterator[None]:
    """Ask for the work all the while."""
    stop, where = threading.Event(), urlsplit(author.namespace.gateway)

    def run() -> None:
        while not stop.wait(0.05):
            connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/cgi-bin/work", headers={"Host": author.host})
                connection.getresponse().read()
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        stop.set()
        for one in threads:
            one.join()


def write(author: Author, url: str, *, status: str, word: str, least: int = 10, wait: str = "60s") -> None:
    author.write(
        section=f", prometheus: {{url: '{url}'}}",
        rollout=ANALYSIS.format(least=least, wait=wait),
        command=["sh", "-c", WORKS.format(status=status, word=word)],
        instances=1,
    )


def test_a_canary_that_fails_is_stopped_by_figures(author: Author, prometheus: Prometheus) -> None:
    write(author, prometheus.url, status="200 OK", word="one")
    author.deploy()
    with asking(author):
        write(author, prometheus.url, status="200 OK", word="two")
        told = author.deploy()
        assert "failed 0.00 %" in told
        assert author.weights()["shop-prod-2-1"] == 100

        write(author, prometheus.url, status="500 Oops", word="three")
        told = author.deploy(status=1)
        assert "its analysis: " in told and "requests failed, the release before: 0.00 %" in told
        assert author.weights()["shop-prod-2-1"] == 100, "the traffic is back where it was"


def test_a_prometheus_that_is_away_lets_nothing_pass(author: Author, prometheus: Prometheus) -> None:
    write(author, prometheus.url, status="200 OK", word="one")
    author.deploy()
    with asking(author):
        prometheus.close()
        write(author, prometheus.url, status="200 OK", word="two", wait="5s")
        told = author.deploy(status=1)
    assert "its analysis cannot tell: only 0 of 10 requests came" in told
    assert f"Prometheus at {prometheus.url} does not answer" in told
    assert author.weights()["shop-prod-1-1"] == 100
