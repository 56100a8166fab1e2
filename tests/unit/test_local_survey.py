"""Looking at what an instance can write, which may have prepared itself for that."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deep_folders import nest
from instar.host.processes import processes
from instar.model.survey import Writable
from instar.process import Process
from instar.providers.local import survey as module
from instar.providers.local.survey import printable, survey

HERE = processes.identify(os.getpid())


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", ())


def seen(place: Path) -> Writable:
    assert HERE is not None
    found = survey(HERE, "instar-nobody/nothing", [str(place)])
    assert found is not None and found.processes == {}
    return found.places[str(place)]


def names(place: Path) -> set[str]:
    return {path.removeprefix(f"{place}/") for path in seen(place).files}


def test_no_link_is_followed_and_nothing_is_opened(tmp_path: Path) -> None:
    place, outside = tmp_path / "place", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (outside / "secret").touch()
    (place / "link").symlink_to(outside)
    (place / "loop").symlink_to(place)
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "socket"))
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/file").write_text("12345")
    assert names(place) == {"link", "loop", "pipe", "socket", "a", "a/b", "a/b/file"}
    assert seen(place).files[f"{place}/a/b/file"].size_bytes == 5
    (tmp_path / "place-link").symlink_to(place)
    assert seen(tmp_path / "place-link") == Writable(), "a place is no link either"
    assert seen(tmp_path / "nothing") == Writable()


def test_names_are_printable(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff\x1b[2Jb\nc")).touch()
    assert names(tmp_path) == {"a\ufffd\ufffd[2Jb\ufffdc"}
    assert printable("x" * 999).endswith("…") and len(printable("x" * 999)) == 300


def test_a_look_ends_however_much_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / str(number)).touch()
    assert seen(tmp_path).whole
    monkeypatch.setattr(module, "MOST_FILES", 20)
    found = seen(tmp_path)
    assert len(found.files) == 20 and not found.whole


def test_a_look_ends_however_deep_it_goes(tmp_path: Path) -> None:
    nest(tmp_path, 200)
    before = open_descriptors()
    assert not seen(tmp_path).whole
    assert open_descriptors() <= before  # another test's may go meanwhile


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_that_has_ended_is_not_looked_at() -> None:
    assert HERE is not None
    gone = Process(boot_id=HERE.boot_id, pid=HERE.pid, start_time=HERE.start_time - 1)
    assert survey(gone, "instar-nobody/nothing", []) is None
    assert survey(Process(boot_id=HERE.boot_id, pid=2**22, start_time=1), "instar-nobody/nothing", []) is None
