"""Tampering is found: by verify, by the script in docs/ledger.md, and, for a cut-off end, by the system log."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged, LedgerNewer
from instar.ledger import Ledger, chain
from instar.ledger.copying import moved_to
from instar.model.codec import canonical
from instar.model.environment import Settings
from instar.model.events import read
from instar.model.happenings import DamagedHappening, UnknownHappening
from instar.model.release import EnvironmentId
from ledger_tampering import rewrite_last, tamper
from simulated.values import configuration, image, note

DEV = EnvironmentId(service="guestbook", name="dev")
DOCUMENT = Path(__file__).parents[2] / "docs/ledger.md"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with seven events, of which some have what is hard to print in their detail."""
    path = tmp_path / "instar.db"
    with Ledger(path, actor="Jörg O'Neill") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image().digest, configuration({"TEXT": "a|b\\n\n'\"ü"}))
        ledger.end_rollout(ledger.begin_rollout(DEV, "deploy", 1), "failed", {"last": ["a|b\n", "%s \\c \0 ü|"]})
        ledger.set_active(DEV, 1)
        took = {"seconds": 0.1, "recording": "", "different": "", "exit_status": None, "cause": None}
        ledger.record(read("shell-ended", {"instance": "ü|", **took}), image=image().digest)
        ledger.record(note())
    return path


def verify(path: Path) -> str:
    with Ledger(path, actor="ann") as ledger:
        return ledger.verify().head


def script(heading: str = "### What a chain cannot show") -> str:
    """Return the first script of the chain's section, to be run word for word."""
    section = DOCUMENT.read_text().split("## The chain")[1].split(heading)[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def by_hand(path: Path) -> subprocess.CompletedProcess[str]:
    text = script().replace("/var/lib/instar/ledger/instar.db", str(path))
    assert str(path) in text
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)


def test_an_empty_ledger_has_a_head_of_zeros(tmp_path: Path) -> None:
    assert verify(tmp_path / "instar.db") == chain.START == "0" * 64


def test_the_documented_script_agrees(path: Path) -> None:
    seen = by_hand(path)
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, f"head {verify(path)}\n", "")


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("UPDATE events SET actor = 'eve' WHERE seq = 3", 3),
        ("UPDATE events SET detail = replace(detail, '0.1', '0.2') WHERE seq = 6", 6),
        ("UPDATE events SET image = NULL WHERE seq = 6", 6),
        ("UPDATE events SET hash = iif(hash LIKE 'f%', 'e', 'f') || substr(hash, 2) WHERE seq = 4", 4),
        ("DELETE FROM events WHERE seq = 1", 1),
        ("DELETE FROM events WHERE seq = 5", 5),
        ("UPDATE events SET seq = seq + 1 WHERE seq = 7", 7),
    ],
)
def test_a_changed_event_is_named_by_both(path: Path, change: str, first: int) -> None:
    tamper(path, change)
    with pytest.raises(LedgerDamaged, match=f"event {first} is not what was written"):
        verify(path)
    seen = by_hand(path)
    assert seen.returncode == 1 and "is not what was written" in seen.stdout


def test_a_release_that_is_not_what_its_event_says(path: Path) -> None:
    tamper(path, f"UPDATE releases SET image = '{image('other').digest}'")
    with pytest.raises(LedgerDamaged, match="release 1 of guestbook/dev is not what event 2 says"):
        verify(path)


def test_a_configuration_that_is_not_what_its_event_says(path: Path) -> None:
    other = configuration({"TEXT": "other"})
    text = canonical(other).decode()
    tamper(path, f"UPDATE releases SET configuration = '{text}', configuration_digest = '{other.digest}'")
    with pytest.raises(LedgerDamaged, match="release 1 of guestbook/dev is not what event 2 says"):
        verify(path)


def test_a_release_that_no_event_tells_of(path: Path) -> None:
    tamper(
        path,
        "INSERT INTO releases SELECT environment, 2, image, configuration, configuration_digest, created_at, 1, NULL, "
        "0, NULL FROM releases",
    )
    with pytest.raises(LedgerDamaged, match="no event tells of release 2 of guestbook/dev"):
        verify(path)


def test_traffic_that_no_event_tells_of(path: Path) -> None:
    tamper(path, "UPDATE environments SET active = NULL")
    with pytest.raises(LedgerDamaged, match="active release of guestbook/dev is None, event 5 says 1"):
        verify(path)


def test_a_dropped_trigger(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER events_unchanged")
    with pytest.raises(LedgerDamaged, match="its schema was changed: events_unchanged"):
        verify(path)


def test_a_cut_off_end_shows_only_in_the_head(path: Path) -> None:
    head = verify(path)
    tamper(path, "DELETE FROM events WHERE seq = 7")
    assert verify(path) != head
    assert by_hand(path).returncode == 0


def test_an_event_of_another_version_s_kind_is_not_vouched_for(path: Path) -> None:
    rewrite_last(path, lambda kind, detail: ("drained", {"instance": "guestbook-dev-1-1", "why": "full"}))
    with pytest.raises(LedgerNewer, match="event 7 is of a kind that is not known here, 'drained'") as raised:
        verify(path)
    assert raised.value.hint is not None and "newer Instar" in raised.value.hint
    with Ledger(path, actor="ann") as ledger:
        ledger.record(note())
        *_, event, _ = ledger.history()
    assert event.what == UnknownHappening(detail={"instance": "guestbook-dev-1-1", "why": "full"})
    assert by_hand(path).returncode == 0, "the chain itself holds"


@pytest.mark.parametrize(
    ("kind", "detail", "cause"),
    [
        ("taint", {"instance": "guestbook-dev-1-1"}, "event 7: not a InstanceTainted: .*why"),
        ("certificate", {"names": "a.example"}, "event 7: not a CertificateHeld: 'a.example' is not a list"),
        ("taken-over", {"pid": "1"}, "event 7: not a TakenOver: '1' is not int"),
        ("rollout-done", {"rollout": True}, "event 7: not a RolloutDone: True is not int"),
        ("release", {"configuration": "sha256:"}, "event 7: .*sha256:"),
    ],
)
def test_a_detail_that_is_not_of_its_kind_s_form_is_damage(
    path: Path, kind: str, detail: dict[str, object], cause: str
) -> None:
    rewrite_last(path, lambda *_: (kind, detail))
    with pytest.raises(LedgerDamaged, match=f"not of the form that was written: {cause}"):
        verify(path)
    with Ledger(path, actor="ann") as ledger:
        (event,) = ledger.history(last=1)
    assert isinstance(event.what, DamagedHappening) and event.what.detail == detail


def test_a_detail_that_is_no_object_is_damage_to_whoever_reads_it(path: Path) -> None:
    tamper(path, "UPDATE events SET detail = '[1]' WHERE seq = 7")
    with (
        Ledger(path, actor="ann") as ledger,
        pytest.raises(LedgerDamaged, match="number 7: its detail is no object"),
    ):
        ledger.history()


WATCHED = """
import os, socket, sys
from pathlib import Path
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.setblocking(False)
from instar.ledger import Ledger
from instar.model.happenings import ReleasePinned as note
with Ledger(Path(sys.argv[1]), actor="ann") as ledger:
    with ledger.transaction():
        ledger.record(note())
        ledger.record(note())
    try:
        with ledger.transaction():
            ledger.record(note())
            raise KeyError
    except KeyError:
        pass
    ledger.history()
    print(log.recv(4096).decode())
    print(ledger.verify().head)
    try:
        log.recv(4096)
    except BlockingIOError:
        print("no more")
"""


@pytest.mark.root
def test_the_system_log_gets_the_head_of_every_commit(path: Path) -> None:
    """In a mount namespace of its own, where /dev/log is the test's."""
    words = 'mount -t tmpfs tmpfs /dev && exec "$0" -c "$1" "$2"'
    seen = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, sys.executable, WATCHED, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    line, head, rest = seen.stdout.splitlines()
    assert re.search(r"instar\[\d+\]: ", line) and line.rstrip("\0").endswith(f"ledger {path} of - seq 9 head {head}")
    assert rest == "no more"


NEW_SETTINGS = "INSERT INTO settings SELECT environment, version + 1, value, created_at FROM settings"


def test_an_environment_that_no_event_tells_of(path: Path) -> None:
    """Rows that the rules let in, from somebody who may add some."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO environments (id, service, environment, created_at, provable_from) "
            "SELECT 9, 'shop', 'production', created_at, 1 FROM environments"
        )
        connection.execute("INSERT INTO settings SELECT 9, version, value, created_at FROM settings")
    with pytest.raises(LedgerDamaged, match="no event 1 tells how shop/production began"):
        verify(path)


def test_nobody_closes_a_chain_to_have_what_was_before_taken_for_older(tmp_path: Path) -> None:
    """Where all events are of one environment, its chain is that of all: nothing but its beginning tells."""
    path = tmp_path / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
    with sqlite3.connect(path) as connection:
        last = connection.execute("SELECT seq, at, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        row = (last[0] + 1, last[1], "eve", "chain-closed", None, None, None, "{}")
        written = (*row, chain.link(last[2], *row))
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", written)
        connection.execute(NEW_SETTINGS)
    with pytest.raises(LedgerDamaged, match="no event 1 tells how guestbook/dev began"):
        verify(path)


@pytest.mark.parametrize(
    ("at", "detail"),
    [("2026-99-01T00:00:00.000000Z", "{}"), ("2026-01-01T00:00:00.000000Z", f'{{"reason": {"9" * 5000}}}')],
)
def test_an_event_that_cannot_be_read_is_named_and_stops_nobody(path: Path, at: str, detail: str) -> None:
    """The rules let it in; it stands in its chain for ever."""
    with sqlite3.connect(path) as connection:
        row = (8, at, "eve", "alarm", None, None, None, detail)
        ((head,),) = connection.execute("SELECT hash FROM events WHERE place IS NULL ORDER BY seq DESC LIMIT 1")
        written = (*row, chain.link(head, *row))
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", written)
    with Ledger(path, actor="ann") as ledger:
        with pytest.raises(LedgerDamaged, match="cannot read 'event' in the ledger: it is damaged: number 8: "):
            ledger.history()
        assert moved_to(ledger) is None
        ledger.set_active(DEV, None)
        assert [event.seq for event in ledger.events_after(6, 10)] == [7, 9]
        assert ledger.history(DEV)[-1].seq == 9
        with pytest.raises(LedgerDamaged):
            ledger.verify()
