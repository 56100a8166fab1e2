"""What the agent does about what a check finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.host.seals import Seals
from instar.ledger import Ledger
from instar.model.definition import Drift, Replace
from instar.model.drift import Finding
from instar.model.progress import Progress
from instar.model.release import Settings
from instar.model.state import StateDirectory
from instar.operations.guard import Memory, guard
from instar.providers.base import RouterPlan
from simulated import Simulation
from simulated.values import ENV, configuration, image, release


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Any]:
    """An environment with two instances that have traffic; every image is in its store."""
    machine, state = Simulation(), StateDirectory(tmp_path, tmp_path / "run")
    with Ledger(state.ledger, actor="agent") as ledger:
        ledger.save_settings(ENV, Settings(listen=("127.0.0.1:80",), drift=Drift(action="replace")))
        ledger.add_release(ENV, image("1").digest, configuration())
        for one in ledger.add_instances(ENV, 1, 2, IPv4Network("10.99.0.0/24")):
            ledger.set_process(one.id, machine.runtime.create(one, release(1), image()))
            machine.runtime.start(one)
            ledger.set_started(one.id)
        ledger.set_active(ENV, 1)
        provider = machine.provider
        provider.router.ensure(RouterPlan.of(ENV, ledger.get_environment(ENV).settings, release(1).service))
        yield SimpleNamespace(
            ledger=ledger,
            state=state,
            seals=Seals(state.sealed),
            store=SimpleNamespace(
                entered=lambda digest: SimpleNamespace(digest=digest, layers=()), unknown=lambda wanted: frozenset()
            ),
            provider=lambda name: provider,
            machine=machine,
            said=[],
        )


def finding(instance: str | None, kind: str = "mount", observed: str = "tmpfs") -> Finding:
    return Finding(instance=instance, kind=kind, path="/srv", expected="nothing more", observed=observed)


def names(parts: Any) -> list[str]:
    return [one.id for one in parts.ledger.instances(ENV)]


def look(parts: Any, memory: Memory) -> Any:
    def report(progress: Progress) -> None:
        parts.said.append(progress.text)

    memory.checked = None
    return guard(parts, parts.ledger.get_environment(ENV), memory, report)


def events(parts: Any, *kinds: str) -> list[dict[str, Any]]:
    return [dict(event.detail) for event in parts.ledger.history(ENV) if event.kind in kinds]


def test_what_is_as_baked_is_nothing_to_write_down(parts: Any) -> None:
    assert look(parts, Memory()).clean
    assert not events(parts, "drift", "taint") and not parts.said


def test_one_that_drifted_is_written_down_once_with_evidence_and_tainted(parts: Any) -> None:
    first, memory = names(parts)[0], Memory()
    parts.machine.runtime.drifted[first] = (finding(first), finding(first, "code"))
    look(parts, memory)
    look(parts, memory)
    (told,) = events(parts, "drift")
    assert told["instance"] == first and told["count"] == 2 and told["findings"][0]["kind"] == "mount"
    kept = json.loads((parts.state.evidence / told["evidence"]).read_text())
    assert len(kept["findings"]) == 2 and kept["processes"]
    (taint,) = events(parts, "taint")
    assert taint["taint"] == "drift" and taint["why"] == "mount /srv: tmpfs and 1 more"
    assert parts.said == [f"{first}: mount /srv: expected nothing more, observed tmpfs (and 1 more)"]
    tainted = {one.id: one.taint and one.taint.kind for one in parts.ledger.instances(ENV)}
    assert tainted == {first: "drift", names(parts)[1]: None}


def test_what_is_new_is_written_down_again(parts: Any) -> None:
    first, memory = names(parts)[0], Memory()
    for observed in ("tmpfs", "tmpfs", "ext4"):
        parts.machine.runtime.drifted[first] = (finding(first, observed=observed),)
        look(parts, memory)
    assert [one["findings"][0]["observed"] for one in events(parts, "drift")] == ["tmpfs", "ext4"]


def test_to_report_taints_nothing(parts: Any) -> None:
    parts.ledger.save_settings(ENV, Settings(drift=Drift(action="report")))
    parts.machine.runtime.drifted[names(parts)[0]] = (finding(names(parts)[0]),)
    look(parts, Memory())
    assert events(parts, "drift") and not events(parts, "taint")


def test_who_looks_into_one_is_not_thrown_out(parts: Any) -> None:
    first = names(parts)[0]
    parts.ledger.taint(first, "shell", "a look", after_ms=900_000)
    parts.machine.runtime.drifted[first] = (finding(first, "process"),)
    look(parts, Memory())
    assert not events(parts, "drift") and [one["taint"] for one in events(parts, "taint")] == ["shell"]


def test_a_router_is_put_right_and_that_is_written_down(parts: Any) -> None:
    parts.machine.router.tampered[ENV] = (finding(None, "router"),)
    assert not look(parts, Memory()).clean
    assert [event.kind for event in parts.ledger.history(ENV)][-2:] == ["drift", "router-restored"]
    assert look(parts, Memory()).clean


def test_what_all_instances_share_is_put_right_and_that_is_written_down(parts: Any) -> None:
    parts.machine.runtime.network_drifted = (finding(None, "network"),)
    before = names(parts)
    assert not look(parts, Memory()).clean
    assert [event.kind for event in parts.ledger.history(ENV)][-2:] == ["drift", "network-restored"]
    assert look(parts, Memory()).clean and names(parts) == before and not events(parts, "taint")


def test_never_means_never_and_a_check_waits_for_its_time(parts: Any) -> None:
    memory = Memory()
    assert look(parts, memory) is not None
    state = parts.ledger.get_environment(ENV)
    assert guard(parts, state, memory, lambda progress: None) is None
    assert memory.checked is not None
    memory.checked -= 10
    assert guard(parts, state, memory, lambda progress: None) is None
    sooner = replace(state, settings=Settings(drift=Drift(check_ms=5_000)))
    assert guard(parts, sooner, memory, lambda progress: None) is not None, "a shorter interval holds at once"
    parts.ledger.save_settings(ENV, Settings(drift=Drift(check_ms=None)))
    assert look(parts, Memory()) is None


def test_a_full_disk_keeps_no_evidence_and_stops_nothing(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    first = names(parts)[0]
    parts.machine.runtime.drifted[first] = (finding(first),)
    monkeypatch.setattr("instar.operations.guard.os.open", full)
    look(parts, Memory())
    assert "No space left" in events(parts, "drift")[0]["evidence"] and events(parts, "taint")


def test_no_more_are_tainted_than_the_budget_allows(parts: Any) -> None:
    """A check that is wrong finds each successor too."""
    policy = Settings(drift=Drift(action="replace"), replace=Replace(budget=3, within_ms=600_000))
    parts.ledger.save_settings(ENV, policy)
    for _ in range(5):
        for one in parts.ledger.instances(ENV):
            parts.machine.runtime.drifted[one.id] = (finding(one.id),)
        look(parts, Memory())  # each time another agent
        for one in parts.ledger.instances(ENV):
            if one.taint:
                parts.ledger.remove_instance(one.id, "replaced")
                (new,) = parts.ledger.add_instances(ENV, 1, 1, IPv4Network("10.99.0.0/24"), replacing="drifted")
                parts.ledger.set_process(new.id, parts.machine.runtime.create(new, release(1), image()))
                parts.machine.runtime.start(new)
    assert len(events(parts, "taint")) == 3
    alarm = parts.ledger.get_environment(ENV).alarm
    assert alarm == "3 instances had drifted in 600 s: nothing is replaced any more until somebody deploys"
    parts.ledger.set_alarm(ENV, None)
    look(parts, Memory())
    assert len(events(parts, "taint")) == 5, "somebody came: it is counted anew"
