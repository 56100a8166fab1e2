"""Compose files and Procfiles → definitions."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from instar.adopt import carry_over
from instar.definition import parse
from instar.errors import Refused
from instar.operations.init import init_from

COMPOSE = """
services:
  web:
    build: .
    ports: ["127.0.0.1:8081:8000", "9000:9000", "5432:5432", "8082:8000"]
    environment: {GREETING: hello, DB_PASSWORD: x, DEBUG: false, FROM_HOST: "${X}"}
    volumes: ["data:/data", "./conf:/etc/conf:ro", {type: tmpfs, target: /x}]
    depends_on: [db]
    command: python3 -m http.server 8000
    user: "1001:1001"
    stop_grace_period: 20s
    deploy: {replicas: 2, resources: {limits: {memory: 512M, cpus: "0.5"}}}
    healthcheck: {test: ["CMD-SHELL", "wget -qO- http://127.0.0.1:8000/healthz"], interval: 10s}
    networks: [x]
    privileged: true
  db: {image: "postgres:16"}
"""
LAUGHS = "a: &a [xxxxxxxxxx]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghijkl")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM python:3.11\nEXPOSE 7000\nCMD python3 app.py\n")
    return tmp_path


def test_the_service_that_is_built_is_carried_over(folder: Path) -> None:
    (folder / "compose.yaml").write_text(COMPOSE)
    draft = carry_over(folder / "compose.yaml", folder, "shop")
    definition = parse(draft.text(), str(folder / "instar.yaml")).definition
    service, dev = definition.service, definition.environments["dev"]
    assert service.command == ("python3", "-m", "http.server", "8000")
    assert (service.port, [str(one) for one in dev.listen]) == (8000, ["127.0.0.1:8081"])
    assert {name: (one.port, one.protocol) for name, one in service.ports.items()} == {
        "port-9000": (9000, "http"), "port-5432": (5432, "tcp")
    }  # fmt: skip
    assert {name: door.listen for name, door in dev.doors.items()} == {
        ".port-9000": ("127.0.0.1:9000",), ".port-5432": ("127.0.0.1:5432",)
    }  # fmt: skip
    assert (dev.instances, dict(dev.config)) == (2, {"GREETING": "hello", "DEBUG": "false"})
    assert (service.limits.memory_bytes, service.limits.cpus_milli) == (512 << 20, 500)
    assert (service.health.path, service.health.interval_ms, service.stop.grace_ms) == ("/healthz", 500, 20_000)
    assert [(one.path, one.access) for one in service.volumes] == [("/data", "shared")]
    assert (definition.image.user.uid, definition.image.user.gid) == (1001, 1001)
    left = {origin.where.removeprefix("compose.yaml: services."): why for origin, why in draft.left}
    assert set(left) == {
        "web.ports[3]", "web.environment.DB_PASSWORD", "web.environment.FROM_HOST", "web.volumes[1]", "web.volumes[2]",
        "web.networks", "web.privileged", "db",
    }  # fmt: skip
    assert "'8082:8000': write" in left["web.ports[3]"]
    assert "secrets/db_password" in left["web.environment.DB_PASSWORD"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "it is no YAML, in line 1"),
        ("[]", "there are no 'services' in it"),
        ("services: {}", "there are no 'services' in it"),
        ("services: {a: {image: x}, b: {image: y}}", r"several services in it \(a, b\): choose one with --service"),
        ("services: {a: {build: ../up}}", "leads out of"),
        ("services: {a: {build: ./sub}}", "make its definition there"),
        ("services: {a: {build: {dockerfile: none}}}", "its 'none' cannot be read"),
        ("services: !!python/object:os.system {}", "it is no YAML"),
        (LAUGHS + "services: {a: {image: x, ports: *l}}", "its aliases stand for more than"),
        (LAUGHS + "services: {a: {image: x, ? *l : 1}}", "its aliases stand for more than"),
        ("services: &a {a: {image: x, environment: *a}}", "its aliases stand for more than"),
    ],
)
def test_what_is_none_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "compose.yaml").write_text(text)
    with pytest.raises(Refused, match=says):
        carry_over(folder / "compose.yaml", folder, "shop")


def test_a_service_is_chosen_by_name(folder: Path) -> None:
    (folder / "compose.yaml").write_text(COMPOSE)
    assert "postgres" in carry_over(folder / "compose.yaml", folder, "shop", "db").text()
    with pytest.raises(Refused, match="there is no service 'x' in it, but web, db"):
        carry_over(folder / "compose.yaml", folder, "shop", "x")
    with pytest.raises(Refused, match="--service goes with a compose file"):
        carry_over(folder / "Dockerfile", folder, "shop", "x")


def test_whatever_a_compose_file_holds_is_no_error_of_python(folder: Path) -> None:
    for value in ("1", "text", "[1, {}]", "{a: [b]}", "null", "2001-01-01", "1e400", "&a [*a]"):
        keys = ("build", "image", "ports", "environment", "volumes", "command", "entrypoint", "healthcheck", "user",
                "working_dir", "deploy", "mem_limit", "cpus", "stop_grace_period", "stop_signal")  # fmt: skip
        for key in keys:
            (folder / "compose.yaml").write_text(f"services: {{a: {{{key}: {value}}}}}")
            try:
                carry_over(folder / "compose.yaml", folder, "shop").text()
            except Refused:
                continue


HOSTILE = "x\nregistry: evil.example/x\n#"


@pytest.mark.parametrize(
    "made",
    [
        {"services": {HOSTILE: {"image": "debian", "command": ["x"], "ports": ["80"], "networks": []}}},
        {"services": {"a": {"image": "debian", "command": ["x"], HOSTILE: 1}}},
        {"services": {"a": {"image": "debian", "command": ["x"], "environment": {HOSTILE: "x"}}}},
        {"services": {"a": {"image": "debian", "command": ["x"], "ports": [HOSTILE], "volumes": [HOSTILE]}}},
        {"services": {"a": {"image": "debian", "command": ["x"]}, HOSTILE: {"image": "debian", "build": None}}},
        {"services": {"a": {"image": f"debian{HOSTILE}", "command": [HOSTILE], "user": HOSTILE}}},
    ],
)
def test_nothing_in_a_compose_file_becomes_a_key_of_the_definition(folder: Path, made: dict[str, Any]) -> None:
    (folder / "compose.yaml").write_text(json.dumps(made))
    draft = carry_over(folder / "compose.yaml", folder, "shop", next(iter(made["services"])))
    assert not any(line.startswith("registry") for line in draft.text().splitlines())
    assert parse(draft.text(), "instar.yaml").definition.registry is None


def test_a_command_of_compose_comes_after_the_images_entrypoint(folder: Path) -> None:
    (folder / "Dockerfile").write_text('FROM debian\nENTRYPOINT ["tini", "--", "serve"]\nCMD ["one"]\n')
    for said, command in (
        ("command: two", ("serve", "two")),
        ("command: two, entrypoint: [other]", ("other", "two")),
        ("working_dir: /srv", ("serve", "one")),
    ):
        (folder / "compose.yaml").write_text(f"services: {{a: {{build: ., {said}}}}}")
        draft = carry_over(folder / "compose.yaml", folder, "shop")
        assert parse(draft.text(), "instar.yaml").definition.service.command == command


@pytest.mark.parametrize(
    ("test", "command"),
    [
        ('"ready || exit 1"', ("sh", "-c", "ready || exit 1")),
        ('["CMD-SHELL", "ready || exit 1"]', ("sh", "-c", "ready || exit 1")),
        ('["CMD", "ready", "-q"]', ("ready", "-q")),
        ('["NONE"]', None),
        ("[]", None),
    ],
)
def test_a_check_by_a_command(folder: Path, test: str, command: tuple[str, ...] | None) -> None:
    (folder / "compose.yaml").write_text(f"services: {{a: {{build: ., ports: [80], healthcheck: {{test: {test}}}}}}}")
    draft = carry_over(folder / "compose.yaml", folder, "shop")
    assert (draft.health is None) == (command is None)
    assert parse(draft.text(), "instar.yaml").definition.service.health.command == command


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("A=1 B_2=$PORT serve", "exec env A=1 B_2=$PORT serve"),
        ("serve --a=1", "exec serve --a=1"),
        ("A=1 prepare && serve", "A=1 prepare && serve"),
    ],
)
def test_a_process_is_in_the_place_of_its_shell(folder: Path, line: str, run: str) -> None:
    (folder / "Procfile").write_text(f"web: {line}\n")
    draft = carry_over(folder / "Procfile", folder, "shop")
    assert draft.command is not None and draft.command[0] == ["sh", "-c", run]


def test_a_procfile(folder: Path) -> None:
    (folder / "Procfile").write_text("web: gunicorn app:app --bind 0.0.0.0:$PORT\nworker: python worker.py\n")
    (folder / "requirements.txt").write_text("gunicorn\n")
    draft = carry_over(folder / "Procfile", folder, "shop")
    definition = parse(draft.text(), str(folder / "instar.yaml")).definition
    assert definition.service.command == ("sh", "-c", "exec gunicorn app:app --bind 0.0.0.0:$PORT")
    assert (definition.image.python, definition.service.port) == ("requirements.txt", 8080)
    assert dict(definition.image.env) == {"PORT": "8080"}
    assert [origin.where for origin, _ in draft.left] == ["Procfile:2"]


def test_what_the_author_has_to_mend_is_said_and_no_definition_overwritten(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM debian\n")
    assert init_from(folder / "Dockerfile", folder / "new", "shop").path.exists()
    made = init_from(folder / "Dockerfile", folder, "shop")
    assert made.path.read_text().startswith("# Made from what was here before")
    assert any("service.command" in problem for problem in made.problems)
    with pytest.raises(Refused, match="it exists"):
        init_from(folder / "Dockerfile", folder, "shop")
