"""What an environment uses, by release, role and instance: of a simulated machine, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from instar.definition import Loaded, load
from instar.errors import HostError, NotFound
from instar.model.environment import Settings
from instar.model.release import EnvironmentId, EnvironmentState
from instar.model.usage import Consumption, EnvironmentConsumption, InstanceConsumption, Measured, MemberUsage, Usage
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.destroy import destroy
from instar.operations.top import Reading, compare, live, read, top
from instar.providers.base import Observed
from instar.views.encoding import json_text
from instar.views.top import top_json, top_page
from simulated.listener import Heard
from simulated.values import instance
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}, limits: {memory: 64M}}
environments:
  dev: {listen: 127.0.0.1:8080, instances: 2}
"""
WITH_ROLES = """\
name: web
image: {base: debian:bookworm}
roles:
  web: {command: [serve], port: 8080}
  worker: {command: [work], instances: 2}
environments:
  dev: {listen: 127.0.0.1:8080}
"""


def deployed(workspace: SimulatedWorkspace, tmp_path: Path, text: str = DEFINITION, word: str = "one") -> Loaded:
    (tmp_path / "instar.yaml").write_text(text)
    loaded = load(tmp_path / "instar.yaml")
    deploy(workspace, loaded, "dev", image=workspace.bake(word).digest)
    return loaded


def between(workspace: SimulatedWorkspace) -> EnvironmentConsumption:
    """Return what came of one reading and one after what ``meanwhile`` does, two seconds later."""
    before = read(workspace, DEV)
    workspace.cancellation.pause(1.0)
    return compare(dataclasses.replace(before, moment_s=read(workspace, DEV).moment_s - 2.0), read(workspace, DEV))


def figures_of(found: EnvironmentConsumption, name: str) -> InstanceConsumption:
    return next(one for release in found.releases for role in release.roles for one in role.instances if one.id == name)


def shown(found: EnvironmentConsumption, width: int | None = None, height: int | None = None) -> str:
    return "\n".join(one if isinstance(one, str) else "\n".join(one.lines()) for one in top_page(found, width, height))


def test_each_instance_s_figures_and_their_sums(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    runtime = workspace.simulation.runtime
    runtime.uses["web-dev-1-1"] = Usage(processor_us=0, memory_bytes=1 << 20, limit_bytes=64 << 20, sent_bytes=0)
    used = Usage(processor_us=1_000_000, memory_bytes=16 << 20, limit_bytes=64 << 20, processes=3, sent_bytes=4096)
    idle = Usage(processor_us=0, memory_bytes=2 << 20, limit_bytes=64 << 20, processes=1, sent_bytes=0)
    runtime.uses["web-dev-1-2"] = idle

    def meanwhile() -> None:
        runtime.uses["web-dev-1-1"] = used

    workspace.meanwhile = meanwhile
    found = between(workspace)
    one = figures_of(found, "web-dev-1-1").figures
    assert one.processors == pytest.approx(0.5, rel=0.05)
    assert one.sent_bytes_per_s == pytest.approx(2048, rel=0.05)
    (release,) = found.releases
    assert (found.active, release.number, [role.role for role in release.roles]) == (1, 1, [""])
    for together in (found.figures, release.figures, release.roles[0].figures):
        assert (together.memory_bytes, together.limit_bytes, together.processes) == (18 << 20, 128 << 20, 4)
        assert together.processors == pytest.approx(0.5, rel=0.05)
    assert "16 MiB of 64 MiB (25 %)" in shown(found) and "18 MiB of 128 MiB (14 %)" in shown(found)


def test_requests_failures_and_times_are_by_instance_and_together(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    deployed(workspace, tmp_path)
    router, runtime = workspace.simulation.router, workspace.simulation.runtime
    runtime.change("web-dev-1-1", fails_share=1.0, answers_in_ms=30)
    runtime.change("web-dev-1-2", answers_in_ms=10)

    def meanwhile() -> None:
        for name in ("web-dev-1-1", "web-dev-1-2"):
            router.route(DEV, {name: 100})
            for _ in range(4):
                router.request(DEV)

    workspace.meanwhile = meanwhile
    found = between(workspace)
    ill, well = (figures_of(found, name).figures for name in ("web-dev-1-1", "web-dev-1-2"))
    assert found.figures.requests_per_s == pytest.approx((ill.requests_per_s or 0) + (well.requests_per_s or 0))
    assert ill.failed_per_s == ill.requests_per_s and well.failed_per_s == 0
    assert (ill.mean_ms, well.mean_ms) == (30.0, 10.0)
    assert found.figures.mean_ms is not None and 10 < found.figures.mean_ms < 30
    assert found.unknown == ()


def test_each_role_has_its_figures_and_one_without_requests_has_none(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    deployed(workspace, tmp_path, WITH_ROLES)
    found = between(workspace)
    web, worker = found.releases[0].roles
    assert (web.role, len(web.instances), worker.role, len(worker.instances)) == ("web", 1, "worker", 2)
    assert web.figures.requests_per_s == 0 and worker.figures.requests_per_s is None
    assert "\n  worker " in shown(found)


def test_an_instance_that_ends_between_two_readings_has_no_figures(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    deployed(workspace, tmp_path)
    workspace.meanwhile = lambda: workspace.simulation.runtime.kill("web-dev-1-1")
    found = between(workspace)
    ended = figures_of(found, "web-dev-1-1")
    assert ended.state == "dead"
    assert (ended.figures.processors, ended.figures.memory_bytes) == (None, None)
    assert found.figures.memory_bytes == 1 << 20, "the other one's"


def test_a_router_that_began_anew_counts_whole_and_one_that_is_gone_not_at_all(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    deployed(workspace, tmp_path)
    router = workspace.simulation.router
    for _ in range(10):
        router.request(DEV)

    plan = router.observe(DEV).plan
    assert plan is not None

    def anew() -> None:
        router.die()
        router.ensure(plan)
        router.request(DEV)

    workspace.meanwhile = anew
    assert (between(workspace).figures.requests_per_s or 0) * 2 == pytest.approx(1, rel=0.05)
    workspace.meanwhile = router.die
    found = between(workspace)
    assert found.figures.requests_per_s is None
    assert "nothing that routes requests answers" in shown(found)


def test_before_a_second_reading_there_is_a_page_without_rates(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    pages = live(workspace, DEV, 1.0)
    first, second = next(pages), next(pages)
    assert first.seconds is None and first.figures.processors is None and first.figures.memory_bytes == 2 << 20
    assert second.seconds is not None and second.figures.processors is not None


def test_where_nothing_runs_it_says_so(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    workspace.ledger.save_settings(DEV, Settings())
    found = top(workspace, DEV)
    assert (found.active, found.releases, found.figures) == (None, (), Consumption())
    assert "no instance is there: instar status web/dev" in shown(found)


def test_an_environment_that_goes_ends_the_page(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    pages = live(workspace, DEV, 1.0)
    next(pages)
    destroy(workspace, workspace.ledger.get_environment(DEV), volumes=False)
    with pytest.raises(NotFound, match="it was destroyed"):
        next(pages)


def pods(moment_s: float, processors: float) -> Reading:
    """Return a reading of an engine that has two members of one group, and says what each uses now."""
    group = dataclasses.replace(instance(1), members=2)
    usage = Usage(processors=processors, memory_bytes=1 << 20, limit_bytes=2 << 20)
    return Reading(
        at=datetime(2026, 11, 30, tzinfo=UTC),
        moment_s=moment_s,
        state=EnvironmentState(id=group.environment, settings=Settings(), active=1, created_at=group.created_at),
        instances=(group,),
        observed={group.id: Observed(id=group.id, state="running", ready=2)},
        measured=Measured(members=tuple(MemberUsage(name=f"pod-{one}", group=group.id, usage=usage) for one in "ab")),
        served={},
        timed=frozenset({1}),
        uncounted="nobody counts",
    )


def test_members_of_a_group_are_told_apart_and_an_engine_s_word_needs_no_reading_before() -> None:
    for found in (compare(None, pods(1.0, 0.25)), compare(pods(1.0, 0.75), pods(2.0, 0.25))):
        (role,) = found.releases[0].roles
        assert [(one.id, one.figures.processors) for one in role.instances] == [("pod-a", 0.25), ("pod-b", 0.25)]
        assert (role.figures.processors, role.figures.memory_bytes, role.figures.limit_bytes) == (0.5, 2 << 20, 4 << 20)
        assert (found.figures.requests_per_s, found.unknown) == (None, ("nobody counts",))


def test_a_group_of_which_nothing_is_measured_is_shown_all_the_same() -> None:
    bare = dataclasses.replace(pods(2.0, 0.0), measured=Measured(unknown="nothing measures"))
    found = compare(None, bare)
    (one,) = found.releases[0].roles[0].instances
    assert (one.id, one.state, one.figures) == (bare.instances[0].id, "running", Consumption())
    assert "—: nothing measures" in shown(found) and "—: nobody counts" in shown(found)


def test_the_agent_measures_only_for_who_wants_to_know(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    heard = Heard()
    agent = Agent(workspace, heard)
    assert agent.once() and heard.usage == {}
    heard.wants_usage = True
    assert agent.once()
    assert {one.name for one in heard.usage[DEV].members} == {"web-dev-1-1", "web-dev-1-2"}


@pytest.mark.parametrize("error", [HostError("it can't be told now"), ValueError("what nobody foresaw")])
def test_what_cannot_be_measured_keeps_the_agent_from_nothing(
    workspace: SimulatedWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    deployed(workspace, tmp_path)
    heard = Heard()
    heard.wants_usage = True

    def fails(*_: object) -> Measured:
        raise error

    monkeypatch.setattr(workspace.simulation.runtime, "measure", fails)
    assert Agent(workspace, heard).once()
    assert (heard.errors, heard.usage) == ([], {DEV: Measured()})


def test_two_releases_are_told_apart_the_newest_first(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    deployed(workspace, tmp_path, word="two")
    found = top(workspace, DEV)
    assert [(one.number, len(one.roles[0].instances)) for one in found.releases] == [(2, 2), (1, 2)]
    assert found.active == 2


def test_json_has_every_figure_by_release_role_and_instance(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    deployed(workspace, tmp_path)
    told = json.loads(json_text(top_json(between(workspace))))
    assert {"environment", "service", "active", "at", "seconds", "figures", "releases", "unknown"} == told.keys()
    one = told["releases"][0]["roles"][0]["instances"][0]
    assert (one["id"], one["state"]) == ("web-dev-1-1", "running")
    assert one["figures"].keys() == {item.name for item in dataclasses.fields(Consumption)}
