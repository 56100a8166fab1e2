"""Dockerfiles of several stages → the stages of a definition's build, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_adopt_dockerfile import carried

from instar.errors import Refused
from instar.model.definition import Definition

C = """FROM gcc:13-bookworm AS Compile_It
RUN apt-get update && apt-get install -y libssl-dev
WORKDIR /src
COPY src/ .
ENV CFLAGS=-O2
RUN make server
EXPOSE 1
FROM debian:bookworm-slim
COPY --from=compile_it --chown=33:33 /src/server /usr/local/bin/
COPY --from=compile_it /src/public /srv/public/
COPY page /srv/
CMD ["/usr/local/bin/server"]
"""
GO = """FROM golang:1.19 AS build
WORKDIR /app
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -o /out/server ./cmd
FROM debian:bookworm
COPY --from=build /out/server /server
ENTRYPOINT ["/server"]
"""
PYTHON = """FROM python:3.11-slim AS builder
RUN python -m venv /opt/venv
COPY requirements.txt .
RUN /opt/venv/bin/pip install --no-cache-dir -r requirements.txt
FROM python:3.11-slim
COPY --from=builder /opt/venv /opt/venv
COPY app /app
ENV PATH="/opt/venv/bin:$PATH"
CMD ["python", "/app/main.py"]
"""
THREE = """FROM debian:bookworm AS first
RUN echo one > /one
FROM first AS second
COPY --from=first /one /two
FROM debian:trixie
RUN echo not wanted
FROM debian:bookworm
COPY --from=1 /two /three
COPY --from=2 /any/* /x/
COPY --from=nginx:latest /etc/nginx/nginx.conf /etc/nginx/nginx.conf
CMD ["sleep", "1"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("src", "cmd", "app"):
        (tmp_path / name).mkdir()
    for name in ("page", "go.mod", "go.sum", "requirements.txt"):
        (tmp_path / name).write_text("flask\n")
    return tmp_path


def taken(definition: Definition) -> list[tuple[str, str | None, str]]:
    return [(one.source, one.path, one.to) for one in definition.image.files]


def test_a_stage_that_compiles_is_one_of_the_build(folder: Path) -> None:
    definition, left = carried(folder, C)
    stage = definition.build["compile-it"]
    assert (stage.base, stage.packages) == ("debian:bookworm", ("gcc", "g++", "make", "libssl-dev"))
    assert [(one.source, one.to) for one in stage.files] == [("src", "/src")]
    assert (stage.run, dict(stage.env)) == (("cd /src && make server",), {"CFLAGS": "-O2"})
    assert taken(definition) == [
        ("build.compile-it", "/src/server", "/usr/local/bin/server"),
        ("build.compile-it", "/src/public", "/srv/public"),
        ("page", None, "/srv/page"),
    ]
    assert definition.image.files[0].owner == "33:33"
    assert (definition.image.packages, definition.service.port) == ((), None)
    assert [why.split(":")[0] for why in left.values()] == ["the version of 'gcc"]


def test_go_is_built_in_a_stage_where_its_modules_are_here(folder: Path) -> None:
    for name in ("go.mod", "go.sum"):
        (folder / name).unlink()
    definition, left = carried(folder, GO)
    assert definition.build == {}
    why = left["Dockerfile:8: COPY --from=build /out/server /server"]
    assert why.startswith("it comes out of 'build', where 'go' needs the network: have it beside the definition")
    assert left["Dockerfile:1: FROM golang:1.19 AS build"].startswith("stage 'build' (of golang:1.19): do what it does")
    (folder / "vendor").mkdir()
    definition, left = carried(folder, GO)
    assert definition.build["build"].run == ("cd /app && CGO_ENABLED=0 go build -o /out/server ./cmd",)
    assert definition.build["build"].packages == ("golang",)
    assert taken(definition) == [("build.build", "/out/server", "/server")]


def test_what_pip_installs_in_a_stage_is_the_images_own(folder: Path) -> None:
    definition, _ = carried(folder, PYTHON)
    assert definition.image.python == "requirements.txt"
    assert definition.image.packages == ("python3",)
    assert taken(definition) == [("app", None, "/app")]
    assert definition.build == {}


def test_stages_take_from_stages_and_others_are_said(folder: Path) -> None:
    definition, left = carried(folder, THREE)
    assert list(definition.build) == ["first", "second", "stage-2"]
    assert [(one.source, one.path, one.to) for one in definition.build["second"].files] == [
        ("build.first", "/one", "/two")
    ]
    assert definition.build["second"].run == ("echo one > /one",)
    assert taken(definition) == [("build.second", "/two", "/three")]
    assert (
        left["Dockerfile:9: COPY --from=2 /any/* /x/"] == "'/any/*': name what is taken out of build.stage-2 one by one"
    )
    assert left["Dockerfile:10: COPY --from=nginx:latest /etc/nginx/nginx.conf /etc/nginx/nginx.conf"].startswith(
        "it comes out of 'nginx:latest': have it beside the definition"
    )


@pytest.mark.parametrize(
    ("begin", "reason"),
    [("alpine:3", "it comes out of 'build':"), ("node:22", "it comes out of 'build', where 'npm' needs the network:")],
)
def test_a_stage_that_cannot_be_carried_over_is_none(folder: Path, begin: str, reason: str) -> None:
    text = f'FROM {begin} AS build\nRUN npm ci\nFROM debian:bookworm\nCOPY --from=build /dist /srv\nCMD ["x"]\n'
    definition, left = carried(folder, text)
    assert (definition.build, definition.image.files) == ({}, ())
    assert left["Dockerfile:4: COPY --from=build /dist /srv"].startswith(reason)


def test_as_many_stages_as_are_read_take_from_one_another(folder: Path) -> None:
    stages = [f"FROM debian:bookworm AS s{n}\nCOPY --from=s{n - 1} /x /x\n" for n in range(1, 50)]
    text = "".join(["FROM debian:bookworm AS s0\nRUN echo 1 > /x\n", *stages, 'CMD ["x"]\n'])
    definition, _ = carried(folder, text)
    assert len(definition.build) == 49
    assert definition.needed_stages == tuple(f"s{n}" for n in range(49))
    with pytest.raises(Refused, match="there are 51 stages in it; the most that are read are 50"):
        carried(folder, f"FROM debian:bookworm\n{text}")


def test_a_stage_that_copies_out_of_itself_ends(folder: Path) -> None:
    text = 'FROM debian:bookworm AS a\nCOPY --from=a /x /y\nFROM debian:bookworm\nCOPY --from=a /y /z\nCMD ["x"]\n'
    definition, left = carried(folder, text)
    assert taken(definition) == [("build.a", "/y", "/z")]
    assert "it comes out of 'a'" in left["Dockerfile:2: COPY --from=a /x /y"]


def test_what_go_and_cargo_lock_is_there_for_the_lines_of_a_stage(folder: Path) -> None:
    (folder / "go.sum").write_text("")
    definition, _ = carried(folder, GO)
    assert definition.build["build"].go == (".",)
    assert definition.build["build"].cargo == ()
    assert definition.build["build"].run == ("cd /app && CGO_ENABLED=0 go build -o /out/server ./cmd",)


NODE = """\
FROM node:22 AS build
WORKDIR /app
COPY package*.json ./
RUN npm ci && npm run build
FROM node:22
ENV NODE_ENV=production
WORKDIR /srv/app
COPY package.json package-lock.json ./
RUN npm ci
COPY --from=build /app/dist ./dist
CMD ["node", "dist/server.js"]
"""


def test_what_npm_locks_is_installed_in_the_image_and_in_a_stage(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_text("{}")
    definition, left = carried(folder, NODE)
    (of_stage,), (of_image,) = definition.build["build"].npm, definition.image.npm
    assert (of_stage.source, of_stage.to, of_stage.dev) == (".", "/app", True)
    assert (of_image.source, of_image.to, of_image.dev) == (".", "/srv/app", False)
    assert definition.build["build"].run == ("cd /app && npm run build",)
    assert definition.image.run == ()
    assert taken(definition) == [("build.build", "/app/dist", "/srv/app/dist")]
    assert not [why for why in left.values() if "npm" in why]


@pytest.mark.parametrize("line", ["npm install express", "npm ci && npm install -g pm2", "npm publish"])
def test_what_npm_does_without_a_lock_file_is_left(folder: Path, line: str) -> None:
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_text("{}")
    text = f'FROM node:22\nWORKDIR /app\nRUN {line}\nCMD ["x"]\n'
    _, left = carried(folder, text)
    assert any("'npm' needs the network" in why for why in left.values())


JAVA = """FROM maven:3.9-eclipse-temurin-17 AS build
WORKDIR /app
COPY pom.xml .
RUN mvn -B dependency:go-offline
COPY src ./src
RUN mvn -B -q clean package -DskipTests
FROM eclipse-temurin:17-jre
COPY --from=build /app/target/hello.jar /app.jar
ENTRYPOINT ["java", "-jar", "/app.jar"]
"""


def test_maven_builds_in_a_stage_where_its_project_is_here(folder: Path) -> None:
    _, left = carried(folder, JAVA)
    assert any("'mvn' needs the network" in why for why in left.values())
    (folder / "pom.xml").write_text("<project/>")
    definition, left = carried(folder, JAVA)
    stage = definition.build["build"]
    assert stage.packages == ("maven", "default-jdk-headless")
    assert stage.run == ("cd /app && mvn -B -q clean package -DskipTests",)
    assert [(one.source, one.goals) for one in stage.maven] == [(".", ("clean", "package", "-DskipTests"))]
    assert not any("mvn" in why for why in left.values())
