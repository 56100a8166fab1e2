"""What a step's key depends on, and what it doesn't."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.bake import steps
from instar.bake.steps import plan_steps
from instar.definition import Loaded, parse
from instar.definition.parts import image_of
from instar.errors import BakeError, StepFailed
from instar.model.digest import Digest
from instar.model.lock import Lock, Package, Requested, Suite, Wheel

DEFINITION = """
name: one
image:
  base: debian:bookworm
  packages: [python3]
  python: requirements.txt
  fetch: [{url: "https://example.org/x", sha256: %s, to: /opt/x}]
  files: [{from: app, to: /srv}]
  run: [first, second]
  env: {A: a}
service: {command: [x]}
environments:
  dev: {config: {GREETING: hello}, secrets: {TOKEN: {file: app/token}}}
""" % ("a" * 64)
ALL = ["base", "packages", "python", "fetch", "user", "files", "run 1: first", "run 2: second"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main").write_text("main")
    (tmp_path / "app/token").write_text("secret")
    return tmp_path


def package(name: str, step: str) -> Package:
    return Package(name=name, version="1", architecture="amd64", size_bytes=1, sha256=Digest.of(name.encode()),
                   label="Debian", suite="bookworm", path=name, step=step)  # type: ignore[arg-type]  # fmt: skip


def lock(**changes: object) -> Lock:
    whole = Lock(
        bake_format=1, architecture="amd64", requested=Requested(base="debian:bookworm"),
        suites=(Suite(label="Debian", suite="bookworm", date=1_700_000_000),),
        packages=(package("dash", "base"), package("python3", "packages")), python="3.11",
        wheels=(Wheel(name="w", version="1", filename="w-1-py3-none-any.whl", sha256=Digest.of(b"w")),),
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def load(folder: Path, change: Callable[[str], str] = lambda text: text) -> Loaded:
    return parse(change(DEFINITION), str(folder / "instar.yaml"))


def keys(folder: Path, change: Callable[[str], str] = lambda text: text, locked: Lock | None = None) -> dict[str, str]:
    return {step.name: step.key for step in plan_steps(image_of(load(folder, change)), locked or lock())}


def first_changed(before: dict[str, str], after: dict[str, str]) -> str | None:
    return next((name for name in after if before.get(name) != after[name]), None)


def test_steps_stand_in_their_order_and_empty_ones_are_left_out(folder: Path) -> None:
    assert list(keys(folder)) == ALL
    bare = "name: x\nimage: {base: debian:bookworm}\nservice: {command: [x]}\nenvironments: {dev: {}}\n"
    found = plan_steps(
        image_of(parse(bare, str(folder / "x.yaml"))), lock(packages=(package("dash", "base"),), wheels=(), python=None)
    )
    assert [step.name for step in found] == ["base", "user"]


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("name: one", "name: two", None),
        ("GREETING: hello", "GREETING: bye", None),
        ("command: [x]", "command: [y]", None),
        ("example.org/x", "example.net/y", None),
        ("/opt/x", "/opt/y", "fetch"),
        ("to: /srv", "to: /opt", "files"),
        ("from: app, ", "from: app, mode: '0600', ", "files"),
        ("run: [first", "run: [other", "run 1: other"),
        ("second]", "other]", "run 2: other"),
        ("A: a", "A: b", "run 1: first"),
        ("  env:", "  user: www\n  env:", "user"),
        ("  env:", "  run_timeout: 1h\n  env:", None),
    ],
)
def test_a_change_in_the_definition_runs_from_where_it_matters(
    folder: Path, old: str, new: str, first: str | None
) -> None:
    assert old in DEFINITION
    assert first_changed(keys(folder), keys(folder, lambda text: text.replace(old, new))) == first


def test_a_change_in_the_lock_runs_from_where_it_matters(folder: Path) -> None:
    before = keys(folder)
    later = (Suite(label="Debian", suite="bookworm", date=1_700_000_001),)
    assert first_changed(before, keys(folder, locked=lock(suites=later))) == "base"
    assert first_changed(before, keys(folder, locked=lock(architecture="arm64"))) == "base"
    assert first_changed(before, keys(folder, locked=lock(wheels=()))) == "python"
    moved = (package("dash", "base"), package("python3.12", "packages"))
    assert first_changed(before, keys(folder, locked=lock(packages=moved))) == "packages"


def test_a_change_in_a_file_runs_from_files(folder: Path) -> None:
    before = keys(folder)
    (folder / "app/main").touch()
    assert keys(folder) == before
    (folder / "app/main").write_text("MAIN")
    assert first_changed(before, keys(folder)) == "files"
    (folder / "app/main").write_text("main")
    (folder / "app/main").chmod(0o755)
    assert first_changed(before, keys(folder)) == "files"


def test_neither_definition_nor_lock_nor_secrets_are_copied(folder: Path) -> None:
    whole = {name: name for name in ("instar.yaml", "instar.lock")}
    for name in whole:
        (folder / name).write_text("x")
    before = keys(folder, lambda text: text.replace("from: app", "from: ."))
    for name in (*whole, "app/token"):
        (folder / name).write_text("changed")
    assert keys(folder, lambda text: text.replace("from: app", "from: .")) == before


def test_names_that_are_no_utf_8_have_keys_of_their_own(folder: Path) -> None:
    (folder / "app" / "\udcff").touch()
    before = keys(folder)
    (folder / "app" / "\udcff").rename(folder / "app" / "\xff")
    assert keys(folder)["files"] != before["files"]


def test_another_version_of_a_steps_code_runs_it_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(folder)
    monkeypatch.setitem(steps.VERSIONS, "user", 99)
    assert first_changed(before, keys(folder)) == "user"


def test_another_bake_format_is_refused(folder: Path) -> None:
    with pytest.raises(BakeError, match="cannot bake format 3: this Instar bakes 1 and 2"):
        plan_steps(image_of(load(folder)), lock(bake_format=3))


def test_what_cannot_be_copied_points_at_its_line(folder: Path) -> None:
    with pytest.raises(StepFailed, match="cannot bake 'files': 'gone' is missing") as caught:
        plan_steps(image_of(load(folder, lambda text: text.replace("from: app", "from: gone"))), lock())
    assert caught.value.place == f"{folder}/instar.yaml:8:11"


def copied(folder: Path, change: Callable[[str], str] = lambda text: text) -> list[str]:
    """Return what the step of the files copies, by its place in the image."""
    (step,) = (step for step in plan_steps(image_of(load(folder, change)), lock(bake_format=2)) if step.kind == "files")
    return sorted(f"{copy.to}/{one.path}" for copy in step.copies for one in copy.found)


def test_what_the_file_beside_the_definition_names_is_left_out_of_every_entry(folder: Path) -> None:
    for path in (
        "app/keep.log",
        "app/some.log",
        "app/deep/some.log",
        "app/deep/x",
        "app/two ",
        "app/tests/y",
        "b/main",
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("x")
    (folder / ".instarignore").write_text("# none\n*.log\n!keep.log\n\n/app/tests/  \ndeep/x\n/app/deep/x\ntwo\\ \nb\n")
    entries = "[{from: app, to: /srv}, {from: b, to: /b, exclude: [nothing]}]"
    assert copied(folder, lambda text: text.replace("[{from: app, to: /srv}]", entries)) == [
        "/b/main", "/srv/deep", "/srv/keep.log", "/srv/main"
    ]  # fmt: skip
    whole = copied(folder, lambda text: text.replace("[{from: app, to: /srv}]", "[{from: ., to: /srv}]"))
    assert whole == ["/srv/app", "/srv/app/deep", "/srv/app/keep.log", "/srv/app/main"]


def test_what_is_stripped_changes_the_steps_that_install_packages_and_those_after(folder: Path) -> None:
    def stripped(text: str) -> Loaded:
        return load(folder, lambda given: given.replace("  env: {A: a}", f"  env: {{A: a}}\n  strip: {text}"))

    assert not set(plan_keys(stripped("[docs]"))) & set(plan_keys(load(folder)))
    assert plan_keys(stripped("[docs, locales]")) == plan_keys(stripped("[locales, docs]"))
    assert plan_keys(stripped("[]")) == plan_keys(load(folder))


def plan_keys(loaded: Loaded) -> list[str]:
    return [step.key for step in plan_steps(image_of(loaded), lock())]


def test_without_such_a_file_every_key_is_what_it_was(folder: Path) -> None:
    before = keys(folder)
    (folder / ".instarignore").write_text("# nothing\n")
    assert keys(folder) == before


@pytest.mark.parametrize("text", ["ok\na//b\n", "ok\n!\n"])
def test_a_pattern_that_matches_nothing_is_refused_with_its_line(folder: Path, text: str) -> None:
    (folder / ".instarignore").write_text(text)
    with pytest.raises(StepFailed, match=r"'.instarignore': line 2: "):
        copied(folder)


def test_a_link_is_no_such_file(folder: Path) -> None:
    (folder / ".instarignore").symlink_to("/etc/shadow")
    with pytest.raises(StepFailed, match=r"'.instarignore': it is a link"):
        copied(folder)
