"""``instar config``: which values hold, where they come from, and what runs with others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from instar.bake.files.copies import never_copied
from instar.cli.config import config
from instar.cli.main import instar
from instar.definition import Loaded, load
from instar.errors import Refused, UsageError
from instar.operations.deploy import deploy
from instar.operations.plan import plan, plan_promotion
from instar.operations.promote import promote
from instar.operations.settings import held_settings, settings_of
from instar.operations.validate import warnings
from instar.views.page import Table
from instar.views.settings import settings_json, settings_page
from simulated.workspace import SimulatedWorkspace

DEFINITION = """\
name: web
image: {base: debian:bookworm}
service:
  command: [serve]
  port: 8080
  limits: {memory: 128M}
defaults:
  config: {LEVEL: info}
  limits: {pids: 99}
  secrets: {TOKEN: {file: secrets/token}}
environments:
  dev:
    listen: 127.0.0.1:8080
    config_file: dev.env
    secrets: {TOKEN: null}
  production:
    listen: 127.0.0.1:8090
    limits: {memory: 1G}
    secrets: {TOKEN: null}
    promote_from: dev
  staging:
    listen: 127.0.0.1:8091
"""
SECRET = "hunter2"  # what no page may show


def written(folder: Path, text: str = DEFINITION) -> Loaded:
    (folder / "instar.yaml").write_text(text)
    (folder / "dev.env").write_text("# of dev\nGREETING='hello there'\nAPI_TOKEN=x\n")
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "secrets/token").write_text(SECRET)
    return load(folder / "instar.yaml")


def text(page: Iterator[str | Table]) -> str:
    return "\n".join(line for part in page for line in (part.lines() if isinstance(part, Table) else [part]))


def test_each_value_is_said_with_where_it_comes_from(tmp_path: Path) -> None:
    loaded = written(tmp_path)
    found = {one.name: (one.value, one.layer, one.place) for one in settings_of(loaded, "dev")}
    file = tmp_path / "instar.yaml"
    assert found["limits.memory"] == ("128M", "service", f"{file}:6:20")
    assert found["limits.pids"] == ("99", "defaults", f"{file}:9:18")
    assert found["limits.cpus"] == ("1.0", "usual", None)
    assert found["config.LEVEL"] == ("info", "defaults", f"{file}:8:19")
    assert found["config.GREETING"] == ("hello there", "file", f"{tmp_path / 'dev.env'}:2")
    assert found["listen"] == ("127.0.0.1:8080", "environment", f"{file}:13:13")
    assert not any(name.startswith("secrets") for name in found)
    production = {one.name: (one.value, one.layer) for one in settings_of(loaded, "production")}
    assert production["limits.memory"] == ("1G", "environment") and "config.GREETING" not in production


def test_what_a_role_says_holds_where_an_environment_says_nothing(tmp_path: Path) -> None:
    roles = (
        "roles:\n  web: {command: [serve], port: 80}\n  worker: {command: [work], instances: 3, limits: {pids: 9}}\n"
    )
    said = "{listen: '127.0.0.1:1', roles: {worker: {limits: {pids: 8}}}}"
    top = DEFINITION.partition("service:")[0]
    loaded = written(tmp_path, f"{top}{roles}environments:\n  dev: {said}\n  other: {{listen: '127.0.0.1:2'}}\n")
    dev, other = ({one.name: (one.value, one.layer) for one in settings_of(loaded, name)} for name in ("dev", "other"))
    assert dev["roles.worker.instances"] == other["roles.worker.instances"] == ("3", "role")
    assert dev["roles.worker.limits.pids"] == ("8", "environment") and other["roles.worker.limits.pids"] == (
        "9",
        "role",
    )


def test_a_secret_is_named_and_never_shown(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    held = held_settings(workspace, written(tmp_path), "staging")
    page, told = text(settings_page(held, with_usual=True)), json.dumps(settings_json(held), default=str)
    assert "secrets.TOKEN" in page and "(a secret, {file: secrets/token})" in page and "defaults" in page
    assert SECRET not in page + told
    [secret] = [one for one in settings_json(held)["settings"] if one["name"] == "secrets.TOKEN"]
    assert secret["value"] is None and secret["source"] == "{file: secrets/token}"


def test_what_runs_with_other_values_is_said(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    loaded = written(tmp_path)
    assert held_settings(workspace, loaded, "dev").active is None
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    held = held_settings(workspace, loaded, "dev")
    assert (held.active, held.changes, held.unknown) == (1, (), None)
    changed = written(tmp_path, DEFINITION.replace("pids: 99", "pids: 77").replace("LEVEL: info", "LEVEL: debug"))
    found = {one.what: (one.before, one.after) for one in held_settings(workspace, changed, "dev").changes}
    assert found == {"service.limits.pids": ("99", "77"), "config.LEVEL": ("info", "debug")}
    assert "release 1 runs with others" in text(
        settings_page(held_settings(workspace, changed, "dev"), with_usual=False)
    )
    wanted = plan(workspace, changed, "dev", image=workspace.bake("one").digest)
    assert {one.what for one in wanted.changes} == set(found)


def test_what_runs_is_compared_though_what_it_is_to_use_is_refused(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    deploy(workspace, written(tmp_path), "dev", image=workspace.bake("one").digest)
    text_ = DEFINITION.replace("    config_file: dev.env\n", "    config_file: dev.env\n    uses: [redis]\n")
    changed = written(tmp_path, text_.replace("LEVEL: info", "LEVEL: debug"))
    held = held_settings(workspace, changed, "dev")
    assert {one.what for one in held.changes} == {"config.LEVEL"} and held.unknown is None
    page = text(settings_page(held, with_usual=False))
    assert "cannot deploy 'web/dev': it uses 'redis/dev', which is not there; deploy that first" in page
    assert settings_json(held)["refused"] in page
    with pytest.raises(Refused, match="it uses 'redis/dev', which is not there"):
        deploy(workspace, changed, "dev")  # it has no lock, and nothing is locked or baked


def test_a_promotion_has_the_limits_of_where_it_goes(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    loaded = written(tmp_path)
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    assert plan_promotion(workspace, loaded, "dev", "production").release
    promote(workspace, loaded, "dev", "production")
    held = held_settings(workspace, loaded, "production")
    release = workspace.ledger.get_release(held.environment, 1)
    assert (release.service.limits.memory_bytes, release.service.limits.pids) == (1 << 30, 99)
    assert held.changes == () and release.configuration.config == {"LEVEL": "info"}


def test_a_file_of_configuration_goes_into_no_image_and_what_looks_like_a_secret_in_it_is_warned_of(
    tmp_path: Path,
) -> None:
    loaded = written(tmp_path)
    assert tmp_path / "dev.env" in never_copied(loaded)
    [warning] = warnings(loaded)
    assert warning.startswith(f"{tmp_path / 'dev.env'}:3: 'API_TOKEN' looks like a secret; 'secrets: {{API_TOKEN:"[:-1])


def test_there_is_no_such_environment(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot find environment 'prod'"):
        held_settings(workspace, written(tmp_path), "prod")


def test_the_command_prints_a_page_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path / "home"))
    page = CliRunner().invoke(config, ["dev"])
    assert page.exit_code == 0 and "dev.env:2" in page.output and "usual" not in page.output, page.output
    assert "usual" in CliRunner().invoke(config, ["dev", "--all"]).output
    found = json.loads(CliRunner().invoke(config, ["dev", "--json"]).output)
    assert found["environment"] == "dev" and found["active"] is None and found["running_otherwise"] == []
    assert {"name": "config.GREETING", "value": "hello there", "from": "file", "place": "dev.env:2"} in found[
        "settings"
    ]


def test_what_others_call_it_leads_here() -> None:
    assert "instar config ENV" in str(CliRunner().invoke(instar, ["settings", "dev"]).output)
