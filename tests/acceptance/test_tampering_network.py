"""A gallery of tampering with an instance's network from outside: what ties it to its address, and the rules for all.

Each is found by the next check. Most cut the instance off, so what is not lost is not asked here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import intruder_network as intruder
import pytest
from intruder import Victim
from project import Project, wait_for
from test_tampering import checked, findings, name_of, prepare, victim

pytestmark = [pytest.mark.root, pytest.mark.thorough]

Way = Callable[[Victim], None]
OF_ONE: dict[Way, str] = {
    intruder.take_its_link_off_the_bridge: "link iv",
    intruder.let_its_port_talk_to_others: "port iv",
    intruder.let_its_port_learn: "port iv",
    intruder.shorten_its_packets: "port iv",
    intruder.name_another_neighbour: "neighbour 10.",
    intruder.forget_its_neighbour: "neighbour 10.",
    intruder.lead_its_address_elsewhere: "address 02:69:",
    intruder.free_it_of_its_address: "table bridge instar_",
    intruder.give_it_another_s_rights: "table ip instar_",
    intruder.take_it_out_of_the_rules: "table ip instar_",
}
OF_ALL: dict[Way, str] = {
    intruder.delete_the_tables: "nftables instar_",
    intruder.flush_the_rules: "chain guarded",
    intruder.let_it_reach_the_machine: "chain others",
    intruder.hook_in_a_chain: "chain evil",
    intruder.forget_a_rule: "chain guarded",
}


@pytest.fixture(scope="module")
def gallery(module_project: Project) -> Project:
    return prepare(module_project)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=pytest.mark.long, id=name_of(way)) if number % 2 else way
        for number, way in enumerate(OF_ONE)
    ],
    ids=name_of,
)
def test_what_is_done_to_what_ties_an_instance_is_found(gallery: Project, way: Way) -> None:
    gallery.set_version(name_of(way))
    gallery.instar("deploy", "dev")
    target = victim(gallery)
    assert [one for one in checked(gallery).findings if one.instance == target.name] == []
    way(target)
    found = [one for one in checked(gallery).findings if one.instance == target.name]
    assert any(one.kind == "network" and one.path.startswith(OF_ONE[way]) for one in found), found


@pytest.mark.parametrize("way", OF_ALL, ids=name_of)
def test_what_is_done_to_what_instances_share_is_found_and_put_right(gallery: Project, way: Way) -> None:
    def shared() -> list[dict[str, Any]]:
        return [one for one in findings(gallery) if one["instance"] is None]

    gallery.instar("deploy", "dev")
    gallery.instar("agent", "--once")  # puts right what was done to an instance that is gone by now
    before = gallery.instance_ids("dev")
    assert shared() == []
    way(victim(gallery))
    found = shared()
    assert {one["kind"] for one in found} == {"network"} and any(OF_ALL[way] in one["path"] for one in found), found
    gallery.instar("agent", "--once")
    assert shared() == [] and gallery.instance_ids("dev") == before, "nothing that runs was replaced for it"
    assert "network-restored" in [event["kind"] for event in gallery.json("history", "dev")]


def test_an_instance_whose_ties_are_cut_is_replaced(project: Project) -> None:
    project.edit(
        "    config: {GREETING: hello}", "    drift: {check: 1s, action: replace}\n    config: {GREETING: hello}"
    )
    project.instar("deploy", "dev")
    target = victim(project)
    agent = project.start("agent", "--check", "0.5")
    try:
        wait_for(lambda: project.json("status", "dev")["agent"] is not None, "no agent")
        began = time.monotonic()
        intruder.let_its_port_talk_to_others(target)
        wait_for(lambda: target.name not in project.instance_ids(), "it is not replaced", timeout_s=30)
        assert time.monotonic() - began < 25
    finally:
        agent.terminate()
        agent.communicate(timeout=40)
    assert [one for one in findings(project) if one["instance"] == target.name] == []
