"""What is said of an environment that is not found: the definition beside goes before one that only resembles it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from instar.cli.main import instar
from instar.errors import EnvironmentNotFound
from instar.ledger import Ledger
from instar.ledger.environments import no_environment
from instar.model.environment import Settings
from instar.model.release import EnvironmentId

DEFINITION = (
    "name: ptest\nimage: {base: 'debian:bookworm'}\nservice: {command: [sleep, inf]}\nenvironments: {dev: {}}\n"
)
HAS_IT = "instar.yaml has it, and it is not deployed: instar deploy dev"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with a definition, of which nothing is deployed; another service's `dev` is."""
    home = tmp_path / "home"
    monkeypatch.setenv("INSTAR_HOME", str(home))
    with Ledger(home / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(EnvironmentId(service="client", name="dev"), Settings())
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hint_of(*words: str) -> str:
    error = CliRunner().invoke(instar, list(words)).exception
    assert isinstance(error, EnvironmentNotFound), error
    assert error.hint is not None
    return error.hint


COMMANDS = ("status", "explain", "history", "logs", "top", "schedule", "destroy --yes", "taint --why so", "drift")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_definition_has_is_to_be_deployed(command: str, folder: Path) -> None:
    verb, *options = command.split(" ")
    instance = ["ptest-dev-1-1"] if verb == "taint" else []
    assert hint_of(verb, "dev", *instance, *options) == HAS_IT
    assert hint_of(verb, "ptest/dev", *instance, *options) == HAS_IT
    (folder / "instar.yaml").rename(folder / "other one.yaml")
    there = hint_of(verb, "dev", *instance, *options, "--file", "other one.yaml")
    assert there == "other one.yaml has it, and it is not deployed: instar deploy dev -f 'other one.yaml'"


@pytest.mark.parametrize("command", ["destroy --yes", "taint ptest-dev-1-1 --why so", "status"])
@pytest.mark.parametrize("text", [DEFINITION.replace("{dev: {}}", "{dev: {nope: 1}}"), DEFINITION.replace("dev", "de")])
def test_beside_a_definition_no_other_services_environment_is_meant(command: str, text: str, folder: Path) -> None:
    (folder / "instar.yaml").write_text(text)
    verb, *options = command.split(" ")
    hint = hint_of(verb, "dev", *options)
    assert "did you mean" not in hint and "there are: client/dev" in hint


def test_what_was_written_with_a_service_resembles_that_of_a_service_that_does() -> None:
    known = ["client/dev", "shop/dev", "shop/staging"]
    for word, near in (
        ("shpo/dev", "shop/dev"),
        ("shop/stagin", "shop/staging"),
        ("stagin", "shop/staging"),
        ("shop-dev", "shop/dev"),
    ):
        assert f"did you mean {near}?" in (no_environment(word, known).hint or ""), word
    assert "did you mean" not in (no_environment("ptest/dev", known).hint or "")
    assert "did you mean" not in (no_environment("client/staging", known).hint or "")
