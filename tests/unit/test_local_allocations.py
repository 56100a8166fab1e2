"""Which instance has which address: written down before it is used, taken over from an older Instar's ledger."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from instar import durable
from instar.errors import LedgerDamaged, ProviderError
from instar.host.processes import processes
from instar.model.codec import to_json
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.process import Process
from instar.providers.local import allocations
from instar.providers.local.names import InstanceNames, Names
from simulated.values import ENV, instance

SMALL = IPv4Network("10.9.0.0/29")  # five addresses for instances
PROCESS = Process(boot_id="b", pid=7, start_time=99)


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(StateDirectory(tmp_path / "state", tmp_path / "run"), "0a1b2c")


def of(names: Names, serial: int) -> InstanceNames:
    return names.instance(f"guestbook-dev-1-{serial}", serial)


def allocate(names: Names, serial: int) -> str:
    return str(allocations.allocate(of(names, serial), ENV, SMALL))


@contextlib.contextmanager
def killed_at(point: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Die inside at the point with that number: before a file is written, or after it."""
    real, points = durable.write, itertools.count()

    def write(*arguments: object, **named: object) -> None:
        if next(points) == point:
            raise KeyboardInterrupt
        real(*arguments, **named)  # type: ignore[arg-type]
        if next(points) == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(durable, "write", write)
        yield


def test_each_has_another_and_keeps_it(names: Names) -> None:
    assert [allocate(names, serial) for serial in (1, 2, 1, 3)] == ["10.9.0.2", "10.9.0.3", "10.9.0.2", "10.9.0.4"]
    assert allocations.count_free(names, SMALL) == 2
    assert allocations.get_address(of(names, 2)) == IPv4Address("10.9.0.3")
    assert allocations.find_address(of(names, 4)) is None


def test_one_that_is_free_again_is_the_last_to_be_given(names: Names) -> None:
    allocate(names, 1)
    allocations.release(of(names, 1))
    assert [allocate(names, serial) for serial in range(2, 7)] == [f"10.9.0.{last}" for last in (3, 4, 5, 6, 2)]
    with pytest.raises(ProviderError, match=r"no address of 10\.9\.0\.0/29 is free"):
        allocate(names, 7)


def test_it_is_not_free_as_long_as_anything_of_the_instance_is_left(names: Names) -> None:
    allocate(names, 1)
    of(names, 1).folder.mkdir(parents=True)
    allocations.release(of(names, 1))
    assert allocations.find(of(names, 1)) is not None
    of(names, 1).folder.rmdir()
    allocations.release(of(names, 1))
    allocations.release(of(names, 1))
    assert allocations.find(of(names, 1)) is None


def test_many_at_once_have_one_each(names: Names) -> None:
    network = IPv4Network("10.9.0.0/26")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda serial: allocations.allocate(of(names, serial), ENV, network), range(1, 41)))
    assert len({*found}) == 40


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 64, b"[]", b'{"id": 1}'])
def test_the_address_of_one_that_cannot_be_read_is_said_to_be_lost(names: Names, damage: bytes) -> None:
    allocate(names, 1)
    of(names, 1).allocation.write_bytes(damage)
    with pytest.raises(ProviderError, match=r"'guestbook-dev-1-1': '.*guestbook-dev-1-1.json' is damaged, or gone"):
        allocations.get_address(of(names, 1))
    assert allocations.process_of(of(names, 1)) is None
    names.last_address.write_bytes(damage)
    assert allocate(names, 2) == "10.9.0.2", "nobody says any more that it is taken"


def test_another_instance_s_record_is_not_taken_for_its_own(names: Names) -> None:
    allocate(names, 1)
    again = names.instance(of(names, 1).name, 2)
    assert allocations.find(again) is None
    assert str(allocations.allocate(again, ENV, SMALL)) == "10.9.0.3"


@pytest.mark.parametrize("kill_at", range(4))
def test_who_is_killed_as_an_address_is_given_leaves_nothing_that_is_wrong(
    names: Names, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    allocate(names, 1)
    with killed_at(kill_at, monkeypatch):
        allocate(names, 2)
    second, third = allocate(names, 2), allocate(names, 3)
    assert len({"10.9.0.2", second, third}) == 3
    assert allocate(names, 2) == second


# from an older Instar's ledger


def known(process: Process | None = PROCESS) -> list[tuple[object, dict[str, object]]]:
    value = {"process": None if process is None else to_json(process)}
    return [(instance(1), {"address": "10.9.0.9", **value}), (instance(2), {"address": "10.9.0.4", **value})]


def taken(names: Names, number: int) -> allocations.Allocation | None:
    one = instance(number)
    return allocations.find(names.instance(one.id, one.serial))


@pytest.mark.parametrize("process", [PROCESS, None])
def test_what_the_ledger_of_an_older_instar_knew_is_taken_over(names: Names, process: Process | None) -> None:
    for _ in range(2):
        allocations.take_over(names, known(process))  # type: ignore[arg-type]
    first, second = taken(names, 1), taken(names, 2)
    assert first and second and (first.address, first.process) == ("10.9.0.9", process)
    assert second.environment == str(ENV)
    assert allocate(names, 9) == "10.9.0.5", "the next one comes after the last that was given"


def test_what_was_changed_since_is_not_taken_over_again(names: Names) -> None:
    allocations.take_over(names, known())  # type: ignore[arg-type]
    one = instance(1)
    own = processes.identify(os.getpid())
    allocations.set_process(names.instance(one.id, one.serial), own)
    allocations.take_over(names, known())  # type: ignore[arg-type]
    found = taken(names, 1)
    assert found is not None and found.process == own


@pytest.mark.parametrize("kill_at", range(6))
def test_who_is_killed_as_it_is_taken_over_is_gone_on_with(
    names: Names, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    with killed_at(kill_at, monkeypatch):
        allocations.take_over(names, known())  # type: ignore[arg-type]
    allocations.take_over(names, known())  # type: ignore[arg-type]
    assert taken(names, 1) and taken(names, 2)
    assert allocate(names, 9) == "10.9.0.5"


@pytest.mark.parametrize(
    "value", [{}, {"address": "10.9.0.999"}, {"address": 7}, {"address": "10.9.0.2", "process": 1}]
)
def test_what_cannot_be_taken_over_is_said(names: Names, value: dict[str, object]) -> None:
    with pytest.raises(LedgerDamaged, match="'guestbook-dev-1-1': what the ledger has of its address is damaged"):
        allocations.take_over(names, [(instance(1), value)])


def test_environments_are_told_apart(names: Names) -> None:
    allocations.allocate(of(names, 1), EnvironmentId(service="shop", name="dev"), SMALL)
    found = allocations.find(of(names, 1))
    assert found is not None and found.environment == "shop/dev"
