"""Where a router listens for instances that find it by name: beside its own addresses, before these are there, and with
no server in front."""

from __future__ import annotations

import pytest
from router_world import ENV, Client, World, free_port

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
