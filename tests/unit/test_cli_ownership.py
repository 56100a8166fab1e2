"""What each command does for somebody who is not root, on a machine where Instar is root's. No command is left out."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from instar.cli import ownership
from instar.cli.main import instar
from instar.cli.options import any_workspace, open_workspace
from instar.errors import NotRoot
from instar.model import state
from instar.model.happenings import SnapshotRemoved
from instar.reading import client
from simulated.values import ENV

TAKES_ROOT = {
    "bake": "",
    "images": "",
    "images list": "",
    "images show": "hello",
    "images join": "sha256:1 sha256:2",
    "images remove": "hello",
    "export": "hello hello.tar",
    "push": "hello localhost:1/hello",
    "pull": f"localhost:1/hello@sha256:{'1' * 64}",
    "import": "instar.yaml",
    "deploy": "dev",
    "promote": "dev production",
    "rollback": "hello/dev",
    "rollout pause": "hello/dev --why so",
    "rollout resume": "hello/dev",
    "rollout abort": "hello/dev --why so",
    "maintenance": "hello/dev off",
    "run": "hello/dev -- true",
    "schedule": "hello/dev run nightly",
    "taint": "hello/dev hello-dev-1-1 --why so",
    "shell": "hello/dev --why so",
    "replay": "hello/dev",
    "volumes": "",
    "volumes list": "",
    "volumes snapshot": "hello/dev data",
    "volumes snapshots": "",
    "volumes restore": "hello/dev data 1",
    "volumes copy": "hello/dev data hello/production",
    "volumes remove": "hello/dev data --yes",
    "pin": "hello/dev 1",
    "unpin": "hello/dev 1",
    "certificates": "",
    "certificates list": "",
    "certificates renew": "hello/dev",
    "agent": "--once",
    "gc": "",
    "destroy": "hello/dev --yes",
    "backup": "b --without-secrets",
    "restore": "instar.yaml",
    "uninstall": "--yes",
    "ledger copy": "a b",
    "ledger key export": "",
    "ledger key import": "",
    "ledger upgrade": "",
    "history --verify": "",
}
IS_ASKED_OF_THE_AGENT = {
    "status": "",
    "explain": "hello/dev",
    "top": "hello/dev",
    "history": "",
    "diff": "hello/dev",
    "logs": "hello/dev",
    "drift": "hello/dev",
    "schedule": "hello/dev",
}
TAKES_NOTHING = {
    "validate": "",
    "schema": "",
    "config": "dev",
    "doctor": "",
    "ledger role": "",
    "completion": "bash",
    "agent --unit": "",
    "deploy --plan": "cluster",
    "kubernetes render": "cluster --image hello",
    "restore --check": "instar.yaml",
}
MAKES_WHAT_IT_IS_ASKED_FOR = {"init", "lock", "secrets key", "secrets edit", "secrets encrypt"}
PRINT_FOR_A_CLUSTER = {"kubernetes agent", "kubernetes policy", "kubernetes rbac"}

DEFINITION = """\
name: hello
image: {base: debian:bookworm}
service: {command: [sleep, inf]}
environments:
  dev: {}
  production: {promote_from: dev}
  cluster: {provider: kubernetes, kubernetes: {registry: "localhost:1/hello", namespace: hello}}
"""


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        if command.invoke_without_command:
            yield " ".join(words)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*words, name))
    else:
        yield " ".join(words)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where somebody works who is not root, on a machine on which root has an Instar."""
    (tmp_path / "roots").mkdir()
    monkeypatch.setattr(state, "ROOTS_STATE", tmp_path / "roots")
    monkeypatch.setattr(state, "READERS", tmp_path / "readers")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    for name in ("INSTAR_HOME", "INSTAR_LEDGER", "INSTAR_CONFIG", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    (folder / "instar.yaml").write_text(DEFINITION)
    return folder


def asked(words: str, arguments: str) -> BaseException | None:
    """Give a command, and return what it raised."""
    result = CliRunner().invoke(instar, [*words.split(), *shlex.split(arguments)], standalone_mode=False)
    return result.exception


def made(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.name != "instar.yaml"]


def test_each_command_is_in_one_of_the_tables() -> None:
    known = {*TAKES_ROOT, *IS_ASKED_OF_THE_AGENT, *TAKES_NOTHING, *MAKES_WHAT_IT_IS_ASKED_FOR, *PRINT_FOR_A_CLUSTER}
    assert {*leaves(instar)} <= known, "say in this file what a new command does without root"


@pytest.mark.parametrize("words", TAKES_ROOT)
def test_what_is_not_looking_takes_root_and_makes_nothing(words: str, home: Path) -> None:
    error = asked(words, TAKES_ROOT[words])
    assert isinstance(error, NotRoot), repr(error)
    assert error.exit_status == 1 and "it takes root" in error.message
    assert error.hint is not None and error.hint.startswith(f"sudo instar {words.split(' --', maxsplit=1)[0]}")
    assert made(home) == []


@pytest.mark.parametrize("words", IS_ASKED_OF_THE_AGENT)
def test_looking_is_asked_of_the_agent(words: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = asked(words, IS_ASKED_OF_THE_AGENT[words])
    assert isinstance(without, NotRoot) and "it takes root" in without.message, repr(without)
    questions = list[object]()
    monkeypatch.setattr(client, "ask", lambda path, question: iter(questions.append(question) or ()))
    (tmp_path / "readers").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "readers/default.sock"))
        error = asked(words, IS_ASKED_OF_THE_AGENT[words])
        refused = asked("gc", "")
    assert len(questions) == 1, repr(error)
    assert isinstance(refused, NotRoot) and "may only look, without root: status" in str(refused.hint)
    assert made(home) == []


@pytest.mark.parametrize("words", TAKES_NOTHING)
def test_what_needs_no_state_is_not_refused(words: str, home: Path) -> None:
    error = asked(words, TAKES_NOTHING[words])
    assert not isinstance(error, NotRoot), repr(error)
    assert words in {"deploy --plan", "kubernetes render"} or made(home) == []


def test_the_doctor_tells_a_reader_where_root_s_agent_answers_and_not_what_it_ships(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("readers: {group: games}\nlogs: {ship: {command: [/bin/true]}}\n")
    monkeypatch.setenv("INSTAR_CONFIG", str(tmp_path / "config.yaml"))

    def lines() -> dict[str, str]:
        told = json.loads(CliRunner().invoke(instar, ["doctor", "--json"]).stdout)
        return {one["name"]: one["found"] for one in told["components"] if one["name"] in ("readers", "logs.ship")}

    shown = lines()
    assert shown.keys() == {"readers"} and shown["readers"].endswith(f"at {tmp_path}/readers/default.sock")
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path / "mine"))
    shown = lines()
    assert shown.keys() == {"readers", "logs.ship"} and not shown["readers"].endswith("default.sock")


def test_a_named_directory_and_what_happened_in_ones_own_are_the_callers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as named:
        named.setenv("INSTAR_HOME", str(tmp_path / "mine"))
        assert not ownership.is_roots(open_workspace())
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    with pytest.raises(NotRoot, match="it takes root"):
        open_workspace()
    with any_workspace().ledger as ledger:
        assert ownership.is_roots(any_workspace()), "an empty ledger is nobody's"
        monkeypatch.setattr(ownership, "readers_socket", lambda workspace: home / "socket")
        assert ownership.asks_an_agent(any_workspace()), "and hides no agent"
        ledger.record(SnapshotRemoved(volume="data", snapshot=1), ENV)
    open_workspace()
    assert not ownership.asks_an_agent(any_workspace())


def test_a_shared_ledger_is_everybodys_and_the_store_is_not(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("ledger: postgresql://instar@db.example/instar\n")
    monkeypatch.setenv("INSTAR_CONFIG", str(tmp_path / "config.yaml"))
    open_workspace()
    with pytest.raises(NotRoot):
        open_workspace(of_machine=True)
    store = any_workspace().state.store
    store.mkdir(parents=True)
    for held, refused in (("[]", True), ('[{"digest": "sha256:1"}]', False)):
        (store / "index.json").write_text(f'{{"schemaVersion": 2, "manifests": {held}}}')
        with pytest.raises(NotRoot) if refused else contextlib.nullcontext():
            open_workspace(of_machine=True)
    shutil.rmtree(store)
    (tmp_path / "config.yaml").write_text("ledger: 5\n")
    with pytest.raises(NotRoot):
        open_workspace()


def test_root_is_refused_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    open_workspace()
