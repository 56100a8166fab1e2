"""Where names are reached, and who else takes requests for them, as a status says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import ComponentMissing, InstarError, ProviderError, ProviderUnavailable, RouterError
from instar.model.definition import Health, Service
from instar.model.digest import Digest
from instar.model.doors import Door, Port
from instar.model.drift import Finding, TakenNames
from instar.model.environment import Drift, Ignore, Settings
from instar.model.host_names import HostNames
from instar.model.machine import EdgeSettings
from instar.model.release import EnvironmentId
from instar.model.status import EnvironmentStatus
from instar.operations.status import doors_reached, overview, reached_at, status
from instar.providers.machine import MachineInspection
from instar.views.status import overview_page, status_json, status_page
from simulated.values import configuration
from simulated.workspace import SimulatedWorkspace

NAMES = HostNames(http=("shop.test/api",), https=("shop.example",), redirect={"www.shop.example": "shop.example"})
API = Service(command=("serve",), port=81, health=Health(kind="none"))


def test_names_are_reached_at_the_usual_ports() -> None:
    assert reached_at(NAMES, EdgeSettings()) == (
        "http://shop.test/api",
        "https://shop.example",
        "https://www.shop.example",
    )


def test_a_port_of_the_machine_s_edge_is_said() -> None:
    edge = EdgeSettings(http=("127.0.0.1:8080",), https=("[::1]:8443",))
    assert reached_at(NAMES, edge) == (
        "http://shop.test:8080/api",
        "https://shop.example:8443",
        "https://www.shop.example:8443",
    )


def test_each_door_is_told_of_the_first_one_too() -> None:
    doors = {".admin": Door(listen=("127.0.0.1:9000",)), ".public": Door(sites=("shop.example", "www.shop.example"))}
    settings = Settings(listen=("127.0.0.1:8080",), names=NAMES, doors=doors)
    made = configuration(ports={"admin": Port(port=9000), "public": Port(port=9001)})
    assert doors_reached(settings, made, NAMES, EdgeSettings(), {}) == {
        "service": ("127.0.0.1:8080", "http://shop.test/api"),
        "service.admin": ("127.0.0.1:9000",),
        "service.public": ("https://shop.example", "https://www.shop.example"),
    }
    alone = Settings(internal=True)
    assert doors_reached(alone, configuration(), HostNames(), EdgeSettings(), {"": "shop.internal"}) == {
        "service": ("shop.internal",)
    }
    role = Settings(listen=("127.0.0.1:80",), doors={"api": Door(internal=True)})
    inside = {"api": "shop-prod--api.shop.svc"}
    found = doors_reached(role, configuration(roles={"api": API}), HostNames(), EdgeSettings(), inside)
    assert found["api"] == ("shop-prod--api.shop.svc",)
    assert doors_reached(Settings(), configuration(), HostNames(), EdgeSettings(), {}) == {}, "a worker has none"


DEV = EnvironmentId(service="web", name="dev")


def test_a_door_that_the_active_release_has_nobody_behind_is_said_to_be_shut(tmp_path: Path) -> None:
    workspace = SimulatedWorkspace(tmp_path)
    settings = Settings(listen=("127.0.0.1:8080",), doors={"api": Door(listen=("127.0.0.1:90",))})
    with workspace.ledger.transaction():
        workspace.ledger.save_settings(DEV, settings)
        for roles in ({}, {"api": API}):
            made = workspace.ledger.add_release(DEV, Digest.of(b"an image"), configuration(roles=roles), None)
        workspace.ledger.set_active(DEV, made.number)
    both = status(workspace, workspace.ledger.get_environment(DEV))
    assert both.doors == {"web": ("127.0.0.1:8080",), "api": ("127.0.0.1:90",)} and both.shut == ()
    workspace.ledger.set_active(DEV, 1)
    found = status(workspace, workspace.ledger.get_environment(DEV))
    page = "\n".join(one for one in status_page(found, workspace.ledger.now()) if isinstance(one, str))
    assert found.doors == {"service": ("127.0.0.1:8080",)} and "api is reached" not in page
    assert "release 1 has no role 'api': nobody answers at 127.0.0.1:90 as long as it is the active one" in page
    assert status_json(found)["shut"] == found.shut


@pytest.mark.parametrize("kind", [RouterError, ComponentMissing])
def test_what_is_in_the_router_s_way_is_said(
    kind: type[InstarError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = SimulatedWorkspace(tmp_path)
    with workspace.ledger.transaction():
        workspace.ledger.save_settings(DEV, Settings(listen=("127.0.0.1:8080",)))
        made = workspace.ledger.add_release(DEV, Digest.of(b"an image"), configuration(), None)
        workspace.ledger.set_active(DEV, made.number)
    state = workspace.ledger.get_environment(DEV)

    def page(found: EnvironmentStatus) -> str:
        return "\n".join(map(str, status_page(found, workspace.ledger.now())))

    assert "web/dev: its router does not run as it should\n" in page(status(workspace, state))

    def check(*_: object) -> None:
        raise kind("cannot listen on '127.0.0.1:8080': process 7 (nginx) has the port", hint="end it")

    monkeypatch.setattr(workspace.simulation.router, "check", check)
    found = status(workspace, state)
    why = "cannot listen on '127.0.0.1:8080': process 7 (nginx) has the port; end it"
    assert f"its router does not run as it should: {why}\n" in page(found)
    assert "once nothing is in the router's way, repair it with: instar agent --once" in page(found)
    assert status_json(found)["in_its_way"] == why


def seen(folder: Path, *, path: str = "HTTPRoute ours/*") -> tuple[EnvironmentStatus, str]:
    """Return how an environment is that expects what is at ``path``, and what its page says."""
    workspace = SimulatedWorkspace(folder)
    rule = Ignore(kind="name", path=path, reason="a path of theirs", until="2999-12-31")
    with workspace.ledger.transaction():
        workspace.ledger.save_settings(DEV, Settings(listen=("127.0.0.1:8080",), drift=Drift(ignore=(rule,))))
        made = workspace.ledger.add_release(DEV, Digest.of(b"an image"), configuration(), None)
        workspace.ledger.set_active(DEV, made.number)
    found = status(workspace, workspace.ledger.get_environment(DEV))
    return found, "\n".join(one for one in status_page(found, workspace.ledger.now()) if isinstance(one, str))


def test_who_else_takes_requests_is_told_unless_a_rule_expects_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Finding(instance=None, kind="name", path="HTTPRoute theirs/a", expected="its own", observed="it takes them")
    monkeypatch.setattr(MachineInspection, "taken_names", lambda self, environment: TakenNames(found=(other,)))
    found, told = seen(tmp_path / "a")
    assert (found.taken, found.taken_unknown) == ((other,), None) and "HTTPRoute theirs/a: its own" in told
    found, told = seen(tmp_path / "b", path="HTTPRoute theirs/*")
    assert found.taken == () and "HTTPRoute" not in told


def test_that_not_all_who_take_requests_are_known_is_said_of_one_environment_and_once_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = TakenNames(unseen="these credentials may not list HTTPRoutes of other namespaces than 'shop'")
    monkeypatch.setattr(MachineInspection, "taken_names", lambda self, environment: unseen)
    found, told = seen(tmp_path)
    assert status_json(found)["taken_unknown"] == unseen.unseen and f"are known: {unseen.unseen}" in told
    workspace = SimulatedWorkspace(tmp_path)
    told = [
        one for one in overview_page(overview(workspace, None).here, workspace.ledger.now()) if isinstance(one, str)
    ]
    assert told.count(f"\n{DEV}: not all who take requests for their names are known: {unseen.unseen}") == 1
    assert not any("for its names" in one for one in told)


def test_an_engine_that_does_not_say_it_now_keeps_nobody_from_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: MachineInspection, environment: EnvironmentId) -> TakenNames:
        raise ProviderUnavailable("cannot list httproutes: the cluster says 429")

    def refused(self: MachineInspection, environment: EnvironmentId) -> TakenNames:
        raise ProviderError("cannot read what the cluster answers")

    monkeypatch.setattr(MachineInspection, "taken_names", away)
    found, told = seen(tmp_path / "a")
    assert found.active == 1 and status_json(found)["taken_unknown"] == "cannot list httproutes: the cluster says 429"
    assert "not all who take requests for its names are known: cannot list httproutes" in told
    monkeypatch.setattr(MachineInspection, "taken_names", refused)
    with pytest.raises(ProviderError):
        seen(tmp_path / "b")
