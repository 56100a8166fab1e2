"""Figures of requests, asked of a Prometheus: what an answer is, and that whatever else comes is said and none."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes_values import ENV, SECTION, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.definition import cluster_forms
from instar.definition.forms import Misfit
from instar.errors import Refused
from instar.model.environment import Analysis, Check, RolloutRules, Settings
from instar.model.release import Served
from instar.providers.kubernetes import figures
from instar.providers.kubernetes.figures import Figures, NoFigure, figure
from instar.providers.kubernetes.settings import Place, Prometheus
from instar.providers.router_plan import RouterPlan

PORTS = {"shop-prod-1-1": 8080}
JUDGED = RolloutRules(strategy="canary", analysis=Analysis())


def vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {}, "value": [1_764_400_000.1, one]} for one in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Server:
    """A Prometheus that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str], tuple[int, bytes]] = lambda query: (200, json.dumps(vector("7")).encode())
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)["query"][0]
                outer.asked.append(asked)
                status, body = outer.answer(asked)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (vector("12"), 12),
        (vector("12.9"), 12),
        (vector("1.2e+03"), 1_200),
        (vector(), None),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}, 3),
    ],
)
def test_an_answer_is_a_count_or_nothing_yet(answer: Any, expected: int | None) -> None:
    assert figure(200, json.dumps(answer).encode(), "up") == expected


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, vector("NaN"), "with NaN, and that counts nothing"),
        (200, vector("+Inf"), "with +Inf"),
        (200, vector("-1"), "with -1"),
        (200, vector("1e300"), "with 1e300"),
        (200, vector("many"), "with many"),
        (200, vector("1", "2"), "has 2 answers to 'up': one is wanted"),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, "with a matrix"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [7]}}, "with None"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [{"value": [1, 7]}]}}, "with 7"),
        (200, {"status": "success"}, "with a None"),
        (200, {"status": "success", "data": []}, "with a None"),
        (400, {"status": "error", "error": "parse error: unexpected <EOF>"}, "refuses 'up': parse error"),
        (503, "<html>away</html>", "answers 503, and no JSON"),
        (200, [1], "refuses 'up': 200"),
    ],
)
def test_what_is_no_count_is_none_and_says_so(status: int, body: Any, told: str) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(NoFigure) as caught:
        figure(status, data, "up")
    assert told in str(caught.value)


def test_a_nested_answer_is_no_json() -> None:
    with pytest.raises(NoFigure, match="no JSON"):
        figure(200, b"[" * 200_000, "up")


def test_templates_are_asked_with_the_names_of_a_group(server: Server) -> None:
    found = Figures().of(Prometheus(url=server.url), "shop", PORTS)
    assert found.served == {"shop-prod-1-1": Served(requests=7, failed=7, response_ms=7)}
    assert server.asked[0] == 'sum(envoy_cluster_upstream_rq_total{envoy_cluster_name="shop_shop-prod-1-1_8080"})'
    own = Prometheus(url=server.url, requests='sum(hits{service=~"^$group$"})')
    Figures().of(own, "shop", PORTS)
    assert server.asked[3] == 'sum(hits{service=~"^shop-prod-1-1$"})'


def test_answers_are_taken_again_for_a_moment(server: Server) -> None:
    asked = Figures()
    for _ in range(5):
        asked.of(Prometheus(url=server.url), "shop", PORTS)
    assert len(server.asked) == 3
    asked.of(Prometheus(url=server.url), "shop", {**PORTS, "shop-prod-2-1": 8080})
    assert len(server.asked) == 9, "another group is asked about at once"


def test_a_group_of_which_nothing_is_known_yet_is_left_out(server: Server) -> None:
    server.answer = lambda query: (200, json.dumps(vector() if "rq_total" in query else vector("0")).encode())
    found = Figures().of(Prometheus(url=server.url), "shop", PORTS)
    assert (found.served, found.trouble) == ({}, None)


def test_a_server_that_is_away_or_says_too_much_is_told_of(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        free = f"http://127.0.0.1:{door.getsockname()[1]}"
    found = Figures().of(Prometheus(url=free), "shop", PORTS)
    assert found.served == {} and f"Prometheus at {free} does not answer" in (found.trouble or "")
    server.answer = lambda query: (200, b" " * (2 << 20))
    assert "answers more than 1 MiB" in (Figures().of(Prometheus(url=server.url), "shop", PORTS).trouble or "")


def test_a_slow_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        where = Prometheus(url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        found = Figures().of(where, "shop", {**PORTS, "shop-prod-2-1": 8080})
    assert found.served == {} and "does not answer" in (found.trouble or "")


def test_one_that_says_a_letter_now_and_then_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_ALL_S", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def dribble() -> None:
            connection, _ = slow.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not over.wait(0.05):
                    connection.sendall(b"a")

        thread = threading.Thread(target=dribble)
        thread.start()
        asked, where = Figures(), Prometheus(url=f"http://127.0.0.1:{slow.getsockname()[1]}")
        monkeypatch.setattr(figures, "_FRESH_S", 0.0)
        found = [asked.of(where, "shop", PORTS) for _ in range(2)]
        over.set()
        thread.join()
    assert [(one.served, "within 0.3 s" in (one.trouble or "")) for one in found] == [({}, True)] * 2


def with_prometheus(url: str) -> Settings:
    own = {**SECTION, "prometheus": {"url": url}}
    return dataclasses.replace(SETTINGS, rollout=JUDGED, provider_settings=own)


def test_groups_in_the_traffic_are_counted(stub: ClusterStub, server: Server, tmp_path: Path) -> None:
    world = World(stub, tmp_path, with_prometheus(server.url))
    release = world.release()
    group = world.create(release)
    world.provider.expose(release, [group], RouterPlan.of(ENV, SETTINGS, SERVICE))
    traffic = world.provider.observe(ENV, [group]).traffic
    assert traffic.groups[group.id].served == Served(requests=7, failed=7, response_ms=7)
    assert (traffic.counts, traffic.uncounted) == (True, None)

    world.settings[ENV] = dataclasses.replace(with_prometheus(server.url), rollout=RolloutRules())
    asked = len(server.asked)
    seen = world.provider.observe(ENV, [group]).traffic
    assert (seen.groups[group.id].served, len(server.asked)) == (None, asked), "nobody wants to know"


def test_without_figures_its_checks_decide_and_a_deploy_says_so(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path)
    settings = dataclasses.replace(SETTINGS, rollout=JUDGED)
    with pytest.raises(Refused, match=r"nobody counts requests there: name a Prometheus in 'kubernetes\.prometheus'"):
        world.provider.preflight(ENV, settings, SERVICE, launching=True)
    asking = Analysis(checks=(Check(kind="http", path="/"),))
    settings = dataclasses.replace(SETTINGS, rollout=dataclasses.replace(JUDGED, analysis=asking))
    (told,) = world.provider.preflight(ENV, settings, SERVICE, launching=True)
    assert "rollout.analysis asks its own checks alone" in told
    own = dataclasses.replace(with_prometheus("http://127.0.0.1:1"), rollout=settings.rollout)
    assert world.provider.preflight(ENV, own, SERVICE, launching=True) == ()
    world.create(release := world.release())
    world.provider.expose(release, [world.group(release)], RouterPlan.of(ENV, SETTINGS, SERVICE))
    assert world.provider.observe(ENV, []).traffic.counts is False


@pytest.mark.parametrize("found", [{"url": "file:///etc/passwd"}, {"url": "http://u:p@x"}, {}, "http://x", {"url": 1}])
def test_what_somebody_else_wrote_is_nobody_to_ask(found: Any) -> None:
    settings = dataclasses.replace(SETTINGS, provider_settings={**SECTION, "prometheus": found})
    with pytest.raises(Refused, match=r"kubernetes\.prometheus"):
        Place.of(settings)


def test_a_query_is_about_one_group() -> None:
    assert cluster_forms.query("sum(x{s='${group}'})") == "sum(x{s='${group}'})"
    with pytest.raises(Misfit, match="it is about one group"):
        cluster_forms.query("sum(x)")
