"""The canonical form: digests that were once written down stand for ever."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from instar.host.network.guests import Guest
from instar.model.codec import ADDED, canonical, from_json, hints, to_json, written_as
from instar.model.configuration import Configuration
from instar.model.definition import Data, Definition, Health, Limits, Service, Stop, Task, Timeouts, Tmp, Volume
from instar.model.digest import Digest
from instar.model.environment import Check, Environment, RolloutRules
from instar.model.release import EnvironmentState, Instance

SMALL = Configuration(service=Service(command=("serve",), health=Health(kind="none")))
LARGE = Configuration(
    service=Service(
        command=("serve", "--port", "80"),
        workdir="/srv",
        port=80,
        health=Health(kind="http", path="/up", interval_ms=100, timeout_ms=200, deadline_ms=300),
        timeouts=Timeouts(request_ms=1, tunnel_ms=2),
        stop=Stop(signal="SIGINT", grace_ms=3, drain_ms=4),
        limits=Limits(memory_bytes=5, cpus_milli=6, pids=7),
        volumes=(Volume(name="data", path="/data", access="shared", exec=True), Volume(name="own", path="/own")),
        tmp=Tmp(size_bytes=8, exec=True),
        capabilities=("NET_BIND_SERVICE",),
        jit=True,
        smoke=(Check(kind="http", path="/smoke", status=204, contains="ok", timeout_ms=9),),
        before=(Task(command=("migrate",), timeout_ms=10),),
        after=(Task(command=("warm", "up")),),
        data=Data(version=2, reads=(1, 2)),
    ),
    config={"GREETING": "grüß Gott", "A": ""},
    secrets={"TOKEN": Digest.of(b"secret")},
)


@pytest.mark.parametrize(
    ("configuration", "golden"),
    [
        (SMALL, "sha256:dfd85ff9adb0c23da2267f67f39a37eef0624a1ac728a4cf43231feb6f96b24b"),
        (LARGE, "sha256:ea4a05352b810eb91a0b1212324c686e172fcb25b9c9c6037b5e31a80670583b"),
    ],
)
def test_digests_of_configurations_stand(configuration: Configuration, golden: str) -> None:
    """They were made by the first version: where one differs, every environment gets a release that nobody asked for.
    A field that joins a model since is declared with ADDED."""
    assert configuration.digest == golden


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    old: int = 1
    new: int = field(default=2, metadata=ADDED)
    table: Mapping[str, str] = field(default_factory=dict, metadata=ADDED)


def test_what_was_added_is_left_out_while_it_has_its_default() -> None:
    assert canonical(Grown(old=3)) == b'{"old":3}'
    assert canonical(Grown(new=3, table={"a": "b"})) == b'{"new":3,"old":1,"table":{"a":"b"}}'


@pytest.mark.parametrize("value", [Grown(), Grown(new=3), Grown(table={"a": "b"}), Grown(old=4)])
def test_what_was_left_out_is_read_as_its_default(value: Grown) -> None:
    assert from_json(Grown, to_json(value)) == value


def test_a_field_is_read_and_written_under_the_name_that_older_versions_have() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Renamed:
        after: str = field(metadata=written_as("before"))

    assert to_json(Renamed(after="a")) == {"before": "a"} and from_json(Renamed, {"before": "a"}) == Renamed(after="a")
    written = {"link": "l", "mtu": 1500, "mac": "02", "address": "10.0.0.2", "servers": [], "place": "web/dev"}
    assert from_json(Guest, written).environment == "web/dev", "a guest of an instance that an older version made"


@pytest.mark.parametrize("cls", [Definition, Environment, RolloutRules, Service, EnvironmentState, Instance])
def test_types_are_those_that_typing_finds(cls: type) -> None:
    assert list(hints(cls).items()) == list(typing.get_type_hints(cls).items())


@dataclass(frozen=True, kw_only=True)
class _Either:
    names: tuple[str, ...] | Mapping[str, str]
    number: int | str | None = None


def test_of_several_types_the_first_that_fits_is_built() -> None:
    assert from_json(_Either, {"names": ["a"], "number": 1}) == _Either(names=("a",), number=1)
    assert from_json(_Either, {"names": {"a": "b"}, "number": "1"}) == _Either(names={"a": "b"}, number="1")
    with pytest.raises(ValueError, match="not a _Either"):
        from_json(_Either, {"names": {"a": 1}})
    with pytest.raises(ValueError, match="not a _Either"):
        from_json(_Either, {"names": [], "number": 1.5})
