"""Dockerfiles of the usual forms → definitions: what is carried over, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.adopt import carry_over
from instar.definition import parse
from instar.errors import DefinitionError, Refused, UsageError
from instar.model.definition import Definition

FLASK = r"""# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 \
    GREETING="hello there"
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends \
    # for the database
    libpq5 curl=7.88* \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache pip install --no-cache-dir -r requirements.txt
COPY --chown=web:web . .
RUN useradd -m -u 1001 web && mkdir -p /srv/data
USER web
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s CMD curl -f http://localhost:8000/healthz || exit 1
STOPSIGNAL SIGINT
VOLUME /srv/data
ENTRYPOINT ["gunicorn"]
CMD ["--bind", "0.0.0.0:8000", "app:app"]
"""
GO = """ARG GO_VERSION=1.22
FROM golang:${GO_VERSION} AS build
COPY . .
RUN go build -o /out/server
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/server /server
USER nonroot:nonroot
EXPOSE 8080/tcp 9090
ENTRYPOINT ["/server"]
"""
STAGES = """FROM debian:12-slim AS base
RUN apt-get install -y busybox
WORKDIR /srv
FROM base AS other
RUN echo not here
FROM base
COPY site/ site/
CMD busybox httpd -f -p 8080
EXPOSE 8080
"""
DOCUMENT = """FROM debian:trixie
RUN <<EOF
apt-get update
apt-get install -y python3
echo 'hello world' > /hello
EOF
CMD ["sleep", "1"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    for name in ("requirements.txt", "app.py", "a.conf", "b.conf", "x.tar.gz"):
        (tmp_path / name).write_text("flask\n")
    return tmp_path


def adopted(folder: Path, text: str, file: str = "Dockerfile") -> tuple[str, dict[str, str]]:
    """Return the definition's text, and what is left: where it stands → what to do."""
    (folder / file).write_text(text)
    draft = carry_over(folder / file, folder, "shop")
    return draft.text(), {str(origin): why for origin, why in draft.left}


def carried(folder: Path, text: str) -> tuple[Definition, dict[str, str]]:
    text, left = adopted(folder, text)
    return parse(text, str(folder / "instar.yaml")).definition, left


def test_a_service_of_python(folder: Path) -> None:
    definition, left = carried(folder, FLASK)
    image, service = definition.image, definition.service
    assert (image.base, image.packages) == ("debian:bookworm", ("python3", "libpq5", "curl=7.88*"))
    assert (image.python, image.run) == ("requirements.txt", ("cd /app && mkdir -p /srv/data",))
    assert [(one.source, one.to, one.owner) for one in image.files] == [
        ("requirements.txt", "/app/requirements.txt", "root"), (".", "/app", "web")
    ]  # fmt: skip
    assert dict(image.env) == {"PYTHONUNBUFFERED": "1", "GREETING": "hello there"}
    assert (image.user.name, image.user.uid) == ("web", 1001)
    assert service.command == ("gunicorn", "--bind", "0.0.0.0:8000", "app:app")
    assert (service.workdir, service.port, service.stop.signal) == ("/app", 8000, "SIGINT")
    assert (service.health.path, service.health.timeout_ms) == ("/healthz", 3_000)
    assert [(one.name, one.path) for one in service.volumes] == [("data", "/srv/data")]
    assert left == {}


def test_only_what_the_last_stage_begins_with_is_carried_over(folder: Path) -> None:
    definition, left = carried(folder, STAGES)
    assert (definition.image.packages, definition.image.run) == (("busybox",), ())
    assert [(one.source, one.to) for one in definition.image.files] == [("site", "/srv/site")]
    assert definition.service.command == ("sh", "-c", "busybox httpd -f -p 8080")
    (where,) = left
    assert where == "Dockerfile:4: FROM base AS other"


def test_what_another_stage_builds_is_said(folder: Path) -> None:
    definition, left = carried(folder, GO)
    assert definition.service.command == ("/server",)
    assert left["Dockerfile:2: FROM golang:${GO_VERSION} AS build"].startswith(
        "stage 'build' (of golang:1.22): do what"
    )
    copied = left["Dockerfile:6: COPY --from=build /out/server /server"]
    assert copied.endswith("copy it: {from: …, to: /server}")
    assert left["Dockerfile:8: EXPOSE 8080/tcp 9090"].startswith(
        "'9090': if it listens there too, add service.ports: {port-9090: 9090}, and a door: environments.ENV.listen"
    )


def test_a_here_document_is_read_line_by_line(folder: Path) -> None:
    definition, left = carried(folder, DOCUMENT)
    assert (definition.image.base, definition.image.packages) == ("debian:trixie", ("python3",))
    assert definition.image.run == ("echo 'hello world' > /hello",)
    assert left == {}


@pytest.mark.parametrize(
    ("line", "part", "why"),
    [
        ("RUN npm ci", "npm", "needs the network"),
        ("RUN cd x && go build ./...", "go build", "needs the network"),
        ("RUN curl -fsSL https://example.org/x | sh", "curl", "in image.fetch"),
        ("RUN apk add --no-cache tini gd", "gd", "which apk calls so"),
        ("RUN pip install flask==3", "flask==3", "write it into a file that image.python names"),
        ("RUN pip install -e .", "-e .", "name what it needs"),
        ("ADD https://example.org/x /x", "https", "in image.fetch"),
        ("ADD x.tar.gz /x", "x.tar.gz", "was unpacked"),
        ("COPY ../up /x", "../up", "leads out"),
        ("COPY nothing /x", "nothing", "there is no 'nothing' here"),
        ("COPY . /", "COPY . /", "nothing is copied over the whole image"),
        ("USER root", "root", "never as root"),
        ("ENV DB_PASSWORD=x", "DB_PASSWORD", "looks like a secret"),
        ("EXPOSE 53/udp", "53/udp", "requests come to ports of TCP"),
        ("ONBUILD RUN x", "ONBUILD", "there is no key for it"),
        ("RUN set -eux; if true; then npm ci; fi", "npm", "needs the network"),
        ("RUN X=1 apt-get install -y gd || true", "gd", "under image.packages"),
        ("RUN if true; then sudo pip install gd; fi", "gd", "as image.python"),
        ("EXPOSE \u00b2", "\u00b2", "requests come to ports of TCP"),
        ("COPY **.no /x/", "**.no", "there is no '**.no' here"),
        ("what is this", "WHAT is this", "there is no key for it"),
    ],
)
def test_what_cannot_be_carried_over_is_said_with_what_to_do(folder: Path, line: str, part: str, why: str) -> None:
    definition, left = carried(folder, f'FROM debian:bookworm\n{line}\nCMD ["x"]\n')
    assert definition.service.command == ("x",)
    assert any(where.startswith("Dockerfile:2") and part in where + told and why in told
               for where, told in left.items()), left  # fmt: skip


def test_a_line_that_is_more_than_a_list_of_commands_stays_whole(folder: Path) -> None:
    lines = ("a || b && c", "set -e; for i in a; do x; done", "apt-get update && if x; then y; fi", "a '",
             "if x; then git config a b; fi",
             "if x; then apt-get update; fi", "(a; b) > c", 'echo "a && b" > c')  # fmt: skip
    definition, _ = carried(folder, "FROM debian\n" + "".join(f"RUN {line}\n" for line in lines) + 'CMD ["x"]\n')
    assert definition.image.run == lines


def test_where_a_command_prints_is_none_of_its_packages(folder: Path) -> None:
    line = "RUN apt-get update -qq >/dev/null 2>&1 && apt-get install -y gd >/dev/null tini 2>&1 && x >&2 && y > /z"
    definition, left = carried(folder, f'FROM debian\n{line} 2> /dev/null\nCMD ["x"]\n')
    assert definition.image.packages == ("gd", "tini") and left == {}
    assert definition.image.run == ("x >&2 && y > /z 2> /dev/null",)


@pytest.mark.parametrize(
    "begins", ['"/sbin/tini", "--"', '"tini", "-g", "--"', '"/usr/bin/dumb-init"', '"dumb-init", "--"']
)
def test_a_little_init_is_left_out(folder: Path, begins: str) -> None:
    definition, left = carried(folder, f'FROM debian\nRUN apk add tini\nENTRYPOINT [{begins}]\nCMD ["x", "--", "y"]\n')
    assert definition.service.command == ("x", "--", "y") and left == {}


def test_several_files_and_patterns_go_into_a_folder(folder: Path) -> None:
    definition, _ = carried(folder, 'FROM debian\nWORKDIR /etc/x\nCOPY --chmod=640 **.conf ./\nCMD ["x"]\n')
    assert [(one.source, one.to, one.mode) for one in definition.image.files] == [
        ("a.conf", "/etc/x/a.conf", 0o640), ("b.conf", "/etc/x/b.conf", 0o640)
    ]  # fmt: skip


def test_variables_are_put_in_as_docker_does(folder: Path) -> None:
    text = 'FROM debian\nARG A=1\nENV B=${A:-2}-${C:-3} D=${A:+yes}$E F=\\$A\nCMD ["x"]\n'
    definition, _ = carried(folder, text)
    assert dict(definition.image.env) == {"B": "1-3", "D": "yes", "F": "$A"}


def test_variables_that_stand_for_ever_more_are_refused(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM debian\nENV A=xx\n" + "ENV A=$A$A\n" * 60)
    with pytest.raises(Refused, match=r"its variables stand for more than 65,536 characters"):
        carry_over(folder / "Dockerfile", folder, "shop")


def test_numbers_are_ascii_and_few(folder: Path) -> None:
    definition, _ = carried(folder, f'FROM debian\nRUN useradd -u \u00b2 -g {"9" * 5000} web\nUSER web\nCMD ["x"]\n')
    assert (definition.image.user.name, definition.image.user.uid) == ("web", None)


def test_back_in_the_root_there_is_no_workdir_to_say(folder: Path) -> None:
    definition, _ = carried(folder, 'FROM debian\nWORKDIR /srv\nWORKDIR /\nCMD ["x"]\n')
    assert definition.service.workdir == "/"


def test_patterns_of_dockerignore_are_kept(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# no\n*.pyc\n!keep.pyc\n**/tests\n")
    definition, _ = carried(folder, 'FROM debian\nCOPY . /srv\nCMD ["x"]\n')
    assert definition.image.files[0].exclude == ("/*.pyc", "!/keep.pyc", "**/tests", "Dockerfile", ".dockerignore")


def test_without_a_command_the_author_is_asked_for_one(folder: Path) -> None:
    text, _ = adopted(folder, "FROM debian:12\nEXPOSE 80\n")
    with pytest.raises(DefinitionError, match=r"service\.command"):
        parse(text, "instar.yaml")
    assert 'listen: "127.0.0.1:8080"' in text


@pytest.mark.parametrize(
    "text",
    [
        'FROM debian\nENV A="x: y # z"\n'
        'CMD ["a: b", "#c", "- d", "yes", "1", "\\u001b[2J", "\U0001f600 \u00e9", "{e}", "\'", "\\""]\n',
        'FROM debian\nRUN echo "\u2028 \x85 \x1b[2J"\nCMD ["x"]\n',
        "FROM debian\nLABEL x=y\nMAINTAINER z\nCMD x\n",
        "FROM debian\rRUN x\rCMD x\r",
        f"FROM debian\nCMD {'[' * 20_000}\n",
    ],
)
def test_whatever_stands_in_it_stays_a_text(folder: Path, text: str) -> None:
    made, _ = adopted(folder, text)
    definition = parse(made, "instar.yaml").definition
    assert made.replace("\n", "").isprintable()
    if "a: b" in text:
        assert definition.service.command == (
            "a: b",
            "#c",
            "- d",
            "yes",
            "1",
            "\x1b[2J",
            "\U0001f600 \u00e9",
            "{e}",
            "'",
            '"',
        )


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("Dockerfile", "RUN x\n", "there is no FROM in it"),
        ("Dockerfile", "", "there is no FROM in it"),
        ("Containerfile.dev", "\udcff", "not UTF-8"),
        ("notes.txt", "FROM debian", "it is not called like a Dockerfile, a compose file or a Procfile"),
    ],
)
def test_what_is_none_is_refused(folder: Path, file: str, text: str, says: str) -> None:
    (folder / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Refused, match=says):
        carry_over(folder / file, folder, "shop")


def test_no_link_is_followed(folder: Path) -> None:
    (folder / "secret").write_text("FROM debian\nCMD x\n")
    (folder / "Dockerfile").symlink_to(folder / "secret")
    with pytest.raises(UsageError, match="cannot read"):
        carry_over(folder / "Dockerfile", folder, "shop")


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("scratch", "scratch"),
        ("registry.example.org/team/base:1.2", "oci:registry.example.org/team/base:1.2"),
        ("10.0.0.5:5000/base", "oci:10.0.0.5:5000/base:latest"),
        ("registry.example.org/base:1@sha256:" + "a" * 64, "oci:registry.example.org/base@sha256:" + "a" * 64),
        ("docker.io/library/debian:12", "debian:bookworm"),
        ("team/python:3", "debian:bookworm"),
    ],
)
def test_what_it_stands_on(folder: Path, image: str, base: str) -> None:
    text = f"FROM {image} AS x\nFROM x\nCOPY app.py /\nCMD /app.py\n"
    (folder / "Dockerfile").write_text(text)
    carried = carry_over(folder / "Dockerfile", folder, "web")
    assert parse(carried.text(), "instar.yaml").definition.image.base == base


def test_packages_go_onto_an_image_of_others(folder: Path) -> None:
    (folder / "requirements.txt").write_text("flask\n")
    text = "FROM registry.example.org/base:1\nRUN apt-get install -y curl && pip install -r requirements.txt\nCMD /x\n"
    (folder / "Dockerfile").write_text(text)
    image = parse(carry_over(folder / "Dockerfile", folder, "web").text(), "instar.yaml").definition.image
    assert (image.packages, image.python) == (("curl",), "requirements.txt")


def test_packages_on_nothing_are_left(folder: Path) -> None:
    text = "FROM scratch\nRUN apt-get install -y curl && pip install -r requirements.txt\nCMD /x\n"
    (folder / "Dockerfile").write_text(text)
    carried = carry_over(folder / "Dockerfile", folder, "web")
    image = parse(carried.text(), "instar.yaml").definition.image
    assert (image.packages, image.python) == ((), None)
    assert [why.partition(":")[0] for _, why in carried.left] == ["'curl'", "'-r requirements.txt'"]
