"""Whatever a router's slots hold and whatever they are to hold: the commands lead there, and never through nothing."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from instar.router.address import Address
from instar.router.config import read_slots, render
from instar.router.plan import RouterFilePlan
from instar.router.slots import FREE, FULL_HEALTH, Live, Server, Slots, attached, commands, find, weighted, without

PLAN = RouterFilePlan(
    listen=("127.0.0.1:80",),
    protocol="http",
    request_timeout_ms=1,
    tunnel_timeout_ms=1,
    health_path=None,
    instances=1,
)
FREE_SLOT = Live(address=FREE, weight=0, maintenance=True, drain=False, up=False, health=0)
servers = st.builds(
    lambda number, weight: Server(name=f"n{number}", address=Address(f"10.0.0.{number}", 80), weight=weight),
    st.integers(1, 9),
    st.integers(0, 256),
)
slots = st.lists(st.none() | servers, min_size=1, max_size=6).map(tuple)
lives = st.builds(
    Live,
    address=st.sampled_from([FREE, *(Address(f"10.0.0.{number}", 80) for number in range(1, 10))]),
    weight=st.integers(0, 256),
    maintenance=st.booleans(),
    drain=st.booleans(),
    up=st.booleans(),
    health=st.integers(0, FULL_HEALTH),
)


def obey(live: list[Live], command: str) -> None:
    """Do to a table what HAProxy does."""
    index = int(re.findall(r"instances/s(\d+)", command)[0]) - 1
    words = command.split()
    seen = live[index]
    if words[0] == "shutdown":
        return
    if words[3] == "weight":
        seen = replace(seen, weight=int(words[4]))
    elif words[3] == "addr":
        seen = replace(seen, address=Address(words[4], int(words[6])))
    else:
        seen = replace(seen, maintenance=words[4] == "maint", drain=words[4] == "drain")
    live[index] = seen


def serving(live: list[Live]) -> list[int]:
    return [index for index, one in enumerate(live) if one.share]


@given(st.data())
def test_commands_lead_from_anything_to_what_is_wanted(data: st.DataObject) -> None:
    wanted: Slots = data.draw(slots)
    live = data.draw(st.lists(lives, min_size=len(wanted), max_size=len(wanted)))
    for command in commands(wanted, {"": live}):
        obey(live, command)
    assert commands(wanted, {"": live}) == ()
    for server, seen in zip(wanted, live, strict=True):
        assert seen.address == (server.address if server else FREE)
        assert seen.share == (server.weight if server else 0)
        assert seen.maintenance == (server is None)


@given(slots, slots)
def test_at_no_moment_nobody_has_the_traffic(before: Slots, after: Slots) -> None:
    size = max(len(before), len(after))
    before, after = (one + (None,) * (size - len(one)) for one in (before, after))
    after = tuple(  # a slot changes hands only through being free
        server if server is None or before[i] is None or before[i].name == server.name else before[i]
        for i, server in enumerate(after)
    )
    live = [FREE_SLOT] * size
    for command in commands(before, {"": live}):
        obey(live, command)
    had = serving(live)
    keeps = any(server and server.weight for server in after)
    for command in commands(after, {"": live}):
        obey(live, command)
        assert not had or not keeps or serving(live), command


@given(slots, st.lists(servers, max_size=8, unique_by=lambda one: one.name))
def test_attaching_moves_nobody_and_detaching_forgets(held: Slots, new: list[Server]) -> None:
    named = tuple(  # each name once, as the file has them
        server if server is None or find(held, server.name) == index else None for index, server in enumerate(held)
    )
    after = attached(named, new)
    assert after[: len(named)] == tuple(
        mine if mine is not None else theirs for mine, theirs in zip(named, after, strict=False)
    )
    assert all(find(after, server.name) is not None for server in new)
    assert attached(after, new) == after
    gone = without(after, [server.name for server in new])
    assert all(find(gone, server.name) is None for server in new)


@given(slots)
def test_a_file_gives_back_what_was_written(held: Slots) -> None:
    assert read_slots(render(PLAN, held, confined=False)) == held


@given(slots, st.dictionaries(st.sampled_from([f"n{number}" for number in range(1, 10)]), st.integers(1, 256)))
def test_weights_are_of_the_named_only(held: Slots, weights: dict[str, int]) -> None:
    known = {name: weight for name, weight in weights.items() if find(held, name) is not None}
    for server in weighted(held, known):
        assert server is None or server.weight == known.get(server.name, 0)
