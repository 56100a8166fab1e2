"""An environment is its project's: another definition of the same name does not take it over without a word."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lock_values import LOCK

from instar.cli.options import find_own_environment
from instar.definition import Loaded, load
from instar.errors import Refused
from instar.ledger import Ledger
from instar.lock.file import read, write
from instar.model.environment import Settings
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.operations.project import project_of, require_own, require_own_beside, require_own_source

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = "name: web\nimage: {base: 'debian:bookworm'}\nservice: {command: [sleep, inf]}\n"
OWN, OTHER = "0" * 32, "f" * 32


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    told: list[Progress] = []
    with Ledger(tmp_path / "home" / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        yield SimpleNamespace(ledger=ledger, report=told.append, told=told)


def locked(loaded: Loaded, project: str | None) -> Path:
    path = loaded.folder / "instar.lock"
    write(path, dataclasses.replace(LOCK, id=project))
    return path


def test_a_project_comes_to_its_own_and_to_what_is_nobodys(workspace: Any, loaded: Loaded) -> None:
    require_own(workspace, DEV, loaded)
    assert project_of(workspace, DEV, loaded) is None, "there is no lock yet"
    locked(loaded, OWN)
    require_own(workspace, DEV, loaded)
    require_own(workspace, dataclasses.replace(DEV, name="new"), loaded)
    workspace.ledger.set_project(DEV, OWN)
    require_own(workspace, DEV, loaded)
    assert project_of(workspace, DEV, loaded) == OWN


def test_another_project_of_the_name_is_refused_and_told_what_to_do(workspace: Any, loaded: Loaded) -> None:
    locked(loaded, OTHER)
    workspace.ledger.set_project(DEV, OWN)
    with pytest.raises(Refused, match="cannot work on 'web/dev': another project of that name has it") as caught:
        require_own(workspace, DEV, loaded)
    assert "--adopt-name" in (caught.value.hint or "")
    require_own(workspace, DEV, loaded, adopt=True)
    with pytest.raises(Refused) as caught:
        require_own_source(workspace, DEV, loaded)
    assert "instar deploy dev --adopt-name" in (caught.value.hint or "")


def test_without_a_lock_nobody_knows_whose_a_definition_is(workspace: Any, loaded: Loaded) -> None:
    workspace.ledger.set_project(DEV, OWN)
    told = "cannot work on 'web/dev': there is no 'instar.lock' here, and its id tells whether this is the project that"
    with pytest.raises(Refused, match=told) as caught:
        require_own(workspace, DEV, loaded)
    assert (caught.value.hint or "").startswith("bring it back: git checkout instar.lock, or from where it was; ")
    assert (caught.value.hint or "").endswith("or take the name over: add --adopt-name")
    with pytest.raises(Refused, match=told) as caught:
        require_own_source(workspace, DEV, loaded)
    assert (caught.value.hint or "").endswith("or take it over: instar deploy dev --adopt-name")
    require_own(workspace, DEV, loaded, adopt=True)


def test_a_lock_from_before_gets_its_id_once(workspace: Any, loaded: Loaded) -> None:
    path = locked(loaded, None)
    given = project_of(workspace, DEV, loaded)
    assert given is not None
    assert read(path) == dataclasses.replace(LOCK, id=given), "and nothing else of it is other"
    workspace.ledger.set_project(DEV, given)
    assert project_of(workspace, DEV, loaded) == given
    locked(loaded, None)  # another checkout of the same
    require_own(workspace, DEV, loaded)
    assert project_of(workspace, DEV, loaded) == given
    assert read(path).id == given
    assert workspace.told == []


def test_a_lock_that_cannot_be_written_keeps_nobody_from_a_deploy(
    workspace: Any, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = locked(loaded, None)

    def refuse(*words: Any, **named: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    assert project_of(workspace, DEV, loaded) is not None
    assert read(path).id is None
    (note,) = workspace.told
    assert "Read-only file system" in note.text


def test_a_command_by_the_name_alone_is_held_to_the_project_too(
    workspace: Any, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(loaded.folder)
    path, file = locked(loaded, OTHER), Path("instar.yaml")
    assert find_own_environment(workspace, "dev", file).id == DEV
    workspace.ledger.set_project(DEV, OWN)
    with pytest.raises(Refused, match="another project") as caught:
        find_own_environment(workspace, "dev", file)
    assert "write web/dev" in (caught.value.hint or "")
    assert find_own_environment(workspace, "web/dev", file).id == DEV
    path.write_text("{")
    require_own_beside(workspace.ledger.get_environment(DEV), file)
    path.unlink()
    assert find_own_environment(workspace, "dev", file).id == DEV
