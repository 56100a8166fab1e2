"""The tables are made again from the events: whatever was changed by hand in one of them is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged
from instar.ledger import Ledger, chain, schema, sqlite
from instar.ledger.rows import time_value
from instar.model.codec import canonical, to_json
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.origin import Commit, Origin
from instar.model.release import Command, Ending, EnvironmentId, Maintenance, Served
from instar.model.rollout_happenings import (
    RolloutAborted,
    RolloutPaused,
    RolloutResumed,
    SmokePassed,
    StepJudged,
    StepTaken,
)
from ledger_tampering import rewrite_last, tamper
from simulated import VirtualClock
from simulated.values import configuration, image, note

DEV = EnvironmentId(service="guestbook", name="dev")
ORIGIN = Origin(by="ann", machine="web1", message="why", commit=Commit(id="0" * 40, branch="main", clean=True))
NETWORK = IPv4Network("10.9.0.0/24")
AT = "2026-01-01T00:00:00.000000Z"


def write_something(path: Path) -> None:
    """Put something in every column that events tell of."""
    clock = VirtualClock()
    with Ledger(path, actor="ann", clock=clock.now) as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.save_settings(DEV, Settings(instances=2))
        ledger.set_project(DEV, "0" * 32)
        ledger.set_machine(DEV, "web1 (0a1b2c)")
        for name in ("one", "two"):
            ledger.add_release(DEV, image(name).digest, configuration({"NAME": name}), ORIGIN)
            rollout = ledger.begin_rollout(DEV, "deploy", len(ledger.releases(DEV)))
            ledger.set_active(DEV, rollout.target, reason="why")
            ledger.end_rollout(rollout, "done" if name == "one" else "failed", {"switch_ms": 0.5, "reason": "x"})
        ledger.set_pinned(DEV, 1, True)
        first, second, _ = ledger.add_instances(DEV, 2, 3)
        ledger.set_made(first.id)
        ledger.set_started(first.id)
        ledger.taint(first.id, "drift", "changed", after_ms=60_000)
        ledger.taint(first.id, "person", "now", isolated=True)
        for kind in ("drift", "shell"):
            ledger.taint_member(
                first.id, f"{first.id}-a", kind, "looked into", after_ms=60_000 if kind == "drift" else 0
            )
            ledger.taint_member(first.id, f"{first.id}-b", kind, "looked into")
        ledger.set_member_aside(first.id, f"{first.id}-a")
        ledger.remove_member(first.id, f"{first.id}-b", "it is gone")
        ledger.set_ending(second.id, Ending(reason="exited", at=ledger.now(), why="it ended", exit_status=3))
        ledger.remove_instance(second.id, "ended")
        ledger.begin_task(DEV, 2, "before 1")
        ledger.end_task(DEV, 2, "before 1", "done", {})
        run = ledger.begin_run(DEV, 2, Command(argv=("console", "-v"), terminal="xterm"))
        assert [one.name for one in ledger.given_tasks(DEV)] == [run.task] == ["run 1"]
        ledger.set_alarm(DEV, "look", holds=False)
        ledger.set_alarm(DEV, None)
        ledger.set_alarm(DEV, "look again")
        for page in (None, "<p>soon"):
            ledger.set_maintenance(DEV, on=True, page=page)
        walk(ledger, ledger.begin_rollout(DEV, "rollback", 1, settings_before=Settings()).id)


def walk(ledger: Ledger, rollout: int) -> None:
    """Let everything happen to a rollout that changes its stage."""
    counted = {"guestbook-dev-1-1": Served(requests=7, failed=1)}
    for what in (
        SmokePassed(rollout=rollout, instances=("guestbook-dev-1-1",)),
        StepTaken(rollout=rollout, step=1, percent=10, counted=counted),
        StepJudged(rollout=rollout, step=1, passed=True, figures={"requests": 40, "stable": {"failed": 0.25}}),
        RolloutPaused(rollout=rollout, reason="lunch"),
        RolloutResumed(rollout=rollout, step=1),
        RolloutResumed(rollout=rollout, step=1),
        RolloutPaused(rollout=rollout, reason="look"),
        RolloutAborted(rollout=rollout, reason="enough"),
    ):
        ledger.change_stage(what)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "instar.db"
    write_something(found)
    return found


def verify(path: Path) -> None:
    with Ledger(path, actor="bob") as ledger:
        ledger.verify()


def test_what_was_written_follows_from_its_events(path: Path) -> None:
    with Ledger(path, actor="bob") as ledger:
        verified = ledger.verify()
    assert not verified.unprovable
    assert verified.heads.keys() == {"guestbook/dev"} and verified.heads["guestbook/dev"] == verified.head


LAST_SETTINGS = "UPDATE settings SET value = json_set(value, '$.instances', 9)"
STAGES = [
    "json_set(stage, '$.step', 0)",
    "json_set(stage, '$.percent', 100)",
    "json_remove(stage, '$.percent')",
    f"json_set(stage, '$.step_at', '{AT}')",
    "json_set(stage, '$.counted.guestbook-dev-1-1.requests', 8)",
    "json_set(stage, '$.counted', json('{}'))",
    "json_set(stage, '$.judged', json('false'))",
    "json_set(stage, '$.smoked', json('[]'))",
    "json_set(stage, '$.paused', json('false'))",
    "json_set(stage, '$.resumed', json('false'))",
    "json_set(stage, '$.abort', NULL)",
    "json_set(stage, '$.verdict.passed', json('false'))",
    "json_remove(stage, '$.verdict')",
    "json_set(stage, '$.settings_before', NULL)",
    "json_set(stage, '$.settings_before.instances', 9)",
]
FOUND = {
    f"{LAST_SETTINGS} WHERE version = 2": "setting 2 .* another 'value'",
    f"{LAST_SETTINGS} WHERE version = 1": "setting 1 .* another 'value'",
    "INSERT INTO settings SELECT environment, 3, value, created_at FROM settings LIMIT 1": "no event tells of setting",
    "DELETE FROM settings WHERE version = 2": "setting 2 .* is gone",
    "UPDATE releases SET ran_well = 1 WHERE number = 2": "release 2 .* another 'ran_well'",
    "UPDATE releases SET ran_well = 0 WHERE number = 1": "release 1 .* another 'ran_well'",
    f"UPDATE releases SET last_active_at = '{AT}' WHERE number = 1": "release 1 .* another 'last_active_at'",
    "UPDATE releases SET origin = NULL WHERE number = 1": "release 1 .* another 'origin'",
    "UPDATE releases SET origin = json_set(origin, '$.commit.clean', json('false'))": "another 'origin'",
    "UPDATE releases SET pinned = 0": "release 1 .* another 'pinned'",
    "UPDATE releases SET pinned = 1 WHERE number = 2": "release 2 .* another 'pinned'",
    f"UPDATE releases SET created_at = '{AT}' WHERE number = 2": "release 2 .* another 'created_at'",
    "UPDATE rollouts SET target = 2 WHERE id = 1": "rollout 1 .* another 'target'",
    "UPDATE rollouts SET state = 'done' WHERE id = 2": "rollout 2 .* another 'state'",
    "UPDATE rollouts SET detail = '{}' WHERE id = 2": "rollout 2 .* another 'detail'",
    "UPDATE rollouts SET actor = 'eve' WHERE id = 1": "rollout 1 .* another 'actor'",
    f"UPDATE rollouts SET state = 'done', ended_at = '{AT}' WHERE id = 3": "rollout 3 .* another 'state'",
    "DELETE FROM rollouts WHERE id = 2": "rollout 2 .* is gone",
    **{f"UPDATE rollouts SET stage = {text} WHERE id = 3": "rollout 3 .* another 'stage'" for text in STAGES},
    "UPDATE rollouts SET stage = json_set(stage, '$.step', 1) WHERE id = 1": "rollout 1 .* another 'stage'",
    "UPDATE instances SET taint = NULL": "instance guestbook-dev-2-1 .* another 'taint'",
    "UPDATE instances SET taint = json_set(taint, '$.why', 'no matter') WHERE taint IS NOT NULL": "another 'taint'",
    f"UPDATE instances SET taint = json_set(taint, '$.due_at', '{AT}') WHERE taint IS NOT NULL": "another 'taint'",
    "UPDATE instances SET drifted_at = NULL": "another 'drifted_at'",
    "UPDATE instances SET made = 0 WHERE made = 1": "another 'made'",
    "UPDATE instances SET role = 'worker'": "another 'role'",
    f"UPDATE instances SET started_at = '{AT}' WHERE started_at IS NOT NULL": "another 'started_at'",
    f"UPDATE instances SET removed_at = '{AT}' WHERE id = 'guestbook-dev-2-3'": "guestbook-dev-2-3 .* 'removed_at'",
    "UPDATE instances SET removed_at = NULL": "guestbook-dev-2-2 .* 'removed_at'",
    "UPDATE instances SET ending = json_set(ending, '$.why', 'x') WHERE ending IS NOT NULL": "another 'ending'",
    "UPDATE instances SET release = 1 WHERE id = 'guestbook-dev-2-3'": "another 'release'",
    "UPDATE instances SET replacing = 'old' WHERE id = 'guestbook-dev-2-3'": "another 'replacing'",
    "DELETE FROM instances WHERE id = 'guestbook-dev-2-3'": "instance guestbook-dev-2-3 .* is gone",
    "INSERT INTO instances (id, environment, release, role, stem, k, members, created_at) "
    f"VALUES ('s-9', 1, 1, '', 's', 9, 1, '{AT}')": "no event tells of instance s-9",
    "UPDATE instances SET command = NULL": "another 'command'",
    "UPDATE tasks SET outcome = 'failed' WHERE outcome IS NOT NULL": "another 'outcome'",
    "DELETE FROM tasks": "task guestbook-dev-2-4 .* is gone",
    "UPDATE environments SET alarm = NULL": "the row .* another 'alarm'",
    "UPDATE environments SET alarm_holds = 0": "the row .* another 'alarm_holds'",
    f"UPDATE environments SET counted_since = '{AT}'": "the row .* another 'counted_since'",
    f"UPDATE environments SET project = '{'f' * 32}'": "the row .* another 'project'",
    "UPDATE environments SET machine = 'web2'": "the row .* another 'machine'",
    **{
        f"UPDATE environments SET maintenance = {text}": "the row .* another 'maintenance'"
        for text in (
            "NULL",
            "json_set(maintenance, '$.on', json('false'))",
            "json_set(maintenance, '$.page', '<p>soon?')",
            "json_set(maintenance, '$.page', NULL)",
            f"json_set(maintenance, '$.since', '{AT}')",
        )
    },
    "UPDATE environments SET destroying = 1": "the row .* another 'destroying'",
}


@pytest.mark.parametrize("change", FOUND)
def test_what_was_changed_by_hand_is_found(path: Path, change: str) -> None:
    tamper(path, change)
    with pytest.raises(LedgerDamaged, match=FOUND[change]):
        verify(path)


def test_where_a_rollout_is_follows_from_its_events(path: Path) -> None:
    with Ledger(path, actor="bob") as ledger:
        stage = ledger.get_rollout(3).stage
        assert ledger.verify().unproven_stages == {}
    assert (stage.step, stage.percent, stage.judged, stage.abort) == (1, 10, True, "enough")
    assert stage.paused and stage.resumed and stage.smoked and stage.counted and stage.verdict


def test_where_a_rollout_is_that_an_older_version_began_is_said_to_be_unproven(tmp_path: Path) -> None:
    path = tmp_path / "instar.db"
    with Ledger(path, actor="ann", clock=VirtualClock().now) as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image().digest, configuration())
        begun = ledger.begin_rollout(DEV, "deploy", 1)
    rewrite_last(path, lambda kind, detail: (kind, {key: one for key, one in detail.items() if key != "stage"}))
    with Ledger(path, actor="bob") as ledger:
        assert ledger.verify().unproven_stages == {"guestbook/dev": 1}
        walk(ledger, begun.id)
        assert ledger.verify().unproven_stages == {"guestbook/dev": 1}
        ledger.end_rollout(ledger.get_rollout(begun.id), "failed")
        walk(ledger, ledger.begin_rollout(DEV, "deploy", 1).id)
        assert ledger.verify().unproven_stages == {"guestbook/dev": 1}, "the newer one is proven"
    tamper(path, "UPDATE rollouts SET stage = json_set(stage, '$.step', 0) WHERE id = 2")
    with pytest.raises(LedgerDamaged, match=r"rollout 2 .* another 'stage'"):
        verify(path)
    tamper(path, "UPDATE rollouts SET stage = json_set(stage, '$.step', 1) WHERE id = 2")
    tamper(path, "UPDATE rollouts SET kind = 'rollback' WHERE id = 1")
    with pytest.raises(LedgerDamaged, match=r"rollout 1 .* another 'kind'"):
        verify(path)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_an_environment_that_was_made_again_follows_from_its_own_events(tmp_path: Path, which: int) -> None:
    path = tmp_path / "instar.db"
    with Ledger(path, actor="ann", clock=VirtualClock().now) as ledger:
        for instances in (1, 2):
            ledger.save_settings(DEV, Settings(instances=instances))
            ledger.add_release(DEV, image().digest, configuration())
            ledger.remove_environment(DEV)
        ledger.save_settings(DEV, Settings(instances=3))
        ledger.verify()
    tamper(path, f"{LAST_SETTINGS} WHERE environment = {which}")
    with pytest.raises(LedgerDamaged, match="setting 1 of guestbook/dev has another 'value'"):
        verify(path)


# a ledger from before there were chains


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ledger of schema 6, with one chain: an environment, a release, an instance that is gone and one that is not."""
    path = tmp_path / "instar.db"
    files = schema.files("sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "files", lambda engine: files[:6])
        connection = sqlite3.connect(path, isolation_level=None)
        sqlite.migrate(connection)
    text, made = canonical(Settings()).decode(), configuration()
    digest = image().digest
    connection.execute(
        "INSERT INTO environments (service, environment, created_at) VALUES ('guestbook', 'dev', ?)", (AT,)
    )
    connection.execute("INSERT INTO settings VALUES (1, 1, ?, ?)", (text, AT))
    connection.execute(
        "INSERT INTO releases (environment, number, image, configuration, configuration_digest, created_at)"
        " VALUES (1, 1, ?, ?, ?, ?)",
        (digest, canonical(made).decode(), made.digest, AT),
    )
    for k in (1, 2):
        connection.execute(
            "INSERT INTO instances (id, environment, release, stem, k, address, created_at)"
            " VALUES (?, 1, 1, 'guestbook-dev-1', ?, ?, ?)",
            (f"guestbook-dev-1-{k}", k, f"10.9.0.{k}", AT),
        )
    connection.execute("UPDATE instances SET boot_id = 'b', pid = 7, start_time = 99")
    connection.execute("UPDATE instances SET removed_at = ? WHERE k = 1", (AT,))
    add_events(connection, ("environment", None, None, {"settings": to_json(Settings())}))
    add_events(connection, ("release", 1, digest, {"configuration": made.digest}))
    add_events(connection, ("destroyed", 1, digest, {"instance": "guestbook-dev-1-1", "reason": "x"}))
    connection.close()
    yield path


def add_events(connection: sqlite3.Connection, *events: tuple[str, int | None, str | None, dict[str, object]]) -> None:
    for kind, release, digest, detail in events:
        last = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone() or (
            0,
            chain.START,
        )
        row = (last[0] + 1, AT, "ann", kind, "guestbook/dev", release, digest, chain.detail_text(detail))
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, chain.link(last[1], *row)))


def test_the_old_chain_is_closed_and_stays_verifiable_and_what_is_older_is_said_to_be_unprovable(old: Path) -> None:
    with Ledger(old, actor="ann") as ledger:
        kinds = [(event.kind, str(event.environment or "-")) for event in ledger.history()]
        assert kinds[3:] == [("chain-closed", "-"), ("checkpoint", "guestbook/dev")]
        ledger.record(note())
        verified = ledger.verify()
        assert verified.unprovable == {"guestbook/dev": 5}
        assert verified.heads.keys() == {"guestbook/dev", "-"}
    with Ledger(old, actor="ann") as again:
        assert len(again.history()) == 6, "a checkpoint is written once"
    tamper(old, "UPDATE events SET actor = 'eve' WHERE seq = 2")
    with pytest.raises(LedgerDamaged, match="event 2 is not what was written"):
        verify(old)


def test_whether_an_older_instar_had_it_in_maintenance_is_known_and_not_with_which_page(old: Path) -> None:
    connection = sqlite3.connect(old, isolation_level=None)
    for on in (False, True):
        add_events(connection, ("maintenance", 1, image().digest, {"on": on}))
    connection.close()
    since = time_value(AT)
    with Ledger(old, actor="ann") as ledger:
        said = ledger.get_environment(DEV).maintenance
        assert said == Maintenance(on=True, page=None, since=since, is_page_known=False) and said.page_word is None
        ledger.verify()
        ledger.set_maintenance(DEV, on=False, page="<p>soon")
        assert ledger.history(last=1)[0].detail == {"on": False, "page": Digest.of(b"<p>soon")}
        ledger.verify()


def test_what_an_older_instar_knew_of_an_instance_is_there_for_its_provider_to_take_over(old: Path) -> None:
    with Ledger(old, actor="ann") as ledger:
        process = {"boot_id": "b", "pid": 7, "start_time": 99}
        ((instance, value),) = ledger.provider_records("local", "web1")
        assert (instance.id, value) == ("guestbook-dev-1-2", {"address": "10.9.0.2", "process": process})
        assert instance.made and ledger.provider_records("kubernetes", "web1") == ()
        ledger.remove_instance(instance.id, "over")
        assert ledger.provider_records("local", "web1") == ()
        ledger.set_machine(DEV, "web1")
        ledger.verify()


@pytest.mark.parametrize(
    "change",
    [
        LAST_SETTINGS,
        "UPDATE releases SET ran_well = 1",
        "UPDATE instances SET made = 0 WHERE k = 2",
        f"UPDATE instances SET removed_at = '{AT}' WHERE k = 2",
        "UPDATE environments SET alarm = 'x'",
    ],
)
def test_what_is_changed_after_a_checkpoint_is_found(old: Path, change: str) -> None:
    verify(old)
    tamper(old, change)
    with pytest.raises(LedgerDamaged, match="than its events say"):
        verify(old)


def test_what_follows_a_checkpoint_follows_from_events(old: Path) -> None:
    with Ledger(old, actor="ann") as ledger:
        ledger.save_settings(DEV, Settings(instances=2))
        ledger.taint("guestbook-dev-1-2", "person", "why")
        ledger.remove_instance("guestbook-dev-1-2", "over")
        ledger.end_rollout(ledger.begin_rollout(DEV, "deploy", 1), "done")
        ledger.verify()
