"""A whole definition: DESIGN's example, the defaults, the places, and files that cannot be read."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from instar.definition import load, load_name, parse
from instar.errors import DefinitionError, DefinitionUnreadable
from instar.model.definition import Definition, Health, Limits, Service, Stop, Timeouts, Tmp, Volume
from instar.model.environment import Environment, Keep, RolloutRules, RolloutStep, SecretSource
from instar.model.image_spec import Fetch, Files, ImageSpec, User

EXAMPLE = """\
name: guestbook

image:
  base: debian:bookworm             # a Debian suite, bootstrapped from locked packages
  packages: [python3]
  python: requirements.txt          # installed from locked wheels into /opt/venv, which is first on PATH
  fetch:
    - {url: https://example.org/tool.tar.gz, sha256: SHA, to: /opt/tool, unpack: true}
  files:
    - {from: app, to: /srv/app}     # modes 644/755, owner root, unless {owner, mode}; {exclude: […]}
  run:
    - python -m compileall -q --invalidation-mode unchecked-hash /srv/app
  env: {PYTHONUNBUFFERED: "1"}
  user: app                         # uid and gid 10001 unless {name, uid}: a new package must never shift it

service:
  command: [uvicorn, guestbook:app, --host, 0.0.0.0, --port, "8080"]
  workdir: /srv/app
  port: 8080                        # left out: no traffic, a worker
  protocol: http                    # or tcp
  health: {path: /healthz, interval: 500ms, timeout: 2s, deadline: 30s}   # or {tcp: true}, or {command: […]}
  timeouts: {request: 60s, tunnel: 1h}
  stop: {signal: SIGTERM, grace: 10s, drain: 30s}
  limits: {memory: 256M, cpus: 1.0, pids: 256}
  volumes:
    - {name: data, path: /var/lib/guestbook, access: shared}   # outlives releases

environments:
  dev:
    listen: 127.0.0.1:8080
  production:
    provider: local                 # the default
    listen: 127.0.0.1:8090
    instances: 3
    promote_from: dev
    config: {GREETING: hello}
    secrets: {TOKEN: {file: secrets/token}}
    rollout: {strategy: canary, steps: [5, 25, 50], pause: 30s}
    keep: {hot: 1, releases: 5}
""".replace("SHA", "ab" * 32)

WORKER = "name: w\nimage: {base: debian:trixie}\nservice: {command: [./work]}\n"


def test_the_example_of_the_design() -> None:
    assert parse(EXAMPLE, "instar.yaml").definition == Definition(
        name="guestbook",
        image=ImageSpec(
            base="debian:bookworm",
            packages=("python3",),
            python="requirements.txt",
            fetch=(Fetch(url="https://example.org/tool.tar.gz", sha256="ab" * 32, to="/opt/tool", unpack=True),),
            files=(Files(source="app", to="/srv/app"),),
            run=("python -m compileall -q --invalidation-mode unchecked-hash /srv/app",),
            env={"PYTHONUNBUFFERED": "1"},
            user=User(name="app"),
        ),
        service=Service(
            command=("uvicorn", "guestbook:app", "--host", "0.0.0.0", "--port", "8080"),
            workdir="/srv/app",
            port=8080,
            protocol="http",
            health=Health(kind="http", path="/healthz", interval_ms=500, timeout_ms=2000, deadline_ms=30_000),
            timeouts=Timeouts(request_ms=60_000, tunnel_ms=3_600_000),
            stop=Stop(signal="SIGTERM", grace_ms=10_000, drain_ms=30_000),
            limits=Limits(memory_bytes=256 << 20, cpus_milli=1000, pids=256),
            volumes=(Volume(name="data", path="/var/lib/guestbook", access="shared"),),
        ),
        environments={
            "dev": Environment(name="dev", listen=("127.0.0.1:8080",)),
            "production": Environment(
                name="production",
                listen=("127.0.0.1:8090",),
                instances=3,
                promote_from="dev",
                config={"GREETING": "hello"},
                secrets={"TOKEN": SecretSource(file="secrets/token")},
                rollout=RolloutRules(
                    strategy="canary", steps=tuple(RolloutStep(weight_percent=weight) for weight in (5, 25, 50))
                ),
                keep=Keep(hot=1, releases=5),
            ),
        },
    )


def test_what_is_left_out_has_the_defaults_of_the_model() -> None:
    assert parse(WORKER, "instar.yaml").definition == Definition(
        name="w",
        image=ImageSpec(base="debian:trixie"),
        service=Service(command=("./work",), health=Health(kind="none")),
        environments={},
    )


@pytest.mark.parametrize(
    ("service", "health"),
    [
        ("port: 80", Health(kind="tcp")),
        ("port: 80, protocol: tcp", Health(kind="tcp")),
        ("port: 80, health: {deadline: 1m}", Health(kind="tcp", deadline_ms=60_000)),
        ("port: 80, health: {command: [a, b]}", Health(kind="command", command=("a", "b"))),
        ("port: 80, health: {path: /}", Health(kind="http", path="/")),
        ("health: {command: [a]}", Health(kind="command", command=("a",))),
        ("health: {interval: 5s}", Health(kind="none", interval_ms=5000)),
    ],
)
def test_health_is_by_port_unless_it_is_chosen(service: str, health: Health) -> None:
    text = WORKER.replace("[./work]", f"[./work], {service}")
    assert parse(text, "instar.yaml").definition.service.health == health


def test_forms_of_values() -> None:
    text = """\
name: forms
image:
  base: debian:bookworm
  packages: [g++, libc6=2.36-9+deb12u10]
  files:
    - {from: ./a/, to: /a, owner: web, mode: 0640, exclude: ["*.pyc"]}
    - {from: ., to: /, owner: "33:33", mode: 755}
    - {from: c, to: /c, mode: "0o600"}
  user: {name: web, uid: 33}
service:
  command: [/bin/true]
  port: 53
  protocol: tcp
  stop: {signal: INT, grace: 1m30s}
  limits: {memory: 1Gi, cpus: 0.25}
  tmp: {size: 512K, exec: true}
  capabilities: [NET_RAW, CAP_NET_BIND_SERVICE]
environments:
  dev:
    listen: [":53", "[0:0::1]:53"]
    config: {A: 0644, B: yes, C: true, D: 1.50, E: "", F: "a\\nb", G: 22:22, H: null text}
"""
    found = parse(text, "instar.yaml").definition
    assert found.image.packages == ("g++", "libc6=2.36-9+deb12u10")
    assert [file.mode for file in found.image.files] == [0o640, 0o755, 0o600]
    assert [(file.source, file.owner) for file in found.image.files] == [("a", "web"), (".", "33:33"), ("c", "root")]
    assert (found.service.stop.signal, found.service.stop.grace_ms) == ("SIGINT", 90_000)
    assert (found.service.limits.memory_bytes, found.service.limits.cpus_milli) == (1 << 30, 250)
    assert found.service.tmp == Tmp(size_bytes=512 << 10, exec=True)
    assert found.service.capabilities == ("CAP_NET_RAW", "CAP_NET_BIND_SERVICE")
    assert found.environments["dev"].listen == ("0.0.0.0:53", "[::1]:53")
    written = {"A": "0644", "B": "yes", "C": "true", "D": "1.50", "E": "", "F": "a\nb", "G": "22:22", "H": "null text"}
    assert found.environments["dev"].config == written


def test_places_of_values_sections_and_what_is_not_there() -> None:
    places = parse(EXAMPLE, "instar.yaml").places
    assert places.find("image", "packages", 0) == (5, 14)
    assert places.find("image", "run", 0) == (12, 7)
    assert places.find("service", "limits", "memory") == (24, 20)
    assert places.find("service") == (16, 1)
    assert places.find("image", "packages", 7) == places.find("image", "packages") == (5, 3)
    assert places.find("service", "tmp", "size") == (16, 1)
    assert places.find("nothing", 0) == (1, 1)
    assert places.place_text("environments", "dev", "listen") == "instar.yaml:30:13"


def test_load_names_the_file_as_it_was_given_and_its_folder_absolutely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instar.yaml").write_text("\ufeff" + WORKER, "utf-8")
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("instar.yaml"))
    assert (loaded.file, loaded.folder, loaded.definition.name) == ("instar.yaml", tmp_path, "w")
    assert loaded.places.place_text("image", "base") == "instar.yaml:2:15"


def test_all_problems_are_told_at_once_in_the_order_of_their_places() -> None:
    text = "imge: {}\nname: Bad\nimage: {base: debian, run: [a, ''], port: 1}\nservice: {port: 0}\n"
    with pytest.raises(DefinitionError) as raised:
        parse(text, "instar.yaml")
    places = [(problem.line, problem.column) for problem in raised.value.problems]
    assert places == [(1, 1), (2, 7), (3, 15), (3, 32), (3, 37), (4, 1), (4, 17)]
    assert str(raised.value).splitlines()[0] == "instar.yaml:1:1: unknown key 'imge'; did you mean 'image'?"


def test_a_file_that_is_missing_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DefinitionUnreadable) as raised:
        load(tmp_path / "instar.yaml")
    assert raised.value.message == f"cannot read '{tmp_path}/instar.yaml': no such file"
    assert "instar init" in str(raised.value.hint) and "-f" in str(raised.value.hint)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "instar.yaml"
    for data, expected in [
        (b"", ":1:1: the file is empty"),
        (b"# nothing\n", ":1:1: the file is empty"),
        (b"name: a\nx: caf\xe9\n", ":2:7: expected UTF-8 text, found the byte 0xe9"),
        (b"ELF\x00\x01", ":1:4: expected text, found a NUL byte"),
        (b"#" * (1 << 20) + b"\n", "larger than 1 MiB"),
        (b"- a\n", ":1:1: expected a definition"),
    ]:
        file.write_bytes(data)
        with pytest.raises(DefinitionError) as raised:
            load(file)
        assert expected in raised.value.message
    with pytest.raises(DefinitionUnreadable, match="is a directory"):
        load(tmp_path)
    with pytest.raises(DefinitionUnreadable, match="not a regular file"):
        load(Path("/dev/zero"))
    with pytest.raises(DefinitionUnreadable, match="not a directory"):
        load(file / "instar.yaml")


@pytest.mark.root
def test_a_file_that_may_not_be_read() -> None:
    script = (
        "import os, sys; from pathlib import Path; from instar.definition import load; from instar.errors import *\n"
        "os.setegid(65534); os.seteuid(65534)\n"
        "try: load(Path(sys.argv[1]))\n"
        "except DefinitionUnreadable as error: print(error.message)"
    )
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run([sys.executable, "-c", script, file.name], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot read '{file.name}': permission denied\n"


def test_importing_the_room_brings_in_nothing_heavy() -> None:
    script = "import sys, instar.definition; print(sorted({'pydantic', 'yaml', 'difflib', 'json'} & set(sys.modules)))"
    environment = {**os.environ, "COVERAGE_PROCESS_START": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: shop\nimage: {", "shop"),  # what is broken below keeps nobody from a rollback
        ("# ours\n\nname: shop   # the first\n\n# more\nimage: {}\n", "shop"),
        ("name: shop\n", "shop"),
        ("---\nname: shop\n", "shop"),
        ("image: {}\nname: shop\n", "shop"),
        ('name: "shop"\n', "shop"),
    ],
)
def test_a_name_is_read_whatever_else_there_is(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "instar.yaml"
    file.write_text(text)
    assert load_name(file) == found


@pytest.mark.parametrize(
    "text",
    [
        "name: shop\n  and more\n",
        "name: shop\nname: other\n",
        'name: shop\n"name": other\n',
        "name: true\nimage: {}\n",
        "name: Shop\nimage: {}\n",
        "name: shop\n- image\n",
        "name: shop\n\tx: 1\n",
        "name:shop\nimage: {}\n",
        "",
    ],
)
def test_a_name_that_is_none_or_two_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "instar.yaml"
    file.write_text(text)
    with pytest.raises(DefinitionError):
        load_name(file)
