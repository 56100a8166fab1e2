"""The agent's Deployment: what it may, what it is given, and what its image has."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes_values import ENV, SECTION, SETTINGS

from instar.errors import UsageError
from instar.model.reference import reference
from instar.operations.documents import document
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.package import PlannedEnvironment

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = f"registry.example/team/instar-agent@sha256:{'ab' * 32}"


def objects(**section: Any) -> dict[str, Any]:
    settings = dataclasses.replace(SETTINGS, provider_settings={**SECTION, **section})
    planned = PlannedEnvironment(environment=ENV, settings=settings, given=reference(IMAGE))
    texts = KUBERNETES.documents["agent"].make(SimpleNamespace(), planned)  # type: ignore[arg-type]
    return {f"{one['kind']} {one['metadata']['name']}": one for one in map(yaml.safe_load, texts.values())}


def pod(**section: Any) -> dict[str, Any]:
    found: dict[str, Any] = objects(**section)["Deployment instar-agent"]["spec"]["template"]["spec"]
    return found


def test_it_acts_by_the_least_roles_in_the_environment_s_namespace() -> None:
    made = objects()
    assert made["ServiceAccount instar"]["metadata"]["namespace"] == "shop"
    assert made["Deployment instar-agent"]["metadata"]["namespace"] == "shop"
    assert pod()["serviceAccountName"] == "instar"
    assert made["Role instar"]["rules"]


def test_it_runs_without_root_and_writes_to_no_root_file_system() -> None:
    spec = pod()
    assert spec["securityContext"]["runAsNonRoot"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["image"] == IMAGE
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_ledger_s_address_is_in_a_secret_and_the_password_in_no_variable_of_the_agent() -> None:
    (agent,) = pod()["containers"]
    env = {one["name"]: one for one in agent["env"]}
    assert env["INSTAR_LEDGER"]["valueFrom"]["secretKeyRef"] == {"name": "instar-ledger", "key": "address"}
    assert "PASSWORD" not in env
    assert "SECRETS_KEY" not in env


def test_a_private_registry_is_asked_as_the_nodes_ask_it() -> None:
    spec = pod(pull_secret="login")
    assert spec["imagePullSecrets"] == [{"name": "login"}]
    assert {"name": "DOCKER_CONFIG", "value": "/etc/instar-login"} in spec["containers"][0]["env"]
    assert "imagePullSecrets" not in pod()


def test_what_it_is_given_is_put_where_nobody_else_writes(tmp_path: Path) -> None:
    script = pod()["initContainers"][0]["command"][-1]
    home = tmp_path / "home"
    given = {"INSTAR_HOME": str(home), "SECRETS_KEY": "0f" * 32, "PASSWORD": "a:b\\c\n"}
    for _ in range(2):  # a container that is started again finds what it has written
        subprocess.run([sys.executable, "-c", script], env={"PATH": os.environ["PATH"], **given}, check=True)
    assert (home / "secrets/key").read_bytes() == b"\x0f" * 32
    assert (home / "ledger.pass").read_text() == "*:*:*:*:a\\:b\\\\c\n"
    assert {file.stat().st_mode & 0o077 for file in (home, *home.rglob("*"))} == {0}


@pytest.mark.parametrize("word", [None, "instar-agent", "registry.example/team/instar-agent:latest"])
def test_a_tag_is_no_image_to_run(word: str | None) -> None:
    declared = SimpleNamespace(provider="kubernetes")
    loaded: Any = SimpleNamespace(
        definition=SimpleNamespace(name="shop", environments={"prod": declared}), file="instar.yaml"
    )
    wanted = KUBERNETES.documents["agent"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("instar.operations.documents.get_declared", lambda loaded, name: declared)
        patched.setattr("instar.operations.documents.Settings.of", lambda declared: SETTINGS)
        with pytest.raises(UsageError, match="digest" if word else "no image is named"):
            document(SimpleNamespace(), loaded, "prod", "kubernetes", wanted, image=word)  # type: ignore[arg-type]


def test_its_image_has_the_versions_that_instar_is_tested_with() -> None:
    pinned = {one.lower() for one in re.findall(r"^(\S+==\S+)", (CHECKOUT / "requirements.txt").read_text(), re.M)}
    lines = (CHECKOUT / "agent-requirements.txt").read_text().splitlines()
    wanted = {line.replace("[binary]", "").lower() for line in lines if line and not line.startswith("#")}
    assert wanted <= pinned
