"""Which lines of what a failed command printed say why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.bake import transcript

DPKG = [
    *(f"Setting up good-{number} (1) ..." for number in range(30)),
    "Setting up mariadb-server (1:10.11) ...",
    "fatal: cannot make a group",
    "dpkg: error processing package mariadb-server (--configure):",
    " installed mariadb-server package post-installation script subprocess returned error exit status 1",
    *(f"dpkg: dependency problems prevent configuration of other-{number}:" for number in range(50)),
    "dpkg: error processing package other-1 (--configure):",
    " dependency problems - leaving unconfigured",
    "Errors were encountered while processing:",
]


def test_of_dpkg_it_is_the_first_package_that_failed() -> None:
    assert transcript.matter(iter(DPKG)) == tuple(DPKG[30:34])


def test_of_a_long_script_it_is_its_end() -> None:
    lines = ["Setting up one (1) ...", *map(str, range(100)), "dpkg: error processing archive x.deb (--unpack):"]
    assert transcript.matter(iter(lines)) == (*map(str, range(81, 100)), lines[-1])


def test_of_others_it_is_the_last_lines_and_before_them_the_first_fault() -> None:
    lines = [*(f"compiling {number}" for number in range(50)), "main.c:3: error: no such file", "in main",
             *(f"skipping {number}" for number in range(90)), "make: stopped"]  # fmt: skip
    found = transcript.matter(iter(lines))
    assert found[:2] == ("main.c:3: error: no such file", "in main")
    assert found[5] == "…"
    assert found[6:] == tuple(lines[-14:])
    assert len(found) == 20


def test_what_is_short_is_shown_as_it_is() -> None:
    assert transcript.matter(iter(["before", "sh: nothing-here: not found"])) == (
        "before",
        "sh: nothing-here: not found",
    )
    assert transcript.matter(iter([])) == ()


def test_the_newest_are_kept_for_root_alone(tmp_path: Path) -> None:
    for number in range(25):
        printed = tmp_path / "printed"
        printed.write_bytes(b"\xff line\n" * 3)
        kept = transcript.keep(printed, tmp_path / "failed", f"run {number:02}: Make it")
    assert kept.path.name.endswith("-run-24-make-it.txt")
    assert kept.lines == ("\ufffd line",) * 3
    assert len(list((tmp_path / "failed").iterdir())) == 20
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "failed").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("/var/lib/dpkg/info/caddy.postinst: 7: groupadd: not found", "passwd"),
        ("sh: 1: make: not found", "build-essential"),
        ("bash: line 1: curl: command not found", "curl"),
        ("env: ‘python’: No such file or directory", "python-is-python3"),
        ("sh: 1: ./configure: not found", None),
        ("error: groupadd: not found here", None),
        ("404 make not found", None),
    ],
)
def test_a_program_that_is_missing_leads_to_its_package(line: str, package: str | None) -> None:
    assert transcript.missing_package(["Setting up x (1) ...", line, "exit"]) == package
