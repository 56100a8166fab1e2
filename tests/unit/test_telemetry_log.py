"""Lines of the agent's log, and what systemd is told."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import pytest

from instar.model.progress import Progress
from instar.telemetry import systemd
from instar.telemetry.log import Log
from simulated.values import ENV

NASTY = "one\ntwo\r\x1b[31mred\x7f\u202e\x85end"


def written(form: str, *, stamped: bool = True, text: str = "release 3", level: str = "info") -> str:
    stream = io.StringIO()
    Log(form, stream, stamped=stamped).say(level, "launch", text, ENV)  # type: ignore[arg-type]
    return stream.getvalue()


def test_text_is_time_level_place_and_what() -> None:
    stamp, _, rest = written("text").partition(" ")
    assert rest == "info guestbook/dev launch: release 3\n"
    assert stamp.endswith("Z") and stamp[4] == "-"


def test_json_has_stable_keys() -> None:
    line = json.loads(written("json"))
    assert line.pop("at").endswith("Z")
    assert line == {"level": "info", "place": "guestbook/dev", "what": "launch", "text": "release 3"}


def test_a_journal_gets_the_priority_and_no_time() -> None:
    assert written("text", stamped=False) == "<6>info guestbook/dev launch: release 3\n"
    assert written("text", stamped=False, level="error").startswith("<3>error ")
    assert json.loads(written("json", stamped=False, level="warning").removeprefix("<4>"))["level"] == "warning"


@pytest.mark.parametrize("form", ["text", "json"])
def test_control_characters_never_get_through(form: str) -> None:
    (line,) = written(form, text=NASTY).splitlines()
    assert line.isprintable()
    assert "one two  [31mred" in line


def test_progress_is_a_line_once_it_has_come_to_something() -> None:
    stream = io.StringIO()
    report = Log("text", stream, stamped=False).report_for(ENV)
    report(Progress(stage="launch", text="1 of 2", kind="running"))
    report(Progress(stage="launch", text="2 of 2", detail=("last words",)))
    report(Progress(stage="alarm", text="it keeps failing", kind="failed"))
    assert stream.getvalue().splitlines() == [
        "<6>info guestbook/dev launch: 2 of 2 · last words",
        "<3>error guestbook/dev alarm: it keeps failing",
    ]


def test_what_a_narrow_encoding_cannot_write_is_no_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Log("text", stream, stamped=False).say("info", "shift", "5 % · 25 %")
    assert raw.getvalue() == b"<6>info shift: 5 % \\xb7 25 %\n"


def test_nobody_who_reads_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    Log("text", stream).say("info", "begun", "it")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as broken:
        Log("text", broken).say("info", "begun", "it")
        with pytest.raises(BrokenPipeError):
            broken.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), broken.fileno())


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_over_its_socket(tmp_path: Path, abstract: bool) -> None:
    path = f"@instar-test-{os.getpid()}" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{path[1:]}" if abstract else path)
        systemd.notify({"NOTIFY_SOCKET": path}, "READY=1")
        assert listening.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_told(tmp_path: Path) -> None:
    systemd.notify({}, "READY=1")
    systemd.notify({"NOTIFY_SOCKET": f"{tmp_path}/nobody"}, "READY=1")


def test_a_journal_is_known_by_the_very_stream() -> None:
    found = os.fstat(1)
    assert systemd.under_a_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not systemd.under_a_journal({"JOURNAL_STREAM": "1:1"})
    assert not systemd.under_a_journal({})
