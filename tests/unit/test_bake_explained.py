"""Why a step runs, against what the last bake of the service here was made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from test_bake_steps import lock, package

from instar.bake.explained import explain, remember
from instar.bake.steps import Step, plan_steps
from instar.definition import parse
from instar.definition.parts import image_of
from instar.model.lock import Lock

DEFINITION = """
name: one
image:
  base: debian:bookworm
  packages: [python3]
  files: [{from: app, to: /srv}]
  run: [first, second]
  env: {A: a}
service: {command: [x]}
"""
STEPS = ("base", "packages", "user", "files", "run 1", "run 2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    for name in ("main", "page", "style", "other", "last"):
        (tmp_path / "app" / name).write_text(name)
    (tmp_path / "steps").mkdir()
    remember(tmp_path / "steps", "one", planned(tmp_path), lock(wheels=(), python=None))
    return tmp_path


def planned(folder: Path, text: str = DEFINITION, locked: Lock | None = None) -> tuple[Step, ...]:
    return plan_steps(image_of(parse(text, str(folder / "instar.yaml"))), locked or lock(wheels=(), python=None))


def why(folder: Path, text: str = DEFINITION, locked: Lock | None = None, known: int = 0) -> dict[str, str]:
    """Return why each step but the first ``known`` runs."""
    steps = planned(folder, text, locked)
    told = explain(
        folder / "steps", "one", [(step, number < known) for number, step in enumerate(steps)],
        locked or lock(wheels=(), python=None),
    )  # fmt: skip
    return {step.name.partition(":")[0]: sentence for step, sentence in zip(steps, told, strict=True) if sentence}


def test_a_file_that_changed_came_or_went_is_named(folder: Path) -> None:
    (folder / "app/main").write_text("other")
    (folder / "app/new").write_text("new")
    (folder / "app/page").unlink()
    assert why(folder, known=3) == {
        "files": "changed: /srv/main; new: /srv/new; gone: /srv/page",
        "run 1": "'files' before it runs",
        "run 2": "'run 1: first' before it runs",
    }


def test_a_step_that_is_known_and_another_than_then_is_the_reason_for_those_after_it(folder: Path) -> None:
    (folder / "app/main").write_text("other")
    assert why(folder, known=4) == {
        "run 1": "'files' before it is another",
        "run 2": "'run 1: first' before it runs",
    }


def test_of_many_three_are_named(folder: Path) -> None:
    for path in (folder / "app").iterdir():
        path.write_text("changed")
    assert why(folder, known=3)["files"] == "changed: /srv/last, /srv/main, /srv/other and 2 more"


@pytest.mark.parametrize(
    ("change", "step", "sentence"),
    [
        (lambda text: text.replace("to: /srv", 'to: /srv, mode: "0640"'), "files", "changed: how /srv is copied"),
        (lambda text: text.replace("[first,", "[another,"), "run 1", "changed: its line"),
        (lambda text: text.replace("{A: a}", "{A: b, B: c}"), "run 1", "changed: the variable A; new: the variable B"),
        (lambda text: text.replace("second]", "second, third]"), "run 3", "the last bake had no such step"),
        (lambda text: text + "", "run 2", "its layer is no longer in the store"),
    ],
)
def test_what_changed_in_the_definition_is_said(
    folder: Path, change: Callable[[str], str], step: str, sentence: str
) -> None:
    assert why(folder, change(DEFINITION))[step] == sentence


def test_a_package_is_shown_with_its_versions(folder: Path) -> None:
    newer = dataclasses.replace(package("python3", "packages"), version="2")
    more = lock(wheels=(), python=None, packages=(package("dash", "base"), newer, package("zip", "packages")))
    assert why(folder, locked=more, known=1)["packages"] == "changed: python3 1 → 2; new: zip"


def test_what_changed_for_the_whole_lock_is_said_where_nothing_else_did(folder: Path) -> None:
    other = lock(wheels=(), python=None, architecture="arm64")
    assert why(folder, locked=other)["base"] == "the lock is of arm64, and was of amd64"
    assert why(folder, locked=other)["packages"] == "'base' before it runs"


def test_without_a_bake_before_that_is_said(folder: Path) -> None:
    for path in (folder / "steps/last").iterdir():
        path.write_text("{")
    assert set(why(folder).values()) == {"no bake of 'one' before is known here"}


def test_only_the_last_bake_is_kept(folder: Path) -> None:
    (folder / "app/main").write_text("other")
    remember(folder / "steps", "one", planned(folder), lock(wheels=(), python=None))
    assert len(list((folder / "steps/last").iterdir())) == 1
    assert why(folder, known=3)["files"] == "its layer is no longer in the store"


def test_names_need_not_be_text(folder: Path) -> None:
    (folder / "app" / "bad\udcff").write_text("x")
    assert why(folder, known=3)["files"] == "new: /srv/bad\\udcff"
    remember(folder / "steps", "one", planned(folder), lock(wheels=(), python=None))
