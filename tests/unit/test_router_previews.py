"""Which release's requests go where: from names to the file, from the file to HAProxy's map, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.errors import RouterError
from instar.router import config, previews
from instar.router.address import Address
from instar.router.plan import FORM, WITH_DOORS_ALIKE, FileDoor, RouterFilePlan
from instar.router.slots import Server, Slots

ONE, TWO = Address("10.1.0.2", 8080), Address("fd00::2", 8080)
ADMIN = Address("10.1.0.2", 9000)
FIRST, SECOND = {"": ONE}, {"": TWO}
HELD: Slots = (Server(name="one", address=ONE, weight=100), None, Server(name="two", address=TWO))
AT = "127.0.0.1:8091"
PLAN = RouterFilePlan(
    listen=("127.0.0.1:8080",),
    protocol="http",
    request_timeout_ms=60_000,
    tunnel_timeout_ms=60_000,
    health_path="/healthz",
    instances=1,
)


def test_only_who_is_there_is_previewed() -> None:
    assert previews.chosen(HELD, {6: ("one",), 7: ("two",), 8: ("gone",)}) == {6: FIRST, 7: SECOND}
    assert previews.kept(HELD[:2], {6: FIRST, 7: SECOND}) == {6: FIRST}
    assert previews.named(HELD, {7: SECOND, 6: FIRST, 5: {"": Address("10.1.0.9", 1)}}) == {6: ("one",), 7: ("two",)}
    with pytest.raises(RouterError, match="no release's number"):
        previews.chosen(HELD, {0: ("one",)})


def test_a_port_is_previewed_by_its_door_alone() -> None:
    server = Server(name="one", address=ONE, ports={".admin": 9000, ".shut": 9001})
    assert previews.chosen((server,), {6: ("one",)}, (".admin", ".other")) == {6: {"": ONE, ".admin": ADMIN}}
    door = FileDoor(key=".admin", listen=("127.0.0.1:1",), protocol="http", request_timeout_ms=1, tunnel_timeout_ms=1)
    plan = replace(PLAN, preview="header", doors=(door,), form=FORM)
    assert plan.previewed_doors == (".admin",)
    text = config.render(plan, HELD, confined=True)
    assert "  http-request set-var(txn.to) req.fhdr(X-Instar-Release),field(1,@),map_str(preview.map)\n" in text
    assert "req.fhdr(X-Instar-Release),field(1,@),concat(@.admin),map_str(preview.map)\n" in text
    for other in (replace(plan, preview=AT), replace(plan, form=WITH_DOORS_ALIKE - 1)):
        assert other.previewed_doors == ()
        assert "field(1,@)" not in config.render(other, HELD, confined=True)


def test_each_role_of_a_release_is_previewed_by_its_own_doors() -> None:
    api = Server(name="api-one", address=TWO, door="api", ports={"api.admin": 9000})
    both = previews.chosen((HELD[0], api), {6: ("one", "api-one")}, ("api", "api.admin"))
    assert both == {6: {"": ONE, "api": TWO, "api.admin": Address("fd00::2", 9000)}}
    assert previews.told((HELD[0], api), both) == ({6: "one"}, {6: ("api-one",)})
    assert previews.kept((None, api), both, ("api",)) == {6: {"api": TWO}}
    assert previews.told((None, api), {6: {"api": TWO}}) == ({}, {6: ("api-one",)})
    assert "newest" not in previews.render(AT, {6: {"api": TWO}}), "an address of its own is the first door's"


@pytest.mark.parametrize("kind", ["header", AT])
def test_what_was_written_is_read(kind: str) -> None:
    for wanted in ({}, {7: SECOND}, {6: FIRST, 7: {**SECOND, ".admin": TWO, "api.x": ONE}, 10: FIRST}):
        assert previews.read(previews.render(kind, wanted)) == wanted


def test_an_address_leads_to_the_highest_number() -> None:
    assert previews.render("header", {9: FIRST, 10: SECOND}) == "9 10.1.0.2/8080\n10 fd00::2/8080\n"
    assert previews.render(AT, {9: FIRST, 10: SECOND}).splitlines()[-1] == "newest fd00::2/8080"
    assert previews.render(AT, {}) == ""


def test_a_map_is_told_what_it_lacks_and_no_more() -> None:
    shown = "0x5a 6 10.1.0.2/8080\n0x5b 7 10.1.0.2/8080\n0x5c newest 10.1.0.2/8080\n\n"
    assert previews.commands(AT, {6: FIRST, 7: FIRST}, shown) == ()
    assert previews.commands("header", {7: SECOND, 8: FIRST}, shown) == (
        "del map preview.map 6",
        "del map preview.map newest",
        "set map preview.map 7 fd00::2/8080",
        "add map preview.map 8 10.1.0.2/8080",
    )
    assert previews.commands("header", {7: SECOND}, "Unknown map identifier. Please use #<id> or <file>.\n") == ()
    assert previews.read("Unknown map identifier. Please use #<id> or <file>.\n") == {}


@pytest.mark.parametrize("kind", ["header", AT])
def test_a_file_with_a_preview_is_read_again(kind: str) -> None:
    plan = replace(PLAN, preview=kind)
    text = config.render(plan, HELD, confined=True)
    assert config.read_plan(text) == plan
    assert config.read_slots(text) == HELD
    assert config.frame(text) != config.frame(config.render(PLAN, HELD, confined=True))


def test_without_a_preview_nothing_of_it_is_in_the_file() -> None:
    assert "preview" not in config.render(PLAN, HELD, confined=True).partition("\n")[2].lower()
    assert "X-Instar-Release" not in config.render(replace(PLAN, preview=AT), HELD, confined=True)


def test_the_preview_address_is_listened_on_apart() -> None:
    plan = replace(PLAN, preview=AT)
    assert [str(one) for one in plan.addresses] == ["127.0.0.1:8080", AT]
    public, _, apart = config.render(plan, (), confined=True).partition("frontend preview\n")
    assert public.count("bind ") == 1
    assert '  bind "fd@${INSTAR_LISTEN_1}" # 127.0.0.1:8091' in apart
    # a socket from before that a wide public address covers goes on as a public one, never as the preview's
    assert replace(PLAN, listen=("0.0.0.0:8091",)).after(plan).also == ()
    assert replace(PLAN, listen=("127.0.0.1:9",), preview="0.0.0.0:8080").after(PLAN).also == ()


@pytest.mark.parametrize("change", [{"preview": "127.0.0.1:8080"}, {"preview": "0.0.0.0:8080"}, {"preview": "here"}])
def test_a_preview_that_cannot_be_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(RouterError):
        config.render(replace(PLAN, **change), (), confined=True)  # type: ignore[arg-type]


def test_there_is_no_preview_of_connections() -> None:
    with pytest.raises(RouterError, match="does not speak http"):
        config.render(replace(PLAN, preview="header", protocol="tcp", health_path=None), (), confined=True)


def test_the_file_of_an_older_instar_is_read() -> None:
    text = config.render(PLAN, HELD, confined=True).replace(',"preview":null', "", 1)
    assert '"preview"' not in text
    assert config.read_plan(text) == PLAN
