"""A sink that refuses, hangs or dies delays what is shipped, and nothing is lost, or counted twice, by it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instar.model.log_stream import FULL_BYTES, LogStream
from instar.shipping import shipper as module
from instar.shipping.progress import kept
from instar.shipping.records import Owner, record, written
from instar.shipping.shipper import Shipper
from instar.shipping.sinks import Undelivered
from instar.shipping.tail import Line

OWNER = Owner(service="web", environment="dev", release=3, role="worker")


class Sink:
    """Takes batches, unless it is ``broken``."""

    def __init__(self) -> None:
        self.taken = list[Mapping[str, Any]]()
        self.batches = 0
        self.broken = ""

    def send(self, records: Sequence[Mapping[str, Any]], *, meanwhile: Callable[[], None] = lambda: None) -> None:
        if self.broken:
            raise Undelivered(self.broken)
        self.batches += 1
        self.taken += records

    def check(self) -> None: ...

    def close(self) -> None: ...

    @property
    def messages(self) -> list[str]:
        return [one["message"] for one in self.taken]


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.sink, self.said = folder, Sink(), list[tuple[str, str]]()
        self.names = ["web-dev-3-1"]

    def shipper(self) -> Shipper:
        """Return one as an agent begins it: with what the one before wrote down."""
        return Shipper(
            self.sink,
            self.folder / "shipped.json",
            self.streams,
            {"web-dev-3-1": OWNER}.get,
            told=lambda happening, text: self.said.append((happening, text)),
        )

    def log(self, name: str = "web-dev-3-1") -> Path:
        return self.folder / f"{name}.log"

    def streams(self) -> list[LogStream]:
        return [
            LogStream(
                kind="instance",
                name=name,
                files=tuple(self.log(name).with_name(f"{name}.log{end}") for end in ("", ".1", ".2")),
            )
            for name in self.names
        ]

    def add(self, *messages: str, name: str = "web-dev-3-1") -> None:
        with self.log(name).open("a") as file:
            file.writelines(f"2026-01-01T00:00:00Z stdout F {text}\n" for text in messages)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ship(shipper: Shipper) -> None:
    while shipper.once():
        pass


def test_a_line_is_shipped_with_what_it_is_of(world: World) -> None:
    world.add("hello")
    ship(world.shipper())
    (one,) = world.sink.taken
    assert one == {
        **{"time": "2026-01-01T00:00:00Z", "service": "web", "environment": "dev", "release": 3, "role": "worker"},
        **{"instance": "web-dev-3-1", "stream": "stdout", "message": "hello"},
    }


def test_the_next_agent_goes_on_where_the_last_one_was_killed(world: World) -> None:
    world.add("one", "two")
    ship(world.shipper())
    world.add("three")
    ship(world.shipper())
    assert world.sink.messages == ["one", "two", "three"]
    world.add("four")
    before = (world.folder / "shipped.json").read_bytes()
    ship(world.shipper())
    (world.folder / "shipped.json").write_bytes(before)  # killed after it was taken and before that was written down
    ship(world.shipper())
    assert world.sink.messages == ["one", "two", "three", "four", "four"]


def test_what_is_kept_and_damaged_has_all_shipped_again(world: World) -> None:
    world.add("one")
    ship(world.shipper())
    (world.folder / "shipped.json").write_text('{"places": {"x": 3}}')
    ship(world.shipper())
    assert world.sink.messages == ["one", "one"]


def test_several_logs_share_a_batch_and_none_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.names = [f"web-dev-3-{number}" for number in range(1, 6)]
    for name in world.names:
        world.add(*(f"{name} {number}" for number in range(3)), name=name)
    ship(world.shipper())
    assert world.sink.batches == 1 and len(world.sink.messages) == 15
    monkeypatch.setattr(module, "BATCH_BYTES", 20)
    for name in world.names:
        world.add("again", name=name)
    ship(world.shipper())
    assert world.sink.messages[15:] == ["again"] * 5 and world.sink.batches > 1


def test_a_batch_of_empty_lines_is_bounded_by_what_is_written_of_them(world: World) -> None:
    """Each is some 200 bytes, whatever its message is."""
    world.names = [f"web-dev-3-{number}" for number in range(1, 31)]
    for name in world.names:
        world.add(*[""] * 400, name=name)
    sizes, send = list[int](), world.sink.send

    def measured(records: Sequence[Mapping[str, Any]], **_: Any) -> None:
        sizes.append(sum(len(written(one)) for one in records))
        send(records)

    world.sink.send = measured  # type: ignore[method-assign]
    ship(world.shipper())
    each = sum(sizes) / len(world.names)
    assert len(world.sink.messages) == 30 * 400
    assert sum(sizes) > 5 * module.BATCH_BYTES and max(sizes) < module.BATCH_BYTES + 2 * each


def test_a_log_that_never_ends_to_come_keeps_no_other_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 20)
    world.names = ["web-dev-3-1", "web-dev-3-2", "web-dev-3-3"]
    shipper = world.shipper()
    world.add("two", name="web-dev-3-2")
    world.add("three", name="web-dev-3-3")
    for number in range(4):
        world.add(*(f"endless {number}" for _ in range(9)))
        shipper.once()
    assert {"two", "three"} <= set(world.sink.messages)


def test_what_a_batch_has_no_room_for_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    world.names.append("web-dev-1-2")
    world.add("one")
    world.add("two", name="web-dev-1-2")
    world.shipper().once()
    assert kept(world.folder / "shipped.json").behind_bytes == world.log("web-dev-1-2").stat().st_size


def test_a_sink_that_refuses_is_told_of_once_and_costs_nothing(world: World) -> None:
    shipper = world.shipper()
    world.sink.broken = "nobody is there"
    world.add("one")
    pauses = [shipper._failed(str(error)) for error in (refused(shipper) for _ in range(7))]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert world.said == [("failing", "logs are not shipped, and wait in their files: nobody is there")]
    assert kept(world.folder / "shipped.json").cause == "nobody is there"
    world.add("two")
    world.sink.broken = ""
    ship(shipper)
    assert world.sink.messages == ["one", "two"]
    assert [happening for happening, _ in world.said] == ["failing", "again"]
    assert kept(world.folder / "shipped.json").cause is None


def test_what_nobody_foresaw_ends_no_shipping(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.01)
    send, tries = world.sink.send, [0]

    def fails(records: Sequence[Mapping[str, Any]], **_: Any) -> None:
        tries[0] += 1
        if tries[0] < 3:
            raise KeyError("what")
        send(records)

    monkeypatch.setattr(world.sink, "send", fails)
    world.add("one")
    shipper = world.shipper()
    shipper.start()
    for _ in range(600):
        if world.sink.messages:
            break
        time.sleep(0.05)
    shipper.stop()
    assert world.sink.messages == ["one"]
    assert world.said[0] == ("failing", "logs are not shipped, and wait in their files: KeyError: 'what'")


def refused(shipper: Shipper) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        shipper.once()
    return caught.value


def test_what_goes_before_it_is_shipped_is_counted_once_and_told(world: World) -> None:
    shipper, log = world.shipper(), world.log()
    world.add("one")
    ship(shipper)
    size = log.stat().st_size
    for text in ("two", "three", "four", "five"):
        for name, then in ((".1", ".2"), ("", ".1")):
            if log.with_name(log.name + name).exists():
                log.with_name(log.name + name).rename(log.with_name(log.name + then))
        world.add(text)
    world.sink.broken = "nobody is there"
    for _ in range(3):
        refused(shipper)
    assert kept(world.folder / "shipped.json").lost_bytes == FULL_BYTES - size
    world.sink.broken = ""
    ship(world.shipper())
    assert world.sink.messages == ["one", "three", "four", "five"]
    ((happening, lost),) = world.said
    told = r", written after \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d and before \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d UTC: "
    bytes_ = f"{FULL_BYTES - size:,}"
    assert happening == "lost"
    assert re.fullmatch(
        f"at least {bytes_} bytes of logs were gone before they were shipped{told}{bytes_} by now", lost
    )


def test_what_comes_while_a_slow_sink_takes_a_batch_is_said_to_wait(world: World) -> None:
    shipper, log = world.shipper(), world.log()
    world.add("one")
    seen = list[int]()

    def slow(records: Sequence[Mapping[str, Any]], *, meanwhile: Callable[[], None] = lambda: None) -> None:
        world.add("two", "three")
        meanwhile()
        seen.append(kept(world.folder / "shipped.json").behind_bytes)

    world.sink.send = slow  # type: ignore[method-assign]
    shipper.once()
    assert seen == [log.stat().st_size], "all of it, as nothing of the batch is taken for good"


def test_what_waits_and_goes_while_a_sink_refuses_from_the_first_line_on_is_counted(world: World) -> None:
    shipper, log = world.shipper(), world.log()
    world.add("one")
    world.sink.broken = "nobody is there"
    refused(shipper)
    assert kept(world.folder / "shipped.json").behind_bytes == log.stat().st_size
    log.unlink()
    world.add("two", "three")
    refused(shipper)
    found = kept(world.folder / "shipped.json")
    assert (found.behind_bytes, found.lost_bytes) == (log.stat().st_size, FULL_BYTES)


def test_a_log_that_is_removed_is_lost_where_it_was_not_shipped(world: World) -> None:
    shipper = world.shipper()
    world.add("one")
    ship(shipper)
    world.names.append("web-dev-3-2")
    world.add("two", name="web-dev-3-2")
    ship(shipper)
    world.names.pop(0)
    ship(shipper)
    assert kept(world.folder / "shipped.json").lost_bytes == 0
    assert list(kept(world.folder / "shipped.json").places) == ["instance web-dev-3-2"]


def test_nothing_is_written_while_nothing_comes(world: World) -> None:
    world.add("one")
    shipper = world.shipper()
    ship(shipper)
    file = world.folder / "shipped.json"
    before = file.stat()
    for _ in range(3):
        assert not shipper.once()
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_ino == before.st_ino


def test_a_request_is_shipped_with_its_parts_and_a_damaged_one_is_not() -> None:
    stream = LogStream(kind="access", name="web/dev", files=())
    said = {"client": "203.0.113.9", "instance": "web-dev-3-1", "method": "GET", "host": "a.test", "path": "/x"}
    said |= {"protocol": "HTTP/1.1", "status": 200, "bytes": 5, "ms": 1}
    line = Line(at="2026-01-01T00:00:00Z", stream="access", message=json.dumps(said))
    found = record(stream, line, {"web-dev-3-1": OWNER}.get)
    assert found is not None
    assert found["message"] == "203.0.113.9 GET a.test/x HTTP/1.1 200 5 B 1 ms web-dev-3-1"
    assert (found["environment"], found["release"], found["stream"]) == ("dev", 3, "access")
    assert found["request"] == {key: value for key, value in said.items() if key != "instance"}
    assert record(stream, replace(line, message=line.message[:-5]), lambda _: None) is None
    lost = Line(at="2026-01-01T00:00:00Z", stream="instar", message="(3 lines are missing here)")
    told = record(stream, lost, lambda _: None)
    assert told is not None and (told["service"], told["instance"]) == ("web", None)
    assert written(found).endswith(b"}\n") and written(found).isascii()
