"""What is said after a restore: what has to be done by hand, before anything starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from instar.backup.contents import KeptEnvironment, Summary
from instar.backup.outcomes import Restored
from instar.views.backups import restored_json, restored_page

SUMMARY = Summary(
    format=1,
    id="0" * 32,
    at=datetime(2026, 11, 30, 3, tzinfo=UTC),
    version="1.0",
    schema=18,
    ledger="one",
    machine="web1",
    state="/var/lib/instar",
    state_id="3f2a91",
    shared=None,
    secrets=True,
    volumes=None,
    environments=(),
    size_bytes=1,
)


def test_that_root_runs_what_a_restored_machine_file_names_is_said_before_the_step_that_starts_it() -> None:
    made = Restored(summary=SUMMARY, state_id="3f2a91", machine_file="there", kept_volumes=False)
    lines = [str(line) for line in restored_page(made, "/var/lib/instar")]
    (told,) = [number for number, line in enumerate(lines) if "root runs what it names as a command" in line]
    assert told < next(number for number, line in enumerate(lines) if "start everything" in line)


def test_beside_the_original_it_is_said_whose_addresses_they_are() -> None:
    kept = KeptEnvironment(
        name="shop/production",
        provider="local",
        machine="web1",
        of_one_machine=True,
        release=3,
        image=None,
        listen=("127.0.0.1:8090",),
        names=(),
        volumes=(),
        secrets=False,
    )
    summary = replace(SUMMARY, environments=(kept,))
    made = Restored(
        summary=summary, state_id="3f2a91", machine_file="there", kept_volumes=False, beside="/var/lib/instar"
    )
    text = "\n".join(map(str, restored_page(made, "/srv/again")))
    assert "the original is on this machine ('/var/lib/instar')" in text
    assert "listen at 127.0.0.1:8090, where those of the original listen" in text
    assert "is off, and stays off" not in text
    assert restored_json(made)["beside"] == "/var/lib/instar"
    apart = "\n".join(map(str, restored_page(replace(made, beside=None), "/srv/again")))
    assert "is off, and stays off" in apart and "the original is on this machine" not in apart
