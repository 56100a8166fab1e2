"""What is asked of a gateway itself: which version of the route it goes by, and whether it reaches a group."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, World

from cluster_stub import ClusterStub
from instar.errors import RouterUnreachable
from instar.model.definition import Health
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.gateway import Answer, Entrance, ask, entrances
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.route import asked_path, read_route, route, version_host, version_mark
from instar.providers.kubernetes.sight import UNSEEN_S, Sight, judged
from instar.providers.router_plan import RouterPlan

NAMES = Names(environment=ENV, ledger="0a1b2c3d")
GATEWAY = ("gateways", "public")
DOOR = Door(
    hosts=("shop.example",),
    backends={"shop-prod-1-1": Backend(port=80, weight=100, asked="/healthz"), "shop-prod-2-1": Backend(port=80)},
).renewed()
PUBLIC: Mapping[str, Any] = {
    "spec": {
        "listeners": [
            {"protocol": "HTTP", "port": 80},
            {"protocol": "HTTPS", "port": 443, "hostname": "*.example"},
            {"protocol": "HTTPS", "port": 444, "hostname": "other.test"},
            {"protocol": "TCP", "port": 5432},
        ]
    },
    "status": {"addresses": [{"type": "IPAddress", "value": "192.0.2.7"}, {"type": "Named", "value": "x"}]},
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def redirect(host: str) -> Answer:
    return Answer(status=302, redirected=host)


def sight(answers: list[Answer | None], clock: Clock, asked: list[str] | None = None) -> Sight:
    """Return one whose gateway answers so, the last answer again and again."""
    left = list(answers)

    def asking(entrance: Entrance, path: str, headers: Mapping[str, str]) -> Answer | None:
        (about,) = headers.values()
        if asked is not None:
            asked.append(about)
        return left.pop(0) if len(left) > 1 else left[0]

    one = {"spec": {"listeners": [{"protocol": "HTTP", "port": 80}]}, "status": PUBLIC["status"]}
    return Sight(NAMES, lambda: one, asking, clock, clock.pause)


THIS = version_host(NAMES, DOOR.answers or "")
OLDER = version_host(NAMES, "0123456789abcdef")
MUTE = Answer(status=404, redirected=None)


def test_a_gateway_is_asked_at_each_address_and_listener_that_has_the_name() -> None:
    found = entrances(PUBLIC, ("shop.example",))
    assert [(one.address, one.port, one.tls, one.host) for one in found] == [
        ("192.0.2.7", 80, False, "shop.example"),
        ("192.0.2.7", 443, True, "shop.example"),
    ]
    assert {one.host for one in entrances(PUBLIC, ("*.shop.example",))} == {"instar-route.shop.example"}
    assert entrances({"spec": PUBLIC["spec"]}, ("shop.example",)) == ()


def test_what_the_answers_say_together() -> None:
    mark = version_mark(NAMES)
    assert judged([redirect(THIS), None, MUTE], THIS, mark) == "this"
    assert judged([redirect(THIS), redirect(OLDER)], THIS, mark) == "older"
    assert judged([None, MUTE, redirect("elsewhere.example")], THIS, mark) == "unknown"
    assert judged([redirect("ffffffff-0123456789abcdef.instar.invalid")], THIS, mark) == "unknown", "of another's route"
    assert judged([], THIS, mark) == "unknown"


def test_it_is_waited_until_the_version_is_seen_and_that_is_asked_once() -> None:
    clock, asked = Clock(), list[str]()
    seen = sight([redirect(OLDER), redirect(OLDER), redirect(THIS)], clock, asked)
    seen.wait(DOOR)
    assert (seen.look(DOOR), seen.is_settled(DOOR)) == ("this", True)
    assert len(asked) == 2 + 3, "several may stand behind one address"
    seen.wait(DOOR)
    assert len(asked) == 5


def test_one_that_goes_by_an_older_version_is_an_error_and_nothing_is_settled_however_long_it_does() -> None:
    clock = Clock()
    seen = sight([redirect(OLDER)], clock)
    with pytest.raises(RouterUnreachable, match="older version") as caught:
        seen.wait(DOOR)
    assert caught.value.retry_after_s is not None
    clock.now += 10 * UNSEEN_S
    assert (seen.look(DOOR), seen.is_settled(DOOR)) == ("older", False)


@pytest.mark.parametrize(("answer", "most_s"), [(None, 3), (MUTE, 11)])
def test_one_that_cannot_be_asked_is_believed_and_settled_after_a_while(answer: Answer | None, most_s: float) -> None:
    clock = Clock()
    seen = sight([answer], clock)
    seen.wait(DOOR)
    assert clock.now - 1000 < most_s
    assert not seen.is_settled(DOOR)
    before = clock.now
    next_one = replace(DOOR, version="7").renewed()
    seen.wait(next_one)
    assert clock.now == before, "what is known of it is not waited for again"
    assert not seen.is_settled(next_one)
    clock.now += UNSEEN_S
    assert seen.is_settled(next_one)


def test_a_group_that_the_gateway_answers_for_with_an_error_gets_no_traffic_unless_it_answers_so_itself() -> None:
    group = "shop-prod-1-1"
    bad = sight([redirect(THIS)] * 3 + [Answer(status=503, redirected=None)], Clock())
    with pytest.raises(RouterUnreachable, match=f"does not reach '{group}' yet: it answers 503"):
        bad.require_reached(DOOR, [group], lambda of, path: False)
    bad.require_reached(DOOR, [group], lambda of, path: (of, path) == (group, "/healthz"))
    bad.require_reached(DOOR, ["shop-prod-2-1"], lambda of, path: False)
    well = sight([redirect(THIS)] * 3 + [Answer(status=403, redirected=None)], Clock())
    well.require_reached(DOOR, [group], lambda of, path: False)


def test_a_route_says_its_version_and_has_a_rule_for_each_group_alone() -> None:
    made = route(DOOR, NAMES, GATEWAY)
    group, version, main = made["spec"]["rules"]
    assert group["matches"][0]["path"] == {"type": "Exact", "value": "/healthz"}
    assert [one["method"] for one in group["matches"]] == ["GET"], "whoever asks there changes nothing"
    assert not [one for rule in (version, main) for one in rule["matches"] if "method" in one]
    assert group["backendRefs"] == [{"name": "shop-prod-1-1", "port": 80, "weight": 1}]
    assert version["filters"][0]["requestRedirect"] == {"hostname": THIS, "statusCode": 302}
    assert len(THIS.partition(".")[0]) <= 63
    assert {one["name"]: one["weight"] for one in main["backendRefs"]} == {"shop-prod-1-1": 100, "shop-prod-2-1": 0}
    assert read_route(made) == DOOR
    again = replace(DOOR, version="2").renewed()
    assert again.answers != DOOR.answers, "the same shares, written anew, are another version"


def test_a_route_of_an_older_instar_whose_rules_have_no_method_is_as_it_was(world: World, stub: ClusterStub) -> None:
    release = world.release()
    group = world.create(release)
    world.provider.expose(release, [group], RouterPlan.of(ENV, world.settings[ENV], SERVICE))
    (match,) = stub.one("httproutes", "shop-prod")["spec"]["rules"][0]["matches"]
    assert match.pop("method") == "GET"
    assert not [*world.provider.inspects.inspect_router(ENV)]
    match["method"] = "POST"
    (found,) = world.provider.inspects.inspect_router(ENV)
    assert (found.path.rpartition(".")[2], found.expected, found.observed) == ("method", "GET", "POST")
    del match["method"]
    world.provider.route(ENV, {group.id: 100})
    assert stub.one("httproutes", "shop-prod")["spec"]["rules"][0]["matches"][0]["method"] == "GET"


def test_a_route_has_no_more_rules_than_one_may_have() -> None:
    many = {f"shop-prod-{number}-1": Backend(port=80, asked="/") for number in range(1, 17)}
    rules = route(Door(backends=many, previews={16: "shop-prod-16-1"}).renewed(), NAMES, GATEWAY)["spec"]["rules"]
    assert len(rules) == 16
    asked = [one["matches"][0]["headers"][0]["value"] for one in rules[1:-2]]
    assert asked[-1] == "shop-prod-16-1" and "shop-prod-3-1" not in asked, "the newest are asked"


def test_only_a_plain_path_of_a_health_check_becomes_a_rule() -> None:
    def path(path: str) -> str:
        return asked_path(replace(SERVICE, health=Health(kind="http", path=path)))

    assert [path(one) for one in ("/healthz", "/a/b.json", "/")] == ["/healthz", "/a/b.json", "/"]
    assert {path(one) for one in ("/a?b=1", "/a%2fb", "//a", "/a/../b", "/" + "a" * 300)} == {"/"}


def test_a_weight_is_given_once_the_gateway_is_seen_to_go_by_it(world: World, stub: ClusterStub) -> None:
    release = world.release()
    old, new = world.create(release), world.create(world.release(2), serial=2)
    plan = RouterPlan.of(ENV, world.settings[ENV], SERVICE)
    world.provider.expose(release, [old, new], plan)
    world.provider.route(ENV, {old.id: 100})
    assert world.provider.observe(ENV, []).traffic.settled

    stub.goes_by = stub.one("httproutes", "shop-prod")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("instar.providers.kubernetes.sight._PATIENCE_S", 0.1)
        with pytest.raises(RouterUnreachable, match="older version"):
            world.provider.route(ENV, {new.id: 100})
    another = World(stub, world.site.state.root).provider  # who goes on after a crash
    seen = another.observe(ENV, []).traffic
    assert (seen.plan, seen.settled, seen.groups[new.id].weight) == (None, False, 100)
    stub.goes_by = None
    world.provider.route(ENV, {new.id: 100})
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint


def test_no_weight_is_given_to_a_group_that_the_gateway_does_not_reach(world: World, stub: ClusterStub) -> None:
    release = world.release()
    old, new = world.create(release), world.create(world.release(2), serial=2)
    world.provider.expose(release, [old, new], RouterPlan.of(ENV, world.settings[ENV], SERVICE))
    world.provider.route(ENV, {old.id: 100})
    stub.unreached = {new.id}
    with pytest.raises(RouterUnreachable, match=f"does not reach '{new.id}' yet"):
        world.provider.route(ENV, {new.id: 100})
    assert world.provider.observe(ENV, []).traffic.groups[old.id].weight == 100
    stub.unreached = set()
    before = len(stub.asked)
    world.provider.route(ENV, {new.id: 100})
    calls = [f"{method} {path.rpartition('/')[2]}" for method, path in stub.asked[before:]]
    own = f"GET {new.id}"  # whether its Service is as it was made, asked for while the gateway is
    assert calls == ["GET shop-prod", own, "PATCH shop-prod"], "what is asked of the gateway is no call of the API's"


def test_that_a_gateway_cannot_be_asked_is_said(world: World, stub: ClusterStub) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        public = stub.one("gateways", "public", "gateways")
        public["spec"]["listeners"][0]["port"] = port = taken.getsockname()[1]
        told = world.provider.preflight(ENV, world.settings[ENV], SERVICE, launching=False)
    assert f"nothing answers at 127.0.0.1:{port}" in told[-1] and "45 s" in told[-1]
    public["status"] = {}
    (told_now,) = world.provider.preflight(ENV, world.settings[ENV], SERVICE, launching=False)
    assert "says no address" in told_now


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://a.instar.invalid:8080/x?y=1\r\n\r\n", redirect("a.instar.invalid")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Answer(status=200, redirected=None)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[bad/\r\n\r\n", None),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None),
        (b"HTTP/1.1 abc\r\n\r\n", None),
        (b"", None),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, None),
    ],
)
def test_what_no_gateway_answers_is_no_answer(answer: bytes, expected: Answer | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        entrance = Entrance(address="127.0.0.1", port=server.getsockname()[1], tls=False, host="shop.example")
        assert ask(entrance, "/", {"X-Instar-Route": "version"}) == expected
        thread.join()


def test_a_question_goes_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TCP_NODELAY the one after a handshake of TLS waits 40 ms until that is acknowledged."""
    kept, connect = list[socket.socket](), socket.create_connection

    def connected(address: tuple[str, int], timeout: float) -> socket.socket:
        made = connect(address, timeout)
        kept.append(made.dup())  # which has the same options, and outlives it
        return made

    monkeypatch.setattr(socket, "create_connection", connected)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("instar.providers.kubernetes.gateway._TIMEOUT_S", 0.05)
        ask(Entrance(address="127.0.0.1", port=server.getsockname()[1], tls=False, host="shop.example"), "/", {})
    with kept[0] as seen:
        assert seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
