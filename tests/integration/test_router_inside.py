"""Where a router listens for instances that find it by name: beside its own addresses, before these are there, and with
no server in front."""

from __future__ import annotations

from dataclasses import replace

import pytest
from router_world import ENV, Client, World, free_port

from instar.providers.doors import DoorPlan
from instar.providers.router_state import RouterState

pytestmark = pytest.mark.root


def address_of(port: int) -> tuple[str, int]:
    return ("127.0.77.1", port)


def test_a_running_router_listens_there_too_and_loses_no_request(here: World) -> None:
    here.start("a")
    inside = address_of(free_port())
    where = f"{inside[0]}:{inside[1]}"
    with here.load() as load:
        load.wait(50)
        here.router.ensure(here.plan(), inside=(where,))
        load.wait(50)
    assert load.failures == []
    assert Client(inside).get()[0] == 200
    state = here.router.observe(ENV)
    assert (state.inside, state.plan) == ((where,), here.plan()), "it is no part of the plan"
    before = here.processes()
    here.router.ensure(here.plan(), inside=(where,))
    assert here.processes() == before
    assert here.router.inspect(ENV) == ()
    counted = here.router.counters(ENV).requests
    Client(inside).get()
    assert here.router.counters(ENV).requests == counted + 1, "they are counted as all others"


def test_nobody_there_is_a_server_in_front(here: World) -> None:
    inside = address_of(free_port())
    here.start("a", accept_proxy=("127.0.0.0/8",))
    here.router.ensure(here.plan(accept_proxy=("127.0.0.0/8",)), inside=(f"{inside[0]}:{inside[1]}",))
    assert Client(inside).get()[0] == 200, "without the PROXY protocol's header"


def test_it_alone_is_enough_and_its_address_may_come_later(here: World) -> None:
    backend = here.backend("a")
    here.router.ensure(here.plan(listen=()), inside=("203.0.113.77:1",))
    here.router.attach(ENV, [backend.target])
    here.router.route(ENV, {backend.name: 100})
    state = here.router.observe(ENV)
    assert isinstance(state, RouterState) and state.running and state.inside == ("203.0.113.77:1",)
    assert here.router.inspect(ENV) == ()


def test_another_role_is_found_by_a_name_of_its_own(here: World) -> None:
    """Each at the port that the kernel leads to its own address: instances of both may have the same."""
    first, role = address_of(free_port()), ("127.0.77.2", free_port())
    door = DoorPlan(
        key="api",
        listen=(f"127.0.0.1:{free_port()}",),
        protocol="http",
        request_timeout_ms=20_000,
        tunnel_timeout_ms=20_000,
    )
    plan = here.plan(doors=(door,))
    inside, beside = (f"{first[0]}:{first[1]}",), {"api": f"{role[0]}:{role[1]}"}
    here.router.ensure(plan, inside=inside, beside=beside)
    web, api = here.backend("web"), here.backend("api")
    here.router.attach(ENV, [web.target, replace(api.target, door="api")])
    here.router.route(ENV, {"web": 100, "api": 100})
    assert Client(first).get() == (200, b"web")
    assert Client(role).get() == (200, b"api")
    state = here.router.observe(ENV)
    assert (state.inside, dict(state.inside_beside), state.plan) == (inside, beside, plan)
    assert here.router.inspect(ENV) == ()
    assert here.router.counters(ENV).requests == 2
    here.router.restore(plan, [web.target, replace(api.target, door="api")], inside=inside, beside=beside)
    assert Client(role).get() == (200, b"api")
    alone = here.plan(doors=(replace(door, listen=()),))
    here.router.check(alone)
    here.router.ensure(alone, inside=inside, beside=beside)
    assert Client(role).get() == (200, b"api"), "nobody else reaches it"
    assert here.router.observe(ENV).plan == alone and here.router.inspect(ENV) == ()
    here.router.ensure(here.plan(), inside=inside)
    with pytest.raises(OSError):
        Client(role).get()
