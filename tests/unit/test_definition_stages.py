"""Stages of a build: each rule by a definition that breaks it alone, and which stages are needed."""

from __future__ import annotations

import pytest
from definition_problems import problems_of

from instar.definition import parse
from instar.definition.parts import needed_parts_of, parts_of
from instar.operations.validate import warnings

REST = "service: {command: [./shop]}\nenvironments: {dev: {}}\n"


def text_of(first: str = "", second: str = "", image: str = "") -> str:
    return (
        "name: shop\nbuild:\n"
        f"  first: {{base: debian:bookworm{first}}}\n  second: {{base: debian:trixie{second}}}\n"
        f"image: {{base: debian:bookworm{image}}}\n{REST}"
    )


def files(*entries: str) -> str:
    return f", files: [{', '.join(f'{{{entry}}}' for entry in entries)}]"


TAKEN = "from: build.first, path: /out, to: /srv"


def test_stages_are_read_in_their_order_and_the_image_is_the_last() -> None:
    loaded = parse(text_of(", run: [make]", files(TAKEN), files(TAKEN, "from: app, to: /app")), "f")
    assert [(part.stage, part.made.base) for part in parts_of(loaded)] == [
        ("first", "debian:bookworm"), ("second", "debian:trixie"), (None, "debian:bookworm"),
    ]  # fmt: skip
    assert [one.stage for one in loaded.definition.image.files] == ["first", None]
    assert parts_of(loaded)[0].place("run", 0) == "f:3:40"


@pytest.mark.parametrize(
    ("second", "image", "needed"),
    [
        ("", "", []),
        (files(TAKEN), "", []),
        (files(TAKEN), files(TAKEN), ["first"]),
        ("", files("from: build.second, path: /x, to: /x"), ["second"]),
        (files(TAKEN), files("from: build.second, path: /x, to: /x"), ["first", "second"]),
    ],
)
def test_a_stage_is_needed_that_the_image_has_something_of(second: str, image: str, needed: list[str]) -> None:
    loaded = parse(text_of("", second, image), "f")
    assert [part.stage for part in needed_parts_of(loaded)] == [*needed, None]
    unused = [name for name in ("first", "second") if name not in needed]
    assert [text.split(": ")[1] for text in warnings(loaded)] == [f"stage '{name}' is not baked" for name in unused]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            text_of(files("from: build.first, path: /x, to: /x")),
            "3:49: build.first.files.from: a stage takes nothing out of itself: what its own steps made is there",
        ),
        (
            text_of(files("from: build.second, path: /x, to: /x")),
            "3:49: build.first.files.from: stage 'second' comes after 'first'; a stage takes from those above it: move"
            " 'second' up",
        ),
        (
            text_of(image=files("from: build.frist, path: /x, to: /x")),
            "5:47: image.files.from: there is no stage 'frist'; did you mean 'build.first'?",
        ),
        (
            text_of(image=files("from: build.elsewhere, path: /x, to: /x")),
            "image.files.from: there is no stage 'elsewhere'; expected build.first or build.second",
        ),
        (
            text_of(files("from: build.elsewhere, path: /x, to: /x")),
            "build.first.files.from: there is no stage 'elsewhere'; no stage stands above",
        ),
        (
            text_of(image=files("from: build.first, to: /x")),
            "5:47: image.files.from: 'path' is missing: which file or folder of stage 'first' is it?",
        ),
        (
            text_of(image=files("from: app, path: /x, to: /x")),
            "5:58: image.files.path: 'app' is no stage; of your own files it is a part of 'from'; a stage is named as"
            " 'from: build.NAME'",
        ),
        (
            text_of(image=files("from: build.first, path: out, to: /x")),
            "image.files.path: expected an absolute path in the image, such as '/srv/app', found 'out'",
        ),
        (
            text_of(image=files("from: build.first, path: /a/../b, to: /x")),
            "image.files.path: expected an absolute path in the image",
        ),
        (
            text_of(files("from: app, to: /x, owner: app")),
            "build.first.files.owner: expected 'root' or numbers such as '33:33', found 'app'; a stage has no user",
        ),
        (
            text_of().replace("debian:trixie", "scratch"),
            "4:18: build.second.base: there is nothing in a stage on 'scratch' without 'files' or 'fetch'",
        ),
        (text_of(", user: app"), "build.first: there is no 'user' here; lines of a stage are run by root"),
        (
            text_of(", command: [x]"),
            "build.first: there is no 'command' here; what a stage runs are the lines of its 'run'",
        ),
        (text_of().replace("first:", "First:"), "3:3: build: expected a name of a-z"),
        (text_of().replace("debian:trixie", "trixie"), "build.second.base: expected"),
        (
            f"name: shop\nbuild: {{first: {{}}}}\nimage: {{base: debian:bookworm}}\n{REST}",
            "2:9: build.first: 'base' is missing",
        ),
        (
            f"name: shop\nbuild: []\nimage: {{base: debian:bookworm}}\n{REST}",
            "2:1: build: expected a section with one section for each stage, such as 'compile', found a list",
        ),
    ],
)
def test_what_stages_may_not(text: str, expected: str) -> None:
    [problem] = problems_of(text)
    assert expected in problem


@pytest.mark.parametrize("tools", ["apt", "shell"])
def test_tools_are_taken_out_of_the_image_alone(tools: str) -> None:
    (problem,) = problems_of(text_of(f", strip: [docs, {tools}]"))
    assert f"build.first.strip: '{tools}' is for the image" in problem
    assert not problems_of(text_of(", strip: [docs]", image=f", strip: [{tools}]"))


@pytest.mark.parametrize(
    ("built", "problem"),
    [
        ("{first: [acme]}", ""),
        ("{second: [acme], first: [other]}", ""),
        ("{frist: [acme]}", "there is no stage 'frist' above; did you mean 'first'?"),
        ("{first: [acme], second: [Acme]}", "'acme' is built in 'first' and in 'second'"),
        ("{first: ['acme-*']}", "each is named"),
        ("{first: []}", "found an empty list"),
    ],
)
def test_wheels_are_built_in_a_stage_above(built: str, problem: str) -> None:
    python = f", python: {{requirements: r.txt, from_source: {built}}}"
    found = problems_of(text_of("", "", python))
    assert (found and problem in found[0]) if problem else found == []


def test_no_stage_builds_wheels_for_one_above_it() -> None:
    found = problems_of(text_of(", python: {requirements: r.txt, from_source: {second: [acme]}}"))
    assert len(found) == 1 and "there is no stage 'second' above; no stage stands above" in found[0]


def test_a_stage_that_builds_wheels_alone_is_no_surprise() -> None:
    python = ", python: {requirements: r.txt, from_source: {first: [acme]}}"
    found = list(warnings(parse(text_of(image=python), "f")))
    assert len(found) == 1 and "stage 'second' is not baked" in found[0]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("command: [node, server.js]", "'node' makes code while it runs"),
        ("command: [/usr/bin/java, -jar, x]", "'/usr/bin/java' makes code while it runs"),
        ("command: [node, x], jit: true", None),
        ("command: [python3, node.py]", None),
    ],
)
def test_a_program_that_makes_code_is_told_of_before_drift_does(service: str, said: str | None) -> None:
    found = list(warnings(parse(f"name: shop\nimage: {{base: debian:bookworm}}\nservice: {{{service}}}\n", "f")))
    assert [said in text for text in found] == ([True] if said else [])
