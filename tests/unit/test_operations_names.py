"""Whose names are, and which clients a name takes that several have."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import Refused
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId
from instar.operations.certificates import wanted_here
from instar.operations.names import require_names
from simulated.workspace import SimulatedWorkspace

SHOP, BLOG = (EnvironmentId(service=name, name="production") for name in ("shop", "blog"))


def settings(*https: str, client_ca: str | None = None) -> Settings:
    return Settings(names=HostNames(https=https, client_ca=client_ca))


@pytest.fixture
def workspace(tmp_path: Path) -> SimulatedWorkspace:
    return SimulatedWorkspace(tmp_path)


def there(workspace: SimulatedWorkspace, environment: EnvironmentId, has: Settings, *, expects: bool = False) -> None:
    workspace.ledger.save_settings(environment, has)
    workspace.ledger.names.claim(environment, has.names.sites, of_others="expect" if expects else "refuse")


def test_a_name_that_another_has_is_refused_unless_it_is_taken(workspace: SimulatedWorkspace) -> None:
    there(workspace, SHOP, settings("a.test", client_ca="X"))
    with pytest.raises(Refused, match="'shop/production' has that name"):
        require_names(workspace, BLOG, settings("a.test"), take=False)
    require_names(workspace, BLOG, settings("a.test"), take=True)
    require_names(workspace, SHOP, settings("a.test"), take=False)


@pytest.mark.parametrize(
    ("has", "asked", "fits"),
    [
        (settings("a.test", client_ca="X"), settings("a.test/x", client_ca="Y"), False),
        (settings("a.test"), settings("a.test/x", client_ca="Y"), False),
        (settings("a.test/x", client_ca="X"), settings("a.test"), False),
        (settings("a.test/x", client_ca="X"), settings("a.test/y"), False),
        (settings("a.test", client_ca="X"), settings("a.test/x"), True),
        (settings("a.test/x"), settings("a.test", client_ca="X"), True),
        (settings("a.test", client_ca="X"), settings("a.test/x", client_ca="X"), True),
        (settings("a.test", client_ca="X"), settings("b.test/x", client_ca="Y"), True),
        (settings("*.a.test", client_ca="X"), settings("x.a.test"), True),
    ],
)
@pytest.mark.parametrize("take", [True, False])
def test_one_name_takes_the_clients_of_one_authority(
    workspace: SimulatedWorkspace, has: Settings, asked: Settings, fits: bool, take: bool
) -> None:
    there(workspace, SHOP, has)
    if fits:
        require_names(workspace, BLOG, asked, take=take)
    else:
        with pytest.raises(Refused, match="another part of that name"):
            require_names(workspace, BLOG, asked, take=take)


def test_who_takes_a_name_says_what_it_is_shown_with(workspace: SimulatedWorkspace) -> None:
    there(workspace, SHOP, settings("a.test", "shop.test"))
    there(workspace, BLOG, settings("a.test"), expects=True)
    assert {(one.environment, one.names) for one in wanted_here(workspace)} == {
        (BLOG, ("a.test",)),
        (SHOP, ("shop.test",)),
    }
    workspace.ledger.names.take_expected(BLOG)
    assert {one.environment for one in wanted_here(workspace) if "a.test" in one.names} == {BLOG}
