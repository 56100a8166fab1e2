"""A gallery of tampering: whatever is done to a running instance as root is found by the next check, and the agent
replaces the instance without a failed request. What can't be found is told in docs/immutability.md."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection
from typing import Any

import intruder
import intruder_around
import intruder_files
import load
import pytest
from intruder import Victim
from project import Project, keep_to_itself, wait_for

from instar.drift.check import Checked
from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.operations.drift import drift
from instar.workspace import MachineWorkspace

pytestmark = pytest.mark.root

Way = Callable[[Victim], None]
INSTANCE: dict[Way, str] = {
    intruder.remount_writable: "mount",
    intruder.bind_a_file: "mount",
    intruder.bind_a_folder: "mount",
    intruder.tmpfs_over_the_service: "mount",
    intruder.unmount_something: "mount",
    intruder.share_a_mount: "mount",
    intruder.let_tmp_run: "mount",
    intruder.swap_a_layer_s_mount: "blob",
    intruder.run_from_tmp: "code",
    intruder.run_from_a_volume: "code",
    intruder.run_from_memory: "code",
    intruder.preload: "code",
    intruder.inject_a_mapping: "code",
    intruder.join_the_network: "process",
    intruder.join_the_group: "process",
    intruder.another_in_its_place: "process",
    intruder.take_it_out_of_its_limits: "process",
    intruder.raise_the_memory_limit: "limit",
    intruder.raise_the_process_limit: "limit",
    intruder.add_an_address: "network",
    intruder.add_a_route: "network",
    intruder.add_a_rule: "network",
    intruder.add_a_link: "network",
    intruder.add_a_table: "network",
    intruder.listen: "listener",
    intruder.change_a_setting: "sysctl",
    intruder.change_the_host_name: "sysctl",
    intruder_files.swap_resolv_conf: "file",
    intruder_files.put_another_hosts_file: "file",
    intruder_files.swap_a_secret: "secret",
    intruder_files.edit_the_bundle: "bundle",
    intruder_files.edit_runc_s_state: "runtime",
    intruder_files.remove_what_was_written_down: "record",
    intruder_files.forget_its_process: "record",
    intruder_files.flip_a_byte_of_a_layer: "blob",
    intruder.kill_conmon: "runtime",
    intruder.stop_conmon: "runtime",
}
AT_LENGTH: dict[Way, str] = {  # of those, test_drift_looks.py has the like of each in short
    intruder.debug_conmon: "runtime",
    intruder.put_in_a_process: "process",
    intruder.debug_the_service: "process",
    intruder.freeze_it: "limit",
    intruder.change_a_limit_of_its_init: "limit",
    intruder.put_in_one_that_is_spared: "limit",
    intruder_around.take_its_link_off_the_bridge: "network",
    intruder_around.take_its_link_down: "network",
    intruder_around.route_its_packets_elsewhere: "network",
    intruder_around.route_its_packets_by_a_rule: "network",
    intruder_around.send_its_packets_elsewhere: "network",
    intruder_around.send_others_to_it: "network",
    intruder_files.open_a_secret_to_all: "secret",
    intruder_files.give_a_secret_away: "secret",
    intruder_files.open_the_hosts_file_to_all: "file",
    intruder_files.give_resolv_conf_away: "file",
    intruder_files.take_tmp_s_sticky_bit: "file",
    intruder_files.add_a_file_to_dev: "file",
    intruder_files.open_a_device_to_nobody: "file",
    intruder_files.replace_the_log: "runtime",
    intruder_files.remove_the_log: "runtime",
    intruder_files.edit_what_was_written_down: "record",
    intruder_files.edit_what_is_intended: "record",
    intruder_files.forge_the_note_of_a_layer: "blob",
}
ROUTER: dict[Way, str] = {
    intruder_around.change_a_weight: "slot s1",
    intruder_around.add_a_server: "slot s",
    intruder_around.edit_the_router_s_file: "haproxy.cfg, line",
    intruder_around.break_the_router_s_file: "haproxy.cfg",
    intruder_around.remove_the_router_s_file: "haproxy.cfg",
    intruder_around.believe_everybody: "haproxy.cfg, line",
}
ROUTER_AT_LENGTH: dict[Way, str] = {
    intruder_around.remove_the_holder_s_record: "holder.json",
    intruder_around.stop_the_holder: "its holder",
    intruder_around.debug_haproxy: "HAProxy",
    intruder_around.move_a_check: "slot s1, its check",
    intruder_around.end_a_check: "slot s1, its check",
    intruder_around.lower_maxconn: "maxconn",
    intruder_around.lower_a_frontend_s_maxconn: "frontend public, its maxconn",
    intruder_around.limit_the_rate: "SessRateLimit",
}
MACHINE: dict[Way, tuple[str, str]] = {
    intruder_around.delete_the_table: ("network", "nftables instar_"),
    intruder_around.send_the_router_s_packets_elsewhere: ("router", "packets to 127.0.0.1:"),
    intruder_around.pause_the_frontend: ("router", "frontend public"),
}
HARMFUL = (intruder_around.move_a_check, intruder_around.debug_haproxy)  # requests fail while it lasts
ENDED = (intruder.another_in_its_place, intruder_files.forget_its_process)  # what is replaced before it is checked
USUAL = (
    intruder.bind_a_file,
    intruder.run_from_memory,
    intruder_files.flip_a_byte_of_a_layer,
    intruder.another_in_its_place,
)


def name_of(way: Way) -> str:
    return way.__name__


def ways(short: Collection[Way], at_length: Collection[Way]) -> list[Any]:
    return [*short, *(pytest.param(way, marks=pytest.mark.long) for way in at_length if way not in short)]


def prepare(project: Project) -> Project:
    """Give the service a secret and a volume, and the project files that are its own."""
    keep_to_itself(project)
    (project.folder / "token").write_text("a secret")
    project.edit("config: {GREETING: hello}", "config: {GREETING: hello}\n    secrets: {TOKEN: {file: token}}")
    project.edit("  limits: {memory", "  volumes: [{name: data, path: /data, access: shared}]\n  limits: {memory")
    project.edit("grace: 2s", "grace: 100ms")
    return project


@pytest.fixture
def project(project: Project) -> Project:
    return prepare(project)


@pytest.fixture(scope="module")
def gallery(module_project: Project) -> Project:
    """An environment for all ways, each of which gets a release of its own in it."""
    return prepare(module_project)


def victim(project: Project) -> Victim:
    """Return an instance of the active release."""
    status = project.json("status", "dev")
    name, *_ = [
        one["id"]
        for release in status["releases"]
        for one in release["instances"]
        if release["number"] == status["active"]
    ]
    folder = project.home / "run/instances" / name
    pid = json.loads((folder / "process.json").read_text())["pid"]
    return Victim(
        project=project, name=name, pid=pid, serial=json.loads((folder / "instance.json").read_text())["serial"]
    )


def findings(project: Project, *words: str) -> list[dict[str, Any]]:
    result = project.try_instar("drift", "dev", "--json", *words)
    assert result.status == (2 if result.json["findings"] else 0), result.err
    found: list[dict[str, Any]] = result.json["findings"]
    return found


def test_the_root_cannot_be_made_writable(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.instar("deploy", "dev")
    with pytest.raises(AssertionError):
        intruder.remount_the_root(victim(project))
    assert "Operation not permitted" in capfd.readouterr().err and findings(project) == []


def test_code_that_is_changed_in_memory_is_found_by_a_deep_check(project: Project) -> None:
    project.instar("deploy", "dev")
    assert findings(project, "--deep") == []
    intruder.inject_a_mapping(victim(project))
    assert any("has overwritten" in one["observed"] for one in findings(project, "--deep"))


def test_what_cannot_be_looked_at_is_found_and_hides_nothing_else(project: Project) -> None:
    project.instar("deploy", "dev")
    intruder.hide_a_mount_behind_an_error(victim(project))
    try:
        found = findings(project)
    finally:
        key = project.home / "secrets/key"
        key.with_name("key.away").rename(key)
    assert {"mount", "secret"} <= {one["kind"] for one in found}
    assert "a secret" not in str(found)


@pytest.mark.thorough
def test_a_router_that_runs_and_does_not_answer_is_found(project: Project) -> None:
    project.instar("deploy", "dev")
    (pid,) = intruder_around.haproxies(project)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert [one["path"] for one in findings(project)] == ["HAProxy"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert findings(project) == []


def checked(project: Project) -> Checked:
    """Check in this process: the command takes longer to start than to check."""
    workspace = MachineWorkspace({"INSTAR_HOME": str(project.home)}, silent)
    with workspace.ledger as ledger:
        state = ledger.get_environment(EnvironmentId(service="hello", name="dev"))
        return drift(workspace, state).checked


@pytest.mark.parametrize("way", ways(INSTANCE, AT_LENGTH), ids=name_of)
def test_what_is_done_to_an_instance_is_found(gallery: Project, way: Way) -> None:
    gallery.set_version(name_of(way))
    gallery.instar("deploy", "dev")
    target = victim(gallery)
    try:
        way(target)
        found = [one for one in checked(gallery).findings if one.instance == target.name]
    finally:
        target.leave()
    assert {**INSTANCE, **AT_LENGTH}[way] in [one.kind for one in found], found
    assert "a secret" not in str(found) and "another" not in [one.observed for one in found]


@pytest.mark.parametrize("way", ways(ROUTER, ROUTER_AT_LENGTH), ids=name_of)
def test_what_is_done_to_the_router_is_found_put_right_and_written_down(project: Project, way: Way) -> None:
    project.edit("secrets: {TOKEN", "drift: {check: 1s}\n    secrets: {TOKEN")
    project.instar("deploy", "dev")
    assert findings(project) == []
    with load.running(project.url(), "--rate", "100", "--connections", "4") as traffic:
        way(victim(project))
        (found,) = findings(project)
        assert (
            found["kind"] == "router"
            and found["instance"] is None
            and found["path"].startswith({**ROUTER, **ROUTER_AT_LENGTH}[way])
        )
        project.instar("agent", "--once")
        assert findings(project) == []
        report = traffic.stop()
    assert report["served"] > 20 and (report["failed"] == 0 or way in HARMFUL), report
    events = {event["kind"]: event["detail"] for event in project.json("history", "dev")}
    assert events["drift"]["findings"][0]["kind"] == "router" and "router-restored" in events


@pytest.mark.parametrize("way", MACHINE, ids=name_of)
def test_what_is_done_to_the_machine_around_them_is_found(gallery: Project, way: Way) -> None:
    gallery.instar("deploy", "dev")
    target = victim(gallery)
    try:
        way(target)
        found = [one for one in checked(gallery).findings if one.instance is None]
    finally:
        target.leave()
        gallery.instar("agent", "--once")
    kind, path = MACHINE[way]
    assert {(one.kind, one.path[: len(path)]) for one in found} == {(kind, path)}
    assert [one for one in checked(gallery).findings if one.instance is None] == []


def test_another_filter_of_system_calls_is_found_by_its_content(gallery: Project) -> None:
    gallery.instar("deploy", "dev")
    intruder.put_in_one_with_another_filter(victim(gallery))
    privileges = [one for one in findings(gallery, "--deep") if one["kind"] == "privilege"]
    assert [one["observed"] for one in privileges] == ["another one"]


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=() if way in USUAL else pytest.mark.long) for way in (*INSTANCE, *AT_LENGTH)],
    ids=name_of,
)
def test_the_agent_replaces_it_within_an_interval_and_no_request_fails(project: Project, way: Way) -> None:
    project.edit("secrets: {TOKEN", "instances: 2\n    drift: {check: 1s, action: replace}\n    secrets: {TOKEN")
    project.instar("deploy", "dev")
    target = victim(project)
    agent = project.start("agent", "--check", "0.5")
    try:
        with load.running(project.url(), "--rate", "50", "--connections", "4") as traffic:
            wait_for(lambda: project.json("status", "dev")["agent"] is not None, "no agent")
            way(target)
            # an interval of a second, the launch, and the drain; of a layer, making it anew
            wait_for(lambda: target.name not in project.instance_ids(), "it is not replaced", timeout_s=40)
            report = traffic.stop()
    finally:
        agent.terminate()
        agent.communicate(timeout=40)
        target.leave()
    ended = way in ENDED
    assert report["served"] > 10 and report["failed"] <= (4 if ended else 0), report
    assert target.name not in {one["instance"] for one in findings(project)}
    told = [event["detail"] for event in project.json("history", "dev") if event["kind"] in ("drift", "taint")]
    assert ended or {"drift"} <= {one.get("taint") for one in told}
    if not ended:
        evidence, *_ = (project.home / "evidence").glob(f"{target.name}.*.json")
        kept = json.loads(evidence.read_text())
        assert kept["processes"] and kept["findings"][0]["instance"] == target.name
