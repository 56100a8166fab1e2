"""Sources that the machine's file names: what each gives, and what is told when it gives nothing of use."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from instar.definition import load
from instar.errors import ComponentMissing, HostError, InstarError, Refused
from instar.model.environment import Environment, SecretSource
from instar.model.machine import MachineSettings, SecretSettings
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.operations.plan import plan
from instar.operations.secret_sources import MAX_BYTES, Sources, read_secrets
from simulated.workspace import SimulatedWorkspace

DECLARED = Environment(name="dev", secrets={"TOKEN": SecretSource(source="vault")})


def value(settings: SecretSettings, folder: Path, environ: Mapping[str, str] | None = None) -> bytes:
    sources = Sources(service="shop", named={"vault": settings}, environ=environ or {})
    return read_secrets(folder, DECLARED, sources)["TOKEN"]


def shell(line: str, **more: int) -> SecretSettings:
    return SecretSettings(command=("sh", "-c", line), **more)


def test_a_command_gives_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "x")
    assert value(shell("printf 'a b\\nc\\n\\n'; echo noise >&2"), tmp_path) == b"a b\nc"
    assert value(shell('echo "[$OF_THE_CALLER$HOME]"'), tmp_path) == b"[/nonexistent]", "its environment is clean"
    assert value(shell("cat; echo end"), tmp_path) == b"end", "it has no input"
    assert value(SecretSettings(command=("printf", "%s", "$(id) 'x'")), tmp_path) == b"$(id) 'x'", "no shell is between"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (shell("echo s3cret; echo s3cret >&2; exit 3"), "'sh' failed: exit status 3"),
        (shell("echo s3cret; kill -9 $$"), "'sh' failed: signal 9"),
        (shell("echo s3cret; sleep 60", timeout_ms=200), "'sh' did not end within 0.2 s"),
        (shell("true"), "'sh' printed nothing"),
        (shell("echo"), "'sh' printed nothing"),
        (shell("head -c 1000000 /dev/zero | tr '\\0' s"), "'sh' printed more than 65,536 bytes"),
        (shell("yes s3cret"), "'sh' printed more than 65,536 bytes"),
        (shell("yes s3cret >&2"), "'sh' printed more than 65,536 bytes"),
        (shell("printf 's3cret\\377'"), "'sh' printed what is no UTF-8 text"),
        (SecretSettings(command=("/",)), "'/' cannot be run: Permission denied"),
        (SecretSettings(variable="SHOP_TOKEN"), "the variable 'SHOP_TOKEN' is not set, or empty"),
    ],
)
def test_what_gives_nothing_of_use_is_told_without_what_it_said(
    tmp_path: Path, settings: SecretSettings, told: str
) -> None:
    with pytest.raises(HostError) as caught:
        value(settings, tmp_path)
    assert f"cannot read secret 'TOKEN' from the source 'vault': {told}" in caught.value.message
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.exit_status == 1


def test_nothing_of_the_folder_that_it_is_called_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vault").write_text("#!/bin/sh\necho of the definition\n")
    (tmp_path / "vault").chmod(0o755)
    assert value(shell("pwd"), tmp_path) == b"/"
    for command in ("./vault", "vault"):
        with pytest.raises(ComponentMissing):
            value(SecretSettings(command=(command,)), tmp_path)


def test_a_program_that_is_not_there_is_a_missing_component(tmp_path: Path) -> None:
    with pytest.raises(ComponentMissing, match="from the source 'vault': 'no-such' is not there") as caught:
        value(SecretSettings(command=("no-such", "x")), tmp_path)
    assert caught.value.exit_status == 69


def test_what_a_command_leaves_running_is_killed_with_it(tmp_path: Path) -> None:
    """A grandchild that holds the pipe open is part of what is waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(HostError, match="did not end within"):
            value(shell(f"sleep 60 3>{pipe} & echo value", timeout_ms=300), tmp_path)
        assert select.select([reader], [], [], 20)[0], "the last that had the pipe open is gone"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_a_file_elsewhere_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff one\n")
    file.chmod(0o640)
    settings = SecretSettings(file=str(file))
    assert value(settings, tmp_path) == b"\xff one\n"
    file.chmod(0o644)
    with pytest.raises(HostError, match="everybody on this machine may read") as caught:
        value(settings, tmp_path)
    assert caught.value.hint == f"chmod o-r '{file}'"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: None, ": no such file or directory"),
        (lambda file: file.symlink_to("/etc/shadow"), ": it is a link, or leads through one"),
        (lambda file: file.mkdir(), ": is a directory"),
        (os.mkfifo, ": it is not a regular file"),
        (lambda file: file.touch(0o600), " is empty"),
        (lambda file: (file.touch(0o600), os.truncate(file, MAX_BYTES + 1)), ": it is larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    file = tmp_path / "token"
    make(file)
    with pytest.raises(HostError) as caught:
        value(SecretSettings(file=str(file)), tmp_path)
    assert caught.value.message == f"cannot read secret 'TOKEN' from the source 'vault': '{file}'{told}"


def test_a_variable_is_the_callers(tmp_path: Path) -> None:
    settings = SecretSettings(variable="SHOP_TOKEN")
    assert value(settings, tmp_path, {"SHOP_TOKEN": "é\n"}) == "é\n".encode()
    with pytest.raises(HostError, match="is no UTF-8 text"):
        value(settings, tmp_path, {"SHOP_TOKEN": os.fsdecode(b"\xff")})


def test_only_what_the_machine_names_is_taken_and_by_those_that_may(tmp_path: Path) -> None:
    here = SecretSettings(command=("echo", "one"), environments=("shop/production", "shop/dev"))
    assert value(here, tmp_path) == b"one"
    others = SecretSettings(command=("touch", str(tmp_path / "ran")), environments=("shop/production",))
    refused: list[InstarError] = []
    for named in ({}, {"other": here}, {"vault": others}):
        with pytest.raises(InstarError) as caught:
            read_secrets(tmp_path, DECLARED, Sources(service="shop", named=named))
        refused.append(caught.value)
    assert [type(one) for one in refused] == [HostError, HostError, Refused]
    assert "names no source 'vault' (it names none)" in refused[0].message
    assert "(it names other)" in refused[1].message and "secrets.vault" in (refused[1].hint or "")
    assert "'shop/dev' may not take the source 'vault'" in refused[2].message
    assert not (tmp_path / "ran").exists(), "it was not run"


def test_a_source_that_fails_begins_nothing_and_what_is_active_stays(tmp_path: Path) -> None:
    workspace = SimulatedWorkspace(tmp_path / "home")
    workspace.machine_settings = MachineSettings(secrets={"vault": shell(f"cat {tmp_path}/value")})
    (tmp_path / "instar.yaml").write_text(
        "name: web\nimage: {base: debian:bookworm}\nservice: {command: [serve]}\n"
        "environments:\n  dev: {secrets: {TOKEN: {source: vault}}}\n"
    )
    loaded, web = load(tmp_path / "instar.yaml"), EnvironmentId(service="web", name="dev")
    (tmp_path / "value").write_text("one\n")
    image = workspace.bake("one").digest
    deploy(workspace, loaded, "dev", image=image)
    assert plan(workspace, loaded, "dev", image=image).changes == ()
    (tmp_path / "value").write_text("two\n")
    assert [one.what for one in plan(workspace, loaded, "dev", image=image).changes] == ["secrets.TOKEN"]
    (tmp_path / "value").unlink()
    with pytest.raises(HostError, match="'sh' failed: exit status 1"):
        deploy(workspace, loaded, "dev", image=image)
    state = workspace.ledger.get_environment(web)
    assert state.active == 1 and state.rollout is None and len(list(workspace.ledger.releases(web))) == 1
    [digest] = workspace.ledger.get_release(web, 1).configuration.secrets.values()
    assert workspace.state.secret(digest).read_bytes() == b"one"
    workspace.ledger.close()


def test_a_variable_has_no_line_end_at_its_end_and_neither_has_its_file(tmp_path: Path) -> None:
    def as_variable(value: bytes) -> bytes:
        (tmp_path / "token").write_bytes(value)
        secret = SecretSource(file="token", variable=True)
        return read_secrets(tmp_path, Environment(name="dev", secrets={"TOKEN": secret}), Sources())["TOKEN"]

    assert as_variable(b" one\ntwo\r\n\n") == b" one\ntwo"
    for value, told in (
        (b"a\0b", "it has a zero byte in it"),
        (b"\xff", "it is no UTF-8 text"),
        (b"x" * 65_537, "it is larger than 65,536 bytes"),
    ):
        with pytest.raises(Refused) as caught:
            as_variable(value)
        assert caught.value.message == f"cannot give secret 'TOKEN' as an environment variable: {told}"
