"""Wildcards, which are proven by a command that writes to the DNS."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from pathlib import Path

import pytest
from acme_world import World, wanted

from instar.cancellation import Cancellation
from instar.errors import Cancelled
from instar.model.machine import DnsSettings
from instar.waiting import Deadline, until
from pebble import Pebble
from simulated.door import SimulatedDoor

HOOK = """#!/bin/sh
echo "$1 $2 $3" >>{log}
case "$1" in
  set) curl -sf -d '{{"host": "'"$2."'", "value": "'"$3"'"}}' {dns}/set-txt ;;
  remove) curl -sf -d '{{"host": "'"$2."'"}}' {dns}/clear-txt ;;
esac
"""


def hook(folder: Path, text: str) -> DnsSettings:
    path = folder / "dns-record"
    path.write_text(text)
    path.chmod(0o755)
    return DnsSettings(command=(str(path),), wait_ms=0, timeout_ms=1_000)


def test_a_wildcard_is_proven_by_a_command_that_writes_to_the_dns(
    pebble: Pebble, tmp_path: Path, door: SimulatedDoor
) -> None:
    settings = hook(tmp_path, HOOK.format(log=tmp_path / "log", dns=pebble.dns_url))
    world = World(tmp_path, pebble, door, dns=settings)
    found = world.renewals.renew(wanted("*.wild.test"), door)
    assert found.outcome == "renewed" and found.held is not None and found.held.covers(["a.wild.test"]), found.error
    did = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [(what, name) for what, name, _ in did] == [
        ("set", "_acme-challenge.wild.test"),
        ("remove", "_acme-challenge.wild.test"),
    ]
    assert did[0][2] == did[1][2] and (world.store.root / "acme" / "_.wild.test" / "certificate.pem").exists()
    assert door.nonces == 0 and list(door.shown) == ["*.wild.test"]


def test_without_a_command_a_wildcard_is_refused_with_what_to_do(world: World) -> None:
    found = world.renewals.renew(wanted("*.none.test"), world.door)
    assert found.error is not None and "no command of this machine writes to the DNS" in found.error.message
    assert "acme: {dns: {command: " in (found.error.hint or "")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo first; echo 'no such zone' >&2; exit 3", "exit status 3; it printed last: first | no such zone"),
        ("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last; exit 1", "exit status 1; it printed last: "),
        ("yes", "no end within its time; it printed last: y | y"),
        ("sleep 313 & sleep 313", "no end within its time"),
        ("sleep 313 & exit 4", "exit status 4"),
        ("printf 'a\\033[2Jb'; exit 1", "it printed last: a?[2Jb"),
        ("kill -9 $$", "exit status -9"),
    ],
)
def test_a_command_that_fails_hangs_or_prints_a_lot_is_told(
    pebble: Pebble, tmp_path: Path, door: SimulatedDoor, script: str, told: str
) -> None:
    world = World(tmp_path, pebble, door, dns=hook(tmp_path, f'#!/bin/sh\n[ "$1" = remove ] && exit 0\n{script}\n'))
    began = time.monotonic()
    found = world.renewals.renew(wanted("*.hook.test"), door)
    assert found.error is not None and told in found.error.message, found.error
    assert len(found.error.message) < 1500 and found.error.message.isprintable() and time.monotonic() - began < 5
    assert until(lambda: not processes_of("sleep 313"), Deadline.after(2))


def processes_of(command: str) -> list[int]:
    words = b"\0".join(word.encode() for word in command.split()) + b"\0"
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == words and (path.parent / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(path.parent.name))
    return found


def test_a_command_is_killed_when_the_work_is_cancelled_and_the_record_is_removed_later(
    pebble: Pebble, tmp_path: Path, door: SimulatedDoor
) -> None:
    log = tmp_path / "log"
    script = f'#!/bin/sh\necho "$1" >>{log}\n[ "$1" = set ] && sleep 317\nexit 0\n'
    world = World(tmp_path, pebble, door, dns=dataclasses.replace(hook(tmp_path, script), timeout_ms=60_000))
    threading.Timer(1.5, world.cancellation.request).start()
    with pytest.raises(Cancelled):
        world.renewals.renew(wanted("*.late.test"), door)
    assert until(lambda: not processes_of("sleep 317"), Deadline.after(2))
    folder = world.store.folder(wanted("*.late.test"))
    order = folder.order()
    assert order is not None and order.url is not None and len(order.hooked) == 1
    hook(tmp_path, HOOK.format(log=log, dns=pebble.dns_url))
    world.cancellation = Cancellation()
    assert world.again().renew(wanted("*.late.test"), door).outcome == "renewed"
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["set", "remove", "set", "remove"]
