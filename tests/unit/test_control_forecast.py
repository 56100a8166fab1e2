"""What is told of a rollout before it begins."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import DATABASE, HTTP, WORKER, release

from instar.control import forecast as forecasts
from instar.model.configuration import Configuration
from instar.model.definition import Service, Task, Timeouts, Volume
from instar.model.environment import Analysis, RolloutRules, RolloutStep, Settings
from instar.model.release import Release
from instar.providers.traits import Traits

OLD = release(1, ran_well=True)


def forecast(settings: Settings, active: Release | None, service: Service) -> tuple[str, ...]:
    return forecasts.forecast(settings, active, Configuration(service=service))


def canary(analysis: Analysis | None) -> Settings:
    return Settings(rollout=RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=10),), analysis=analysis))


def test_a_canary_that_needs_requests_says_so_and_how_to_do_without() -> None:
    (told,) = forecast(canary(Analysis(min_requests=50, wait_ms=600_000)), OLD, HTTP)
    assert "until the new release has answered 50 requests" in told
    assert "given up 600 s after the step's pause" in told
    assert "quiet: pass" in told


def test_one_to_which_no_traffic_is_fine_says_what_it_waits_for_all_the_same() -> None:
    (told,) = forecast(canary(Analysis(min_requests=50, quiet="pass")), OLD, HTTP)
    assert "then those that came decide" in told


@pytest.mark.parametrize(
    ("settings", "service"),
    [
        (canary(None), HTTP),
        (canary(Analysis(min_requests=0)), HTTP),
        (canary(Analysis()), WORKER),
        (Settings(), HTTP),
    ],
    ids=["not judged", "none are needed", "a worker", "blue-green"],
)
def test_where_nothing_is_waited_for_nothing_is_said(settings: Settings, service: Service) -> None:
    assert forecast(settings, OLD, service) == ()


def test_who_moves_all_traffic_at_once_waits_for_no_requests() -> None:
    assert forecasts.forecast(canary(Analysis()), OLD, Configuration(service=HTTP), steps=False) == ()


def test_a_first_deploy_waits_for_nobody() -> None:
    assert forecast(canary(Analysis()), None, HTTP) == ()


def test_an_exclusive_volume_means_a_gap_and_what_runs_in_it_is_said() -> None:
    tasks = (Task(command=("look",), volumes=()), Task(command=("migrate",)), Task(command=("check",)))
    gap, inside = forecast(Settings(), OLD, dataclasses.replace(DATABASE, before=tasks))
    assert gap.startswith("there will be a gap: volume 'data' is exclusive, so release 1 stops first; requests are ans")
    assert inside.startswith("tasks 'before 2', 'before 3' will run in the gap")
    made = Configuration(service=dataclasses.replace(DATABASE, before=tasks))
    assert forecasts.forecast(Settings(), OLD, made, tasks=False) == (gap,)
    waiting = dataclasses.replace(DATABASE, timeouts=Timeouts(wait_ms=5_000))
    (gap,) = forecast(Settings(), OLD, waiting)
    assert gap.endswith("requests wait for up to 5 s")
    (gap,) = forecast(Settings(), release(1, DATABASE), HTTP)
    assert "'data' is exclusive" in gap, "the old release's counts too"


def sized(size_bytes: int | None) -> Configuration:
    volume = Volume(name="data", path="/data", size_bytes=size_bytes)
    return Configuration(service=dataclasses.replace(HTTP, volumes=(volume,)))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, sized(None), "volume 'data' says no 'size': it is made with 1.0 GiB"),
        (Configuration(service=HTTP), sized(None), "volume 'data' says no 'size'"),
        (None, sized(2 << 30), ""),
        (sized(None), sized(None), ""),
        (sized(None), sized(2 << 30), "volume 'data' does not grow by its 'size' there"),
        (sized(2 << 30), sized(1 << 30), ""),
    ],
)
def test_a_volume_that_is_not_as_large_as_one_may_think_is_told(
    before: Configuration | None, after: Configuration, said: str
) -> None:
    active = None if before is None else dataclasses.replace(OLD, configuration=before)
    found = list(forecasts.sizes(Traits(volume_bytes=1 << 30), active, after))
    assert len(found) == bool(said) and all(text.startswith(said) for text in found), found
    assert not list(forecasts.sizes(Traits(), active, after)), "of this machine's it is as it says"
