"""A gallery of tampering that is taken back: the next check finds each way, and once it is undone, nothing."""

from __future__ import annotations

from collections.abc import Callable

import intruder_undone as intruder
import pytest
from intruder import Victim
from project import Project
from test_tampering import checked, name_of, prepare, victim

from instar.providers.local.inspection import inspect

pytestmark = [pytest.mark.root, pytest.mark.thorough]

Way = Callable[[Victim], None]
OF_ONE: dict[Way, tuple[str, str]] = {
    intruder.lead_requests_astray: ("network", "route to 10."),
    intruder.lead_the_router_astray: ("network", "route to 10."),
    intruder.lead_marked_packets_astray: ("network", "route to 10."),
    intruder.drop_marked_packets: ("network", "route to 10."),
    intruder.rewrite_where_its_packets_go: ("network", "packets to 10."),
    intruder.rewrite_at_its_link: ("network", "packets to 10."),
    intruder.rewrite_its_hardware_address: ("network", "packets to 10."),
    intruder.copy_its_packets: ("network", "packets to 10."),
    intruder.keep_it_out_of_the_connections: ("network", "packets to 10."),
    intruder.block_its_port: ("network", "port iv"),
    intruder.name_another_router: ("network", "neighbours"),
    intruder.turn_its_packets_back: ("network", "port iv"),
    intruder.have_it_wait_when_memory_is_short: ("limit", "memory/memory.oom"),
    intruder.let_it_save_up_time: ("limit", "cpu"),
    intruder.take_its_buffers: ("limit", "memory/memory."),
    intruder.limit_it_once_more: ("limit", "group below"),
    intruder.stop_its_init: ("process", "process "),
}
OF_ALL: dict[Way, tuple[str, str]] = {
    intruder.open_a_door: ("network", "table ip instar_"),
    intruder.let_a_stranger_in: ("network", "table ip instar_"),
    intruder.let_a_stranger_send: ("network", "table ip instar_"),
    intruder.let_a_stranger_pass: ("network", "table bridge instar_"),
    intruder.pass_nothing_on: ("network", "/proc/sys/net/ipv4/conf/in"),
    intruder.shorten_the_bridge_s_packets: ("network", "bridge in"),
    intruder.be_the_metadata_service: ("network", "bridge in"),
    intruder.join_the_bridge: ("network", "bridge in"),
    intruder.answer_for_everybody: ("network", "/proc/sys/net/ipv4/conf/in"),
    intruder.lower_a_server_s_maxconn: ("router", "slot s1, its maxconn"),
    intruder.trace_every_request: ("router", "trace h1"),
    intruder.have_haproxy_ended_first: ("router", "HAProxy (process "),
    intruder.have_haproxy_wait: ("router", "HAProxy (process "),
    intruder.limit_haproxy: ("router", "HAProxy (process "),
}


@pytest.fixture(scope="module")
def running(module_project: Project) -> Project:
    prepare(module_project)
    module_project.instar("deploy", "dev")
    return module_project


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here lasts for a moment only."""
    monkeypatch.setattr(inspect, "AGAIN_AFTER_S", (0.01,))


@pytest.mark.parametrize("way", [*OF_ONE, *OF_ALL], ids=name_of)
def test_it_is_found_until_it_is_undone(running: Project, way: Way) -> None:
    target, (kind, path) = victim(running), {**OF_ONE, **OF_ALL}[way]
    assert checked(running).findings == ()
    try:
        way(target)
        found = checked(running).findings
    finally:
        target.leave()
    of = target.name if way in OF_ONE else None
    assert [(one.instance, one.kind) for one in found] == [(of, kind)], found
    assert found[0].path.startswith(path)
    assert checked(running).findings == ()
