"""Doors behind a gateway, whatever is asked of them and wherever whoever writes is killed: no name that stays is let
go, and no group counts as moved, or as free of traffic, before it is so by every door."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.model.definition import Health, Service
from instar.model.doors import Door as Leads
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.doors import NONE, Doors, write_order
from instar.providers.router_plan import RouterPlan

ENV = EnvironmentId(service="shop", name="prod")
SERVICE = Service(command=("serve",), port=80, health=Health(kind="tcp"))
SITES = st.sets(
    st.builds("{}.example{}".format, st.sampled_from("abcd"), st.sampled_from(("", "/x", "/y"))), min_size=1
)
MANY = st.integers(1, 40).map(lambda count: {f"n{number}.example" for number in range(count)})
GROUPS = [f"shop-prod-{release}-{serial}" for release, serial in ((1, 1), (2, 2), (2, 3))]


@st.composite
def plans(draw: st.DrawFn) -> RouterPlan:
    """A plan of the first door, and of another role's, and of a further port's."""
    sites = sorted(draw(SITES | MANY))
    split = draw(st.lists(st.sampled_from(("", "api", ".admin")), min_size=len(sites), max_size=len(sites)))
    keys = set(split) - {""}
    doors = {
        key: Leads(sites=tuple(site for site, own in zip(sites, split, strict=True) if own == key)) for key in keys
    }
    settings = Settings(names=HostNames(http=tuple(sites)), doors=doors)
    return RouterPlan.of(ENV, settings, SERVICE)


def port_of(group: str, port: str) -> int:
    return 9000


def taken(parts: Mapping[str, Door]) -> frozenset[tuple[str, str]]:
    return frozenset(site for door in parts.values() for site in door.sites)


def lost(part: str, now: Mapping[str, Door], after: Mapping[str, Door]) -> frozenset[tuple[str, str]]:
    """Return which names that stay nobody would take any more once ``part`` is written."""
    others = taken({name: door for name, door in now.items() if name != part})
    gone = now[part].sites - after[part].sites if part in now else frozenset()
    return (gone & taken(after)) - others


@settings(deadline=None)
@given(plans(), plans())
def test_no_name_that_stays_is_without_a_route_between_two_writes(first: RouterPlan, second: RouterPlan) -> None:
    before = NONE.planned(first, port_of)
    after = before.planned(second, port_of)
    now, left = dict(before.parts), set(after.parts)
    for part in write_order(before.parts, after):
        if lost(part, now, after.parts):  # some exchange names: one of them has to be written first
            assert all(lost(other, now, after.parts) for other in left)
        now[part] = after.parts[part]
        left.remove(part)
    assert not left
    assert all(len(door.hosts) <= 16 and len(door.paths) <= 8 for door in after.parts.values())


@settings(deadline=None)
@given(plans(), st.integers(0, 6), st.data())
def test_killed_after_any_number_of_writes_nobody_is_believed_to_have_moved_too_early(
    plan: RouterPlan, written: int, data: st.DataObject
) -> None:
    ports = {"": Backend(port=80), ".admin": Backend(port=9000)}
    exposed = {GROUPS[0]: ports, GROUPS[1]: ports}
    before = NONE.planned(plan, port_of).exposing(exposed).routing({GROUPS[0]: 100})
    goal = data.draw(st.sampled_from(({GROUPS[1]: 100}, {GROUPS[0]: 50, GROUPS[1]: 50})))
    after = before.routing(goal)
    order = write_order(before.parts, after)
    killed = Doors(parts={**before.parts, **{part: after.parts[part] for part in order[:written]}})
    for group in GROUPS[:2]:
        shares = {door.backends[group].weight for door in killed.parts.values() if group in door.backends}
        if len(shares) > 1:
            lead = killed.first.backends[group].weight
            assert killed.backends[group].weight != lead, "it is neither what its own door says, nor done"
    assert killed.routing(goal) == after, "whoever goes on needs no more than the weights"


@settings(deadline=None)
@given(plans(), st.integers(0, 6))
def test_a_group_that_is_known_by_its_own_door_is_known_by_all(plan: RouterPlan, written: int) -> None:
    before = NONE.planned(plan, port_of).exposing({GROUPS[0]: {"": Backend(port=80), ".admin": Backend(port=9000)}})
    after = before.exposing({GROUPS[2]: {"": Backend(port=80), ".admin": Backend(port=9000)}})
    killed = Doors(
        parts={**before.parts, **{one: after.parts[one] for one in write_order(before.parts, after)[:written]}}
    )
    if GROUPS[2] in killed.backends:
        assert all(GROUPS[2] in door.backends for door in killed.parts.values() if not door.key.startswith("api"))
