"""Whatever environments ask of the edge, in whatever order: each name has one way, and keeps it while it moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from instar.model.host_names import HostNames
from instar.router.edge import maps, names

ENVIRONMENTS = ("a/dev", "b/dev", "c/dev")
SITES = ("a.test", "b.test", "a.test/x", "*.c.test")
CERTIFIED = ("a.test", "b.test", "*.c.test")
Sites = st.lists(st.sampled_from(SITES), unique=True)
Asked = st.tuples(st.sampled_from(ENVIRONMENTS), Sites, Sites)


def asked(environments: names.Environments, one: tuple[str, list[str], list[str]]) -> names.Environments:
    environment, held, expected = one
    wanted = tuple(site for site in expected if site not in held)
    return names.settled(environments, environment, HostNames(https=tuple(held)), wanted)


@given(st.lists(Asked, max_size=12))
def test_what_is_asked_for_is_so(steps: list[tuple[str, list[str], list[str]]]) -> None:
    now: names.Environments = names.NONE
    for step in steps:
        before, now = now, asked(now, step)
        environment, held, expected = step
        entries = {key: to for key, to in names.entries(now, CERTIFIED).items() if to != "https/challenge"}
        if held:
            slot = names.backend(now[environment].slot)
            assert all(entries[f"{site}/"] == f"https/to/{slot}/0" for site in held)
        for site in set(expected) - set(held):  # it stays where it was
            assert entries.get(f"{site}/") == names.entries(before, CERTIFIED).get(f"{site}/")
        slots = [one.slot for one in now.values()]
        assert len(set(slots)) == len(slots)
        owners = [site for one in now.values() for site in (*one.names.sites, *one.leaving.sites)]
        assert len(set(owners)) == len(owners) == len(entries)
        assert names.read(names.render(now, CERTIFIED)) == now
    for environment in ENVIRONMENTS:
        now = names.without(now, environment)
    assert now == {}


@given(
    st.dictionaries(st.sampled_from(SITES), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from(SITES), st.just("z")),
)
def test_commands_make_a_map_what_is_wanted(there: dict[str, str], wanted: dict[str, str]) -> None:
    now = dict(there)
    for command in maps.commands("m", wanted, there):
        verb, _, _, key, *value = command.split()
        assert (verb == "add") == (key not in now)
        if verb == "del":
            del now[key]
        else:
            now[key] = value[0]
    assert now == wanted
    assert maps.commands("m", wanted, now) == ()
