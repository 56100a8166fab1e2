"""What is said of doors that lead to no port of a release, and of a first role that would be another."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import ENV, HTTP, WORKER

from instar.definition.changes import configuration_changes, settings_changes
from instar.errors import Refused
from instar.model.configuration import Configuration
from instar.model.definition import Service
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.plan import DeployPlan, PlannedRole
from instar.operations.doors import (
    door_warnings,
    planned_roles,
    refuse_doors_without_ports,
    refuse_first_not_defined,
    refuse_other_first,
    shut_port_warnings,
)
from instar.views.plans import plan_page

API = dataclasses.replace(HTTP, port=9000)
SETTINGS = Settings(listen=("127.0.0.1:80",), doors={"api": Door(listen=("127.0.0.1:90",))})


def made(first: str, **roles: Service) -> Configuration:
    return Configuration(service=HTTP, role=first, roles=roles)


def test_a_door_of_a_role_that_a_release_lacks_is_refused_or_told() -> None:
    refuse_doors_without_ports(ENV, SETTINGS, made("web", api=API))
    for lacking in (made("web"), made("web", api=WORKER)):
        with pytest.raises(Refused, match=r"it has no role 'api', to which 127\.0\.0\.1:90 leads"):
            refuse_doors_without_ports(ENV, SETTINGS, lacking)
    (told,) = door_warnings(SETTINGS, made("web"), 3)
    assert told.startswith("release 3 has no role 'api': nobody answers at 127.0.0.1:90")
    (told,) = door_warnings(Settings(listen=("127.0.0.1:80",)), made("web", api=API), 2)
    assert told == (
        "release 2 has a port of role 'api' to which no door leads: nobody reaches it there; to open one, deploy a "
        "definition with 'listen' for 'api'"
    )


def test_a_role_that_is_found_by_its_name_alone_is_missed_too() -> None:
    inside = Settings(listen=("127.0.0.1:80",), doors={"api": Door(internal=True)})
    with pytest.raises(Refused, match="it has no role 'api', to which its name inside leads"):
        refuse_doors_without_ports(ENV, inside, made("web"))


@pytest.mark.parametrize("key", ["api", "api.admin"])
def test_a_release_whose_first_role_is_not_the_definitions_is_told_so(key: str) -> None:
    settings = Settings(listen=("127.0.0.1:80",), doors={key: Door(listen=("127.0.0.1:90",))})
    promoted = made("api", web=API)  # it has that role, and its doors are the definition's, where 'web' is the first
    with pytest.raises(
        Refused, match=r"its first role is 'api', and the definition has another.*127\.0\.0\.1:90"
    ) as told:
        refuse_doors_without_ports(ENV, settings, promoted)
    assert "no role" not in str(told.value) and "write 'api' before the others" in (told.value.hint or "")
    refuse_doors_without_ports(ENV, Settings(listen=("127.0.0.1:80",)), promoted)
    said = " ".join(door_warnings(settings, promoted, 2))
    assert "besides its first, which 'api' is: nobody answers at 127.0.0.1:90" in said


@pytest.mark.parametrize(
    ("defined", "wanted"),
    [
        (made("web", api=API), made("api", web=API)),
        (made("web", api=API), made("api")),
        (made("web"), made("front", web=API)),
    ],
)
def test_what_is_promoted_gets_no_requests_for_another_role(defined: Configuration, wanted: Configuration) -> None:
    with pytest.raises(Refused, match=rf"requests for 'web' would get to '{wanted.role}'") as refused:
        refuse_first_not_defined(ENV, defined, wanted)
    assert f"write '{wanted.role}' before the others" in (refused.value.hint or "")


@pytest.mark.parametrize("wanted", [made("web"), made("web", api=API), made("front", api=WORKER)])
def test_a_first_role_may_be_called_otherwise_in_what_is_promoted(wanted: Configuration) -> None:
    refuse_first_not_defined(ENV, made("web", api=API), wanted)


def test_a_port_of_what_is_promoted_to_which_no_door_leads_is_told() -> None:
    (told,) = shut_port_warnings(Settings(listen=("127.0.0.1:80",)), made("web", api=API, work=WORKER))
    assert told == (
        "it has a port of role 'api' to which no door leads: nobody reaches it there; to open one, add 'listen' for "
        "'api'"
    )
    assert list(shut_port_warnings(SETTINGS, made("web", api=API))) == []


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (made("web", api=API), made("api", web=API)),
        (made("web", api=API), made("api")),
        (made("web"), made("front", web=API)),
    ],
)
def test_no_role_changes_between_a_door_of_its_own_and_the_first(before: Configuration, wanted: Configuration) -> None:
    with pytest.raises(Refused, match="the first role with a port is 'web' now, and would be") as refused:
        refuse_other_first(ENV, before, wanted)
    assert "write 'web' before the others" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (None, made("web", api=API)),
        (made("web"), made("web", api=API)),
        (made("web", api=API), made("front", api=API)),
        (made("web", worker=WORKER), made("worker", web=WORKER)),
        (Configuration(service=HTTP), made("web", api=API)),
    ],
)
def test_a_first_role_may_be_called_otherwise(before: Configuration | None, wanted: Configuration) -> None:
    refuse_other_first(ENV, before, wanted)


def test_a_role_that_goes_or_comes_is_a_line_of_a_plan_with_its_door() -> None:
    one, two = made("web"), made("web", api=API)
    first = Settings(listen=("127.0.0.1:80",))
    assert planned_roles(two, two, SETTINGS, SETTINGS) == ()
    assert planned_roles(two, one, SETTINGS, SETTINGS) == (PlannedRole(role="api", comes=False),), "its door stays"

    def page(active: Configuration, wanted: Configuration, before: Settings, after: Settings) -> str:
        changes = (
            *configuration_changes(active, wanted, "local"),
            *settings_changes(before, after, wanted.role),
        )
        roles = planned_roles(active, wanted, before, after)
        assert len(changes) > 5
        shown = DeployPlan(environment=ENV, active=1, steps=(), image=None, release=True, changes=changes, roles=roles)
        return "\n".join(map(str, plan_page(shown)))

    gone = page(two, one, SETTINGS, first)
    assert gone.endswith("  role 'api' goes, and its door 127.0.0.1:90 closes") and "roles.api" not in gone
    new = page(one, two, first, SETTINGS)
    assert new.endswith("  role 'api' comes, and its door 127.0.0.1:90 opens") and "roles.api" not in new
    worker = page(one, made("web", jobs=WORKER), first, first)
    assert worker.endswith("  role 'jobs' comes")
