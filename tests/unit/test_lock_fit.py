from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from lock_values import LOCK, author_writes, package, wheel

from instar.definition import parse
from instar.errors import DefinitionError, LockStale
from instar.lock.fit import require_fit
from instar.model.lock import ASKED, ESSENTIAL, Lock, needed_by


def moved(tmp_path: Path, **written: str | None) -> list[str]:
    """Return the lines that moved, without the folder in them."""
    with pytest.raises(LockStale) as caught:
        require_fit(LOCK, author_writes(tmp_path, **written))  # type: ignore[arg-type]
    assert "instar lock" in (caught.value.hint or "")
    first, *lines = str(caught.value).splitlines()
    assert first == "cannot use 'instar.lock': it no longer fits the definition"
    return [line.replace(f"{tmp_path}/", "") for line in lines]


def test_a_lock_fits_what_it_was_made_for(tmp_path: Path) -> None:
    require_fit(LOCK, author_writes(tmp_path))


def test_order_comments_and_white_space_make_no_difference(tmp_path: Path) -> None:
    require_fit(LOCK, author_writes(tmp_path, "[perl=5.36, curl]", "# more\nuvicorn  # server\n\nflask==2.2\n"))


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ({"packages": "[curl, perl=5.36, nginx]"}, ["instar.yaml:4:31: package 'nginx' is not in instar.lock"]),
        ({"packages": "[curl, perl]"}, ["instar.yaml:4:20: package 'perl' was 'perl=5.36' when locked"]),
        (
            {"packages": "[perl=5.36]"},
            ["instar.yaml:4:3: package 'curl' is in instar.lock and no longer here"],
        ),
        ({"base": "debian:trixie"}, ["instar.yaml:3:9: base 'debian:trixie' was 'debian:bookworm' when locked"]),
        (
            {"requirements": "uvicorn\nflask==2.3\n"},
            ["requirements.txt:2: 'flask==2.3' was 'flask==2.2' when locked"],
        ),
        (
            {"requirements": "flask==2.2\nuvicorn\nhttpx\n"},
            ["requirements.txt:3: 'httpx' is not in instar.lock"],
        ),
        (
            {"requirements": "uvicorn\n"},
            ["requirements.txt: 'flask==2.2' is in instar.lock and no longer here"],
        ),
        ({"requirements": None}, ["instar.yaml:2:1: python is in instar.lock and no longer here"]),
        (
            {"packages": "[curl]", "requirements": "flask==2.2\nuvicorn[standard]\n"},
            [
                "instar.yaml:4:3: package 'perl=5.36' is in instar.lock and no longer here",
                "requirements.txt:2: 'uvicorn[standard]' was 'uvicorn' when locked",
            ],
        ),
    ],
)
def test_what_moved_is_told_with_its_line(tmp_path: Path, written: dict[str, str | None], lines: list[str]) -> None:
    assert moved(tmp_path, **written) == lines


def explained(**reasons: str) -> Lock:
    """The lock, each of its entries asked for, unless ``reasons`` say otherwise; names that it lacks are added."""
    packages = [
        dataclasses.replace(one, why=reasons.get(one.name, ESSENTIAL if one.step == "base" else ASKED))
        for one in (*LOCK.packages, *(package(name) for name in reasons if name.startswith("lib")))
    ]
    wheels = [
        dataclasses.replace(one, why=reasons.get(one.name, needed_by("uvicorn") if one.name == "h11" else ASKED))
        for one in (*LOCK.wheels, *(wheel(name) for name in reasons if name.startswith("py")))
    ]
    return dataclasses.replace(LOCK, packages=tuple(packages), wheels=tuple(wheels))


def test_a_lock_whose_entries_all_have_a_reason_fits(tmp_path: Path) -> None:
    require_fit(explained(libcurl4="needed by curl", libnghttp="needed by libcurl4"), author_writes(tmp_path))


@pytest.mark.parametrize(
    ("reasons", "lines"),
    [
        ({"libevil": ASKED}, ["the package 'libevil' is there, and nothing asks for it"]),
        ({"libevil": ESSENTIAL}, ["the package 'libevil' is there, and nothing asks for it"]),
        (
            {"libone": "needed by libother", "libother": "needed by libone"},
            [f"the package '{name}' is there, and nothing asks for it" for name in ("libone", "libother")],
        ),
        ({"libx": "needed by nobody"}, ["the package 'libx' is there, and nothing asks for it"]),
        ({"pyevil": ASKED}, ["the wheel 'pyevil' is there, and nothing asks for it"]),
        ({"pyevil": "needed by curl"}, ["the wheel 'pyevil' is there, and nothing asks for it"]),
    ],
)
def test_an_entry_that_nothing_asks_for_is_refused_by_name(
    tmp_path: Path, reasons: dict[str, str], lines: list[str]
) -> None:
    with pytest.raises(LockStale) as caught:
        require_fit(explained(**reasons), author_writes(tmp_path))
    assert str(caught.value).splitlines()[1:] == [f"instar.lock: {line}" for line in lines]


def test_what_is_asked_for_and_has_no_entry_is_told(tmp_path: Path) -> None:
    loaded = author_writes(tmp_path, requirements="flask==2.2\nuvicorn\npywin32; sys_platform == 'win32'\n")
    lines = ("flask==2.2", "uvicorn", "pywin32; sys_platform == 'win32'")
    lock = dataclasses.replace(
        LOCK,
        requested=dataclasses.replace(LOCK.requested, requirements=lines),
        packages=LOCK.packages[:1] + LOCK.packages[2:],
        wheels=LOCK.wheels[1:],
    )
    with pytest.raises(LockStale) as caught:
        require_fit(lock, loaded)
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines()[1:] == [
        "instar.yaml:4:14: 'curl' has no entry in instar.lock",
        "requirements.txt:1: 'flask==2.2' has no entry in instar.lock",
    ]


def test_python_that_was_not_there_is_told(tmp_path: Path) -> None:
    lock = dataclasses.replace(LOCK, python=None, wheels=())
    with pytest.raises(LockStale, match=r"instar\.yaml:5:11: python 'requirements\.txt' is not in instar\.lock"):
        require_fit(lock, author_writes(tmp_path))


def test_a_wrong_requirements_file_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"requirements\.txt:1:1: cannot use '-e'"):
        require_fit(LOCK, author_writes(tmp_path, requirements="-e .\n"))


def test_a_lock_for_another_architecture_is_refused(tmp_path: Path) -> None:
    lock = dataclasses.replace(LOCK, architecture="s390x")
    with pytest.raises(LockStale, match=r"it was made for s390x, and this machine is (amd64|arm64)"):
        require_fit(lock, author_writes(tmp_path))


def staged(tmp_path: Path, lock: Lock, stages: str) -> list[str]:
    """Return what does not fit a definition with these stages, without the folder in it."""
    loaded = author_writes(tmp_path)
    text = loaded.text.replace("image:", f"build:\n{stages}image:")
    try:
        require_fit(lock, parse(text, str(tmp_path / "instar.yaml")))
    except LockStale as error:
        return [line.replace(f"{tmp_path}/", "") for line in str(error).splitlines()[1:]]
    return []


def test_each_stage_has_what_was_locked_for_it(tmp_path: Path) -> None:
    one = "  one: {base: debian:bookworm, packages: [curl, perl=5.36], python: requirements.txt}\n"
    locked = dataclasses.replace(LOCK, build={"one": LOCK})
    assert staged(tmp_path, locked, one) == []
    assert staged(tmp_path, locked, one.replace("curl", "gcc")) == [
        "instar.yaml:3:43: package 'gcc' is not in instar.lock",
        "instar.yaml:3:32: package 'curl' is in instar.lock and no longer here",
    ]
    assert staged(tmp_path, locked, one.replace("bookworm", "trixie")) == [
        "instar.yaml:3:15: base 'debian:trixie' was 'debian:bookworm' when locked"
    ]
    assert staged(tmp_path, locked, f"{one}  two: {{base: debian:bookworm}}\n") == [
        "instar.yaml:4:3: stage 'two' is not in instar.lock"
    ]
    assert staged(tmp_path, dataclasses.replace(LOCK, build={"one": LOCK, "two": LOCK}), one) == [
        "instar.yaml:2:1: stage 'two' is in instar.lock and no longer here"
    ]
    planted = dataclasses.replace(
        explained(), packages=(*explained().packages, dataclasses.replace(package("evil"), why=needed_by("x")))
    )
    assert staged(tmp_path, dataclasses.replace(LOCK, build={"one": planted}), one) == [
        "instar.lock: build.one the package 'evil' is there, and nothing asks for it"
    ]
