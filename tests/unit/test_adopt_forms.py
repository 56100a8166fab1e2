"""What public Dockerfiles do besides installing and copying → what a definition says in the place of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_adopt_dockerfile import adopted, carried


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "requirements.txt",
        "package.json",
        "package-lock.json",
        "Cargo.toml",
        "Cargo.lock",
        "go.mod",
        "go.sum",
    ):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "")
    (tmp_path / "src").mkdir()
    return tmp_path


def test_the_search_path_is_put_together_with_that_of_the_image(folder: Path) -> None:
    text = 'FROM python:3.11\nENV PATH="/opt/venv/bin:$PATH"\nRUN pip install -r requirements.txt\nCMD ["x"]\n'
    assert dict(carried(folder, text)[0].image.env) == {}
    text = 'FROM debian\nENV PATH=/opt/tool/bin:$PATH\nCMD ["x"]\n'
    path = "/opt/tool/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert dict(carried(folder, text)[0].image.env) == {"PATH": path}
    text = 'FROM python:3\nENV PATH=/opt/tool/bin:$PATH\nRUN pip install -r requirements.txt\nCMD ["x"]\n'
    assert dict(carried(folder, text)[0].image.env) == {"PATH": f"/opt/venv/bin:{path}"}


def test_arguments_of_the_build_are_known_in_its_lines(folder: Path) -> None:
    text = (
        "FROM debian\nARG UID=1234 PACKAGES='busybox curl' WORD='a b'\nENV LEVEL=1\n"
        'RUN apt-get install -y $PACKAGES && adduser --uid "${UID}" web && echo "$WORD" $LEVEL >/x\n'
        'USER web\nCMD ["x"]\n'
    )
    image = carried(folder, text)[0].image
    assert image.packages == ("busybox", "curl")
    assert (image.user.name, image.user.uid) == ("web", 1234)
    assert image.run == ("export WORD='a b' && echo \"$WORD\" $LEVEL >/x",)


def test_folders_that_files_were_copied_to_are_made_without_an_error(folder: Path) -> None:
    image = carried(folder, 'FROM debian\nRUN mkdir /code && mkdir -m 700 /x\nCOPY src /code\nCMD ["x"]\n')[0].image
    assert image.run == ("mkdir -p /code && mkdir -m 700 /x",)


def test_alpines_packages_that_are_known_are_debians(folder: Path) -> None:
    text = 'FROM node:18-alpine\nRUN apk add --no-cache tini libc6-compat git openssl-dev~=3 gd-x\nCMD ["x"]\n'
    definition, left = carried(folder, text)
    assert definition.image.packages == ("nodejs", "git", "libssl-dev")
    assert [why.split("'")[1] for why in left.values()] == ["gd-x"]


@pytest.mark.parametrize(
    ("image", "said"),
    [("python:3.11-slim", None), ("node:18.20-alpine", "has 18"), ("python:3.13-trixie", None), ("node:lts", None),
     ("golang:1.22", "Debian bookworm has 1.19"), ("rust:1.70", "has one of its own"), ("php:8.2-apache", None)],
)  # fmt: skip
def test_a_version_is_told_of_where_it_is_another(folder: Path, image: str, said: str | None) -> None:
    _, left = carried(folder, f'FROM {image}\nCMD ["x"]\n')
    assert not left if said is None else all(why.endswith(said) for why in left.values()) and left


def test_an_image_that_serves_by_itself_does_so(folder: Path) -> None:
    definition, left = carried(folder, "FROM nginx:latest\nCOPY src /usr/share/nginx/html\n")
    assert definition.service.command == ("nginx", "-g", "daemon off;") and definition.service.port == 80
    assert any("/etc/nginx/conf.d/default.conf" in line for line in definition.image.run) and left == {}
    text = "FROM php:8.2-apache\nRUN docker-php-ext-install gd pdo_mysql pcntl && a2enmod rewrite\nCOPY src ./\n"
    definition, left = carried(folder, text)
    assert definition.image.user.name == "www-data" and definition.service.jit
    assert definition.image.packages == ("apache2", "libapache2-mod-php", "php-cli", "php-gd", "php-mysql")
    assert (
        definition.image.files[0].to == "/var/www/html"
        and definition.image.run[0] == "cd /var/www/html && a2enmod rewrite"
    )
    assert left == {}
    definition, _ = carried(folder, "FROM redis:7\n")
    assert (definition.service.protocol, definition.service.port) == ("tcp", 6379)


def test_what_makes_code_while_it_runs_says_so(folder: Path) -> None:
    assert carried(folder, 'FROM node:18\nCMD ["x"]\n')[0].service.jit
    assert not carried(folder, 'FROM python:3.11\nCMD ["x"]\n')[0].service.jit


def test_what_every_instance_has_of_its_own_is_no_volume(folder: Path) -> None:
    text = 'FROM debian\nVOLUME ["/tmp", "/run/x", "/var/run", "/data", "/tmpl"]\nCMD ["x"]\n'
    assert [one.path for one in carried(folder, text)[0].service.volumes] == ["/data", "/tmpl"]


def test_a_document_is_written_by_a_line(folder: Path) -> None:
    text = (
        'FROM debian\nENV NAME=x\nCOPY --chmod=755 <<EOF /srv/a/run.sh\n#!/bin/sh\n\necho "$NAME it\'s"\nEOF\n'
        "COPY <<'END' /etc/\n$NAME\nEND\nCMD [\"x\"]\n"
    )
    first, second = carried(folder, text)[0].image.run
    assert first == (
        "mkdir -p /srv/a && printf '%s\\n' '#!/bin/sh' '' 'echo \"x it'\"'\"'s\"' > /srv/a/run.sh"
        " && chmod 755 /srv/a/run.sh"
    )
    assert second == "mkdir -p /etc && printf '%s\\n' '$NAME' > /etc/END"


def test_a_pattern_that_stands_for_nothing_beside_others_is_no_matter(folder: Path) -> None:
    definition, left = carried(folder, 'FROM debian\nWORKDIR /app\nCOPY package.json yarn.lock* ./\nCMD ["x"]\n')
    assert [one.to for one in definition.image.files] == ["/app/package.json"] and left == {}


NEXT = """FROM node:18-alpine AS base
FROM base AS deps
RUN apk add --no-cache libc6-compat
WORKDIR /app
COPY package.json yarn.lock* package-lock.json* pnpm-lock.yaml* ./
RUN \\
  if [ -f yarn.lock ]; then yarn --frozen-lockfile; \\
  elif [ -f package-lock.json ]; then npm ci; \\
  else echo "Lockfile not found." && exit 1; \\
  fi
FROM base AS builder
WORKDIR /app
COPY --from=deps /app/node_modules ./node_modules
COPY . .
RUN npm run build
FROM base AS runner
WORKDIR /app
COPY --from=builder /app/dist ./
CMD ["node", "server.js"]
"""


def test_a_lock_file_that_is_chosen_among_several_is_that_which_is_here(folder: Path) -> None:
    definition, left = carried(folder, NEXT)
    deps, builder = definition.build["deps"], definition.build["builder"]
    assert [(one.source, one.to, one.dev) for one in deps.npm] == [(".", "/app", True)]
    assert (builder.run, builder.packages) == (("cd /app && npm run build",), ("nodejs", "npm"))
    assert [(one.source, one.path) for one in builder.files] == [("build.deps", "/app/node_modules"), (".", None)]
    assert [(one.path, one.to) for one in definition.image.files] == [("/app/dist", "/app")] and left == {}


RUST = """FROM rust:bookworm AS builder
WORKDIR /usr/src/hello
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo "fn main() {}" > src/main.rs && cargo build --release && rm -rf src
COPY . .
RUN cargo build --release
FROM debian:bookworm-slim
COPY --from=builder /usr/src/hello/target/release/hello /app/
CMD ["/app/hello"]
"""


def test_crates_are_compiled_once_with_the_sources(folder: Path) -> None:
    definition, left = carried(folder, RUST)
    stage = definition.build["builder"]
    assert (stage.run, stage.cargo) == (("cd /usr/src/hello && cargo build --release",), (".",))
    assert stage.packages == ("rustc-web", "cargo-web")
    assert [(one.path, one.to) for one in definition.image.files] == [
        ("/usr/src/hello/target/release/hello", "/app/hello")
    ]
    assert left == {}


GO = """FROM golang:1.19-alpine AS builder
RUN apk add --no-cache git ca-certificates && update-ca-certificates
ENV UID=10002
RUN adduser --disabled-password --gecos "" --uid "${UID}" appuser
WORKDIR $GOPATH/src/app
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY . .
RUN CGO_ENABLED=0 go build -o /out/server .
FROM scratch
COPY --from=builder /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=builder /etc/ssl/certs /etc/ssl/certs
COPY --from=builder /etc/passwd /etc/group /etc/
COPY --from=builder /out/server /
USER appuser
ENTRYPOINT ["/server"]
"""


def test_an_image_on_nothing_has_certificates_zones_and_its_user(folder: Path) -> None:
    definition, left = carried(folder, GO)
    stage = definition.build["builder"]
    assert stage.packages == ("golang", "git", "ca-certificates", "tzdata")
    assert stage.run[-1].startswith("cd /go/src/app && CGO_ENABLED=0 go build")
    assert [(one.path, one.to, one.exclude) for one in definition.image.files] == [
        ("/usr/share/zoneinfo", "/usr/share/zoneinfo", ("/localtime",)),
        ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt", ()),
        ("/out/server", "/server", ()),
    ]
    assert (definition.image.user.name, definition.image.user.uid) == ("appuser", 10002)
    assert left == {}


def test_nothing_is_said_twice(folder: Path) -> None:
    text, _ = adopted(
        folder, "FROM node:99 AS a\nRUN echo >/x\nFROM a AS b\nRUN echo >/y\nFROM a\nCOPY --from=b /y /\n"
    )
    assert text.count("the version of 'node:99'") == 1
