"""What the agent does about what a check finds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar import locks
from instar.drift.check import check
from instar.ledger import Ledger
from instar.model.drift import Finding
from instar.model.environment import Allow, Drift, Network, Replace, Settings
from instar.model.progress import Progress
from instar.model.release import Ending
from instar.model.state import StateDirectory
from instar.operations.drift_response import DriftMemory, check_when_due, respond_to_drift
from instar.operations.locks import environment_lock
from instar.providers.base import NetworkPlan
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RoutedTarget, RouterState, Target
from instar.store.hashed_files import HashedFiles
from simulated import Simulation
from simulated.values import ENV, configuration, image, release


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    """An environment with two instances that have traffic; every image is in its store."""
    machine, state = Simulation(), StateDirectory(tmp_path, tmp_path / "run")
    with Ledger(state.ledger, actor="agent") as ledger:
        ledger.save_settings(ENV, Settings(listen=("127.0.0.1:80",), drift=Drift(action="replace")))
        ledger.add_release(ENV, image("1").digest, configuration())
        for one in ledger.add_instances(ENV, 1, 2):
            machine.runtime.create(one, release(1), image())
            ledger.set_made(one.id)
            machine.runtime.start(one)
            ledger.set_started(one.id)
        ledger.set_active(ENV, 1)
        provider = machine.provider
        provider.router.ensure(RouterPlan.of(ENV, ledger.get_environment(ENV).settings, release(1).service))
        yield SimpleNamespace(
            ledger=ledger,
            state=state,
            hashed_files=HashedFiles(state.sealed),
            store=SimpleNamespace(
                entered=lambda digest: SimpleNamespace(digest=digest, layers=()), unknown=lambda wanted: frozenset()
            ),
            provider=lambda name: provider,
            machine=machine,
            said=[],
        )


def finding(instance: str | None, kind: str = "mount", observed: str = "tmpfs") -> Finding:
    return Finding(instance=instance, kind=kind, path="/srv", expected="nothing more", observed=observed)


def names(workspace: Any) -> list[str]:
    return [one.id for one in workspace.ledger.instances(ENV)]


def look(workspace: Any, memory: DriftMemory) -> Any:
    memory.checked = None
    checked = check_when_due(workspace, ENV, memory)
    respond(workspace, memory)
    return checked


def respond(workspace: Any, memory: DriftMemory) -> None:
    def report(progress: Progress) -> None:
        workspace.said.append(progress.text)

    respond_to_drift(workspace, workspace.ledger.get_environment(ENV), memory, report)


def events(workspace: Any, *kinds: str) -> list[dict[str, Any]]:
    return [dict(event.detail) for event in workspace.ledger.history(ENV) if event.kind in kinds]


def test_what_is_as_baked_is_nothing_to_write_down(workspace: Any) -> None:
    assert look(workspace, DriftMemory()).clean
    assert not events(workspace, "drift", "taint") and not workspace.said


def test_what_another_machine_acts_on_now_is_held_against_nothing_until_it_is_done(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shared ledger: its lock is on that machine, and its lease in the ledger."""
    held: list[str | None] = ["bob on web2"]
    workspace.machine = "here, which has no lock on it"
    leases = SimpleNamespace(holder_elsewhere=lambda environment, machine: held[0])
    monkeypatch.setattr(workspace.ledger, "leases", leases)
    memory = DriftMemory()
    assert check_when_due(workspace, ENV, memory) is None
    assert memory.checked is None, "it is due still"
    held[0] = None
    assert check_when_due(workspace, ENV, memory) is not None


def test_one_that_drifted_is_written_down_once_with_evidence_and_tainted(workspace: Any) -> None:
    first, memory = names(workspace)[0], DriftMemory()
    workspace.machine.runtime.drifted[first] = (finding(first), finding(first, "code"))
    look(workspace, memory)
    look(workspace, memory)
    (told,) = events(workspace, "drift")
    assert told["instance"] == first and told["count"] == 2 and told["findings"][0]["kind"] == "mount"
    kept = json.loads((workspace.state.evidence / told["evidence"]).read_text())
    assert len(kept["findings"]) == 2 and kept["processes"]
    (taint,) = events(workspace, "taint")
    assert taint["taint"] == "drift" and taint["why"] == "mount /srv: tmpfs and 1 more"
    assert workspace.said == [f"{first}: mount /srv: expected nothing more, observed tmpfs (and 1 more)"]
    tainted = {one.id: one.taint and one.taint.kind for one in workspace.ledger.instances(ENV)}
    assert tainted == {first: "drift", names(workspace)[1]: None}


@pytest.mark.parametrize(
    ("network", "listen", "told"),
    [
        (Network(), (), ("listen, for instances of others", "127.0.0.1:80", "nothing")),
        (
            Network(allow=(Allow(to="db/dev", ports=("5432/tcp", "53/udp")), Allow(to="machine"))),
            ("127.0.0.1:80",),
            ("network.allow", "nothing", "db/dev at 5432/tcp, 53/udp; machine"),
        ),
        (
            Network(connections=99),
            ("127.0.0.1:80",),
            ("network.connections", "a sixteenth of what the machine can remember", "99"),
        ),
    ],
)
def test_what_instances_reach_otherwise_is_told_by_the_key_that_differs(
    workspace: Any, network: Network, listen: tuple[str, ...], told: tuple[str, str, str]
) -> None:
    workspace.machine.runtime.set_network(NetworkPlan(environment=ENV, network=network, listen=listen))
    findings = look(workspace, DriftMemory()).findings
    assert [(one.path, one.expected, one.observed) for one in findings] == [told]


def test_each_key_of_what_instances_reach_is_looked_at() -> None:
    assert {one.name for one in dataclasses.fields(Network)} == {"allow", "connections"}
    assert {one.name for one in dataclasses.fields(NetworkPlan)} == {"environment", "network", "listen"}


def test_what_is_new_is_written_down_again(workspace: Any) -> None:
    first, memory = names(workspace)[0], DriftMemory()
    for observed in ("tmpfs", "tmpfs", "ext4"):
        workspace.machine.runtime.drifted[first] = (finding(first, observed=observed),)
        look(workspace, memory)
    assert [one["findings"][0]["observed"] for one in events(workspace, "drift")] == ["tmpfs", "ext4"]


def test_a_service_that_shows_another_thing_each_time_fills_neither_ledger_nor_disk(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that prints lines without an end."""
    workspace.ledger.save_settings(ENV, Settings(drift=Drift(action="report")))
    first, memory, now = names(workspace)[0], DriftMemory(), [1e6]
    monkeypatch.setattr("instar.operations.drift_response.time.monotonic", lambda: now[0])
    lines = ["x" * 8_000_000, *(f"{number} " + "y" * 5_000 for number in range(30)), "the end"]
    monkeypatch.setattr(workspace.machine.runtime, "log_lines", lambda *_, **__: iter(lines))

    def show(count: int) -> list[str]:
        for number in range(count):
            now[0] += 1
            workspace.machine.runtime.drifted[first] = (finding(first, "listener", observed=f"{now[0]} {number}"),)
            look(workspace, memory)
        return [one["evidence"] for one in events(workspace, "drift")]

    told = show(50)
    assert len(told) == len(set(told)) == 10
    kept = json.loads((workspace.state.evidence / told[0]).read_text())
    assert kept["last_lines"][-1] == "the end" and kept["last_lines"][0].startswith("15 y")
    assert max(path.stat().st_size for path in workspace.state.evidence.iterdir()) < 100_000
    now[0] += 3600
    assert len(show(1)) == 11, "what is shown later is told later"
    for _ in range(3):
        now[0] += 3600
        told = show(10)
    assert len(list(workspace.state.evidence.iterdir())) == 20
    assert told[-1] == "not kept: there are 20 files of it already"


def test_to_report_taints_nothing(workspace: Any) -> None:
    workspace.ledger.save_settings(ENV, Settings(drift=Drift(action="report")))
    workspace.machine.runtime.drifted[names(workspace)[0]] = (finding(names(workspace)[0]),)
    look(workspace, DriftMemory())
    assert events(workspace, "drift") and not events(workspace, "taint")


def test_who_looks_into_one_is_not_thrown_out(workspace: Any) -> None:
    first = names(workspace)[0]
    workspace.ledger.taint(first, "shell", "a look", after_ms=900_000)
    workspace.machine.runtime.drifted[first] = (finding(first, "process"),)
    look(workspace, DriftMemory())
    assert not events(workspace, "drift") and [one["taint"] for one in events(workspace, "taint")] == ["shell"]


def test_what_ends_already_is_written_down_with_evidence_and_not_tainted(workspace: Any) -> None:
    first = names(workspace)[0]
    workspace.ledger.set_ending(
        first, Ending(reason="instar", at=workspace.ledger.now(), why="others are in its place")
    )
    workspace.machine.runtime.drifted[first] = (finding(first),)
    look(workspace, DriftMemory())
    (told,) = events(workspace, "drift")
    assert told["instance"] == first and told["evidence"] and not events(workspace, "taint")


def test_a_router_is_put_right_and_that_is_written_down(workspace: Any) -> None:
    workspace.machine.router.tampered[ENV] = (finding(None, "router"),)
    assert not look(workspace, DriftMemory()).clean
    assert [event.kind for event in workspace.ledger.history(ENV)][-2:] == ["drift", "router-restored"]
    assert look(workspace, DriftMemory()).clean


def test_a_router_that_is_not_put_right_is_not_said_to_be(workspace: Any) -> None:
    workspace.machine.router.tampered[ENV] = (finding(None, "router"),)
    workspace.machine.router.refuses.add("restore")
    look(workspace, DriftMemory())
    assert any("its router cannot be restored" in text for text in workspace.said)
    workspace.machine.router.refuses.clear()
    workspace.machine.router.tampered.clear()
    workspace.machine.router.die()
    (found,) = look(workspace, DriftMemory()).findings
    assert (found.kind, found.observed) == ("router", "nothing runs")
    assert events(workspace, "drift") and not events(workspace, "router-restored")


def test_maintenance_that_nobody_said_and_another_page_are_found_and_put_right(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, memory = workspace.machine.provider.router, DriftMemory()
    router.maintained.add(ENV)
    router.pages[ENV] = "<p>ha"
    found = {one.path: (one.expected, one.observed) for one in look(workspace, memory).findings}
    assert found == {"maintenance": ("off", "on"), "maintenance: its page": ("the usual one", "another")}
    assert look(workspace, memory).clean and (router.maintained, router.pages) == (set(), {})
    assert len(events(workspace, "router-restored")) == 1

    workspace.ledger.set_maintenance(ENV, on=True, page="<p>soon")
    assert look(workspace, memory).clean, "it was said just now, and is done next"
    monkeypatch.setattr("instar.drift.check._UNDER_WAY", timedelta(0))
    found = {one.path: (one.expected, one.observed) for one in look(workspace, memory).findings}
    assert found == {"maintenance": ("on", "off"), "maintenance: its page": ("the one that was given", "another")}
    assert look(workspace, memory).clean and (router.maintained, router.pages) == ({ENV}, {ENV: "<p>soon"})


def test_what_all_instances_share_is_put_right_and_that_is_written_down(workspace: Any) -> None:
    workspace.machine.runtime.network_drifted = (finding(None, "network"),)
    before = names(workspace)
    assert not look(workspace, DriftMemory()).clean
    assert [event.kind for event in workspace.ledger.history(ENV)][-2:] == ["drift", "network-restored"]
    assert look(workspace, DriftMemory()).clean and names(workspace) == before and not events(workspace, "taint")


def test_never_means_never_and_a_check_waits_for_its_time(workspace: Any) -> None:
    memory = DriftMemory()
    assert look(workspace, memory) is not None
    assert check_when_due(workspace, ENV, memory) is None
    assert memory.checked is not None
    memory.checked -= 10
    assert check_when_due(workspace, ENV, memory) is None
    workspace.ledger.save_settings(ENV, Settings(drift=Drift(check_ms=5_000)))
    assert check_when_due(workspace, ENV, memory) is not None, "a shorter interval holds at once"
    workspace.ledger.save_settings(ENV, Settings(drift=Drift(check_ms=None)))
    assert look(workspace, DriftMemory()) is None


def test_nothing_is_checked_where_somebody_acts_and_a_check_holds_nobody_up(workspace: Any) -> None:
    lock = environment_lock(workspace, ENV)
    with locks.hold(lock, str(ENV)):
        assert check_when_due(workspace, ENV, DriftMemory()) is None
    inspect, held = workspace.machine.runtime.inspect, []

    def inspected(*arguments: Any, **options: Any) -> Any:
        with locks.hold(lock, str(ENV)):
            held.append(True)
        return inspect(*arguments, **options)

    workspace.machine.runtime.inspect = inspected
    assert check_when_due(workspace, ENV, DriftMemory()) is not None and held


def test_what_was_found_before_somebody_acted_holds_for_instances_that_are_there_yet(workspace: Any) -> None:
    gone, stays = names(workspace)
    for name in (gone, stays):
        workspace.machine.runtime.drifted[name] = (finding(name),)
    workspace.machine.router.tampered[ENV] = (finding(None, "router"),)
    workspace.machine.runtime.network_drifted = (finding(None, "network"),)
    memory = DriftMemory()
    assert len(check_when_due(workspace, ENV, memory).findings) == 4
    workspace.ledger.remove_instance(gone, "replaced")
    respond(workspace, memory)
    assert (
        [one["instance"] for one in events(workspace, "drift")]
        == [stays]
        == [one["instance"] for one in events(workspace, "taint")]
    )
    assert not events(workspace, "router-restored", "network-restored"), "whoever came may want them so"
    respond(workspace, memory)
    assert len(events(workspace, "drift")) == 1, "once"
    look(workspace, memory)
    assert len(events(workspace, "router-restored", "network-restored")) == 2


def test_a_full_disk_keeps_no_evidence_and_stops_nothing(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    first = names(workspace)[0]
    workspace.machine.runtime.drifted[first] = (finding(first),)
    memory = DriftMemory()
    check_when_due(workspace, ENV, memory)
    monkeypatch.setattr("instar.durable.os.open", full)
    respond(workspace, memory)
    assert "No space left" in events(workspace, "drift")[0]["evidence"] and events(workspace, "taint")


def test_no_more_are_tainted_than_the_budget_allows(workspace: Any) -> None:
    """A check that is wrong finds each successor too."""
    policy = Settings(drift=Drift(action="replace"), replace=Replace(budget=3, within_ms=600_000))
    workspace.ledger.save_settings(ENV, policy)
    for _ in range(5):
        for one in workspace.ledger.instances(ENV):
            workspace.machine.runtime.drifted[one.id] = (finding(one.id),)
        look(workspace, DriftMemory())  # each time another agent
        for one in workspace.ledger.instances(ENV):
            if one.taint:
                workspace.ledger.remove_instance(one.id, "replaced")
                (new,) = workspace.ledger.add_instances(ENV, 1, 1, replacing="drifted")
                workspace.machine.runtime.create(new, release(1), image())
                workspace.ledger.set_made(new.id)
                workspace.machine.runtime.start(new)
    assert len(events(workspace, "taint")) == 3
    alarm = workspace.ledger.get_environment(ENV).alarm
    assert alarm == "3 instances had drifted in 600 s: replacement has stopped until you deploy or roll back"
    workspace.ledger.set_alarm(ENV, None)
    look(workspace, DriftMemory())
    assert len(events(workspace, "taint")) == 5, "somebody came: it is counted anew"


def test_who_works_on_an_environment_hides_no_stolen_address_of_the_router(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, provider = workspace.ledger.get_environment(ENV), workspace.provider("local")
    first = workspace.ledger.instances(ENV)[0]
    own = workspace.machine.runtime.find_address(first)
    right = Target(name=first.id, address=own, port=8080)
    for address, found in ((own, []), ("10.99.0.77", ["10.99.0.77:8080"])):
        routed = RoutedTarget(target=replace(right, address=address), weight=100, sessions=0, up=True)
        seen = RouterState(running=True, targets=(routed,))
        monkeypatch.setattr(type(provider.router), "observe", lambda *_, seen=seen: seen)
        checked = check(workspace.ledger, workspace.store, workspace.hashed_files, provider, state, at_rest=False)
        assert [one.observed for one in checked.findings] == found
