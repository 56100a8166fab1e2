"""What an author does before anything runs, without being root."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from author import Author

pytestmark = pytest.mark.root  # to become somebody else


def test_init_writes_a_definition_that_validates(author: Author) -> None:
    made = author.instar("init")
    assert made.returncode == 0, made.stderr
    assert (author.folder / "instar.yaml").read_text().count("#") > 5, "the starter explains itself"
    assert author.instar("validate").returncode == 0
    schema = author.folder / "instar.schema.json"
    assert json.loads(schema.read_text()) == json.loads(author.instar("schema").stdout), "for editors"
    assert (author.folder / "instar.yaml").read_text().startswith(f"# yaml-language-server: $schema={schema.name}\n")


def test_init_never_writes_over_a_file(author: Author) -> None:
    (author.folder / "instar.yaml").write_text("mine\n")
    assert author.instar("init").returncode == 1
    assert (author.folder / "instar.yaml").read_text() == "mine\n"


def test_every_problem_is_told_at_its_place(author: Author) -> None:
    (author.folder / "instar.yaml").write_text(
        "name: Hello\n"
        "image:\n"
        "  base: debian:bookworm\n"
        "  pakages: [python3]\n"
        "service:\n"
        "  command: [python3, -m, http.server]\n"
        "  port: eighty\n"
        "environments:\n"
        "  dev: {listen: '127.0.0.1:8080'}\n"
    )
    result = author.instar("validate")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "instar.yaml:1:7" in result.stderr
    assert "instar.yaml:4:3" in result.stderr
    assert "packages" in result.stderr.splitlines()[1], "the nearest right word"
    assert "instar.yaml:7:9" in result.stderr


def test_a_definition_that_is_missing(author: Author) -> None:
    result = author.instar("validate")
    assert result.returncode == 1
    assert "instar.yaml" in result.stderr
    assert "instar init" in result.stderr, "what to do"


def test_the_schema_is_one_of_objects(author: Author) -> None:
    schema = json.loads(author.instar("schema").stdout)
    assert {"name", "image", "service"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_lock_is_stable_and_names_no_host(author: Author) -> None:
    author.define()
    made = author.instar("lock")
    assert made.returncode == 0, made.stderr
    text = (author.folder / "instar.lock").read_text()
    assert "busybox-static" in text
    assert "://" not in text
    assert author.instar("lock").returncode == 0
    assert (author.folder / "instar.lock").read_text() == text
    assert author.instar("validate").returncode == 0


def test_a_lock_is_held_against_what_there_is(author: Author) -> None:
    author.define()
    author.instar("lock")
    whole = author.instar("lock", "--check", "--json")
    found = json.loads(whole.stdout)
    assert (whole.returncode, found["clean"], found["differences"]) == (0, True, [])
    path = author.folder / "instar.lock"
    lines = path.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if '"name": "dash"' in line)
    planted = lines[number].replace('"name": "dash"', '"name": "evil"').replace("essential", "needed by bash")
    path.write_text("\n".join([*lines[:number], planted, *lines[number:]]) + "\n")
    before = path.read_text()
    differs = author.instar("lock", "--check")
    assert differs.returncode == 2
    assert differs.stdout.startswith("- evil ")
    assert path.read_text() == before


def test_a_lock_that_no_longer_fits_says_which_line_moved(author: Author) -> None:
    author.define()
    assert author.instar("lock").returncode == 0
    author.define(packages="busybox-static, netbase")
    result = author.instar("validate")
    assert result.returncode == 1
    assert "instar.yaml:4" in result.stderr
    assert "netbase" in result.stderr
    assert "instar lock" in result.stderr, "what to do"


def test_a_package_that_does_not_exist_is_named(author: Author) -> None:
    author.define(packages="no-such-package-here")
    result = author.instar("lock")
    assert result.returncode == 1
    assert "no-such-package-here" in result.stderr
    assert not (author.folder / "instar.lock").exists()


def test_what_needs_root_says_so(author: Author) -> None:
    author.define()
    with (author.folder / "instar.yaml").open("a") as file:
        file.write("environments: {dev: {}}\n")
    for words in (["bake"], ["deploy", "dev"], ["promote", "dev", "dev"]):
        result = author.instar(*words)
        assert result.returncode == 1, words
        assert "which takes root" in result.stderr and "sudo instar" in result.stderr, (words, result.stderr)


def test_what_only_looks_needs_no_root(author: Author) -> None:
    author.define()
    own = author.folder / ".local/state/instar"
    for words in (["status"], ["status", "--json"], ["history"], ["images"], ["gc"], ["history", "--verify"]):
        result = author.instar(*words)
        assert result.returncode == 0, (words, result.stderr)
    assert "nothing is deployed of 'hello' now" in author.instar("status").stdout
    assert stat.S_IMODE(own.stat().st_mode) == 0o700 and own.stat().st_uid == author.folder.stat().st_uid
    missing = author.instar("rollback", "hello/dev")
    assert missing.returncode == 1 and "cannot find 'hello/dev'" in missing.stderr


def test_whose_state_it_is_is_said(author: Author, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "state").mkdir(mode=0o700)
    result = author.instar("status", home=tmp_path / "state")
    assert result.returncode == 1
    assert f"it takes root: '{tmp_path}/state' is root's, or another user's" in result.stderr


def test_the_doctor_looks_for_anybody(author: Author) -> None:
    result = author.instar("doctor", "--json")
    assert result.returncode in (0, 69)
    assert json.loads(result.stdout)["warnings"] == []


def test_wrong_usage_is_64(author: Author) -> None:
    for words in (["dploy"], ["deploy"], ["bake", "--no-such-option"], ["rollback", "dev", "--to", "9" * 20]):
        assert author.instar(*words).returncode == 64, words
    assert "'deploy'" in author.instar("dploy").stderr, "the nearest right word"
