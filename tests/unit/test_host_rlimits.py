"""Limits of processes: the same whoever makes an instance, and for what runs in it later."""

from __future__ import annotations

import resource

import pytest

from instar import process
from instar.host.processes import rlimits


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Hard limits that the process that asks has itself; the others are unlimited."""
    hard: dict[int, int] = {}
    monkeypatch.setattr(resource, "getrlimit", lambda number: (0, hard.get(number, resource.RLIM_INFINITY)))
    return hard


@pytest.mark.parametrize("mine", [1024, 524_288, 4_194_304, resource.RLIM_INFINITY])
def test_a_root_that_may_raise_limits_gives_the_same_whatever_it_has(
    own: dict[int, int], mine: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rlimits, "_may_raise", lambda: True)
    own.update({resource.RLIMIT_NOFILE: mine, resource.RLIMIT_MEMLOCK: mine, resource.RLIMIT_NPROC: mine})
    assert rlimits.of_instance() == dict(rlimits.WANTED)


def test_a_root_that_may_not_gives_none_above_its_own(own: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rlimits, "_may_raise", lambda: False)
    own.update({resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_NPROC: 500, resource.RLIMIT_SIGPENDING: 20_000})
    found = rlimits.of_instance()
    assert (found["NOFILE"], found["NPROC"], found["SIGPENDING"]) == ((1024, 1024), (500, 500), (16_384, 16_384))


def test_a_command_inside_has_no_limit_above_those_of_the_first_process(own: dict[int, int]) -> None:
    made = {"NOFILE": 20_000, "NPROC": 300, "MEMLOCK": 1 << 30, "STACK": -1}
    words = rlimits.limited(["runc"], made, by_runc=True)
    assert (words[0], words[-1]) == ("prlimit", "runc")
    for word in ("--nofile=20000:20000", "--nproc=300:300", "--memlock=8388608:8388608", "--stack=8388608:unlimited"):
        assert word in words
    assert "--nofile=20000:20000" in rlimits.limited(["runc"], made, by_runc=False)
    assert "--nofile=65536:65536" in rlimits.limited(["runc"], {}, by_runc=False)


def test_whether_limits_can_be_raised_is_what_the_kernel_says() -> None:
    rlimits._may_raise.cache_clear()
    before = resource.getrlimit(resource.RLIMIT_CORE)
    found = rlimits._may_raise()
    without = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"]
    inside = [*without, "prlimit", "--core=0:0", "prlimit", "--core=0:1", "true"]
    assert process.run(inside, timeout_s=10, check=False).returncode != 0
    if found:
        assert rlimits.of_instance()["NOFILE"] == rlimits.WANTED["NOFILE"]
    assert resource.getrlimit(resource.RLIMIT_CORE) == before, "it was tried elsewhere"
