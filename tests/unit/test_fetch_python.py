from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import ResolveError
from instar.fetch.index import parse_index
from instar.fetch.indexes import Login, PythonIndex, all_from, source_of
from instar.fetch.python import solver_error
from instar.fetch.requirements import Requirement
from instar.fetch.target import WheelTarget, best_wheel

BOOKWORM = WheelTarget(python="3.11", architecture="amd64", glibc_minor=36)


@pytest.mark.parametrize(
    ("filenames", "best"),
    [
        (["x-1-py3-none-any.whl", "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"], 1),
        (["x-1-cp311-cp311-manylinux_2_28_x86_64.whl", "x-1-cp311-cp311-manylinux_2_17_x86_64.whl"], 0),
        (["x-1-cp311-cp311-manylinux_2_41_x86_64.whl", "x-1-py3-none-any.whl"], 1),
        (["x-1-cp311-cp311-musllinux_1_2_x86_64.whl", "x-1-py2.py3-none-any.whl"], 1),
        (["x-1-cp312-cp312-manylinux_2_17_x86_64.whl", "x-1-cp38-abi3-manylinux1_x86_64.whl"], 1),
        (["x-1-1build-py3-none-any.whl"], 0),
        (["x-1-cp311-cp311-win_amd64.whl", "x-1-cp311-cp311-macosx_11_0_arm64.whl"], None),
        (["x-1-cp312-abi3-manylinux_2_17_x86_64.whl", "x-1-cp311-cp311-manylinux_2_17_aarch64.whl"], None),
        (["x-1.tar.gz", "x.whl"], None),
    ],
)
def test_the_best_wheel_that_runs_there_is_chosen(filenames: list[str], best: int | None) -> None:
    assert best_wheel(filenames, BOOKWORM.ranks()) == (None if best is None else filenames[best])


def test_the_platform_is_the_newest_that_the_c_library_has() -> None:
    assert BOOKWORM.uv_platform == "x86_64-manylinux_2_36"
    assert WheelTarget(python="3.9", architecture="arm64", glibc_minor=30).uv_platform == "aarch64-manylinux_2_28"
    assert WheelTarget(python="3.13", architecture="amd64", glibc_minor=99).uv_platform == "x86_64-manylinux_2_40"
    with pytest.raises(ResolveError, match="riscv64"):
        _ = WheelTarget(python="3.13", architecture="riscv64", glibc_minor=41).uv_platform


def test_pips_configuration_is_told_to_uv_the_stronger_setting_first() -> None:
    index = parse_index(
        "global.index-url='https://weak.invalid/simple'\n"
        "download.index-url='https://strong.invalid/simple'\n"
        ":env:.extra-index-url='https://one.invalid/s\\nhttps://two.invalid/s'\n"
        "global.cert='/etc/ca.pem'\n"
        "install.cert='/etc/other.pem'\n"
        "global.find-links='/nonexistent /'\n"
        "global.trusted-host='strong.invalid'\n"
        "global.no-index='true'\n"
        ":env:.default-timeout='180'\n"
    )
    assert index.uv_options() == ["--no-index", "--cert", "/etc/ca.pem", "--allow-insecure-host", "strong.invalid"]
    told = index.uv_environment(Path("/x"), {})
    assert {name: told[name] for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS")} == {
        "UV_DEFAULT_INDEX": "https://strong.invalid/simple",
        "UV_INDEX": "https://one.invalid/s https://two.invalid/s",
        "UV_FIND_LINKS": "/",
    }


def test_no_password_is_in_the_words_of_a_command_or_in_what_is_printed() -> None:
    index = PythonIndex(name="my-own", url="https://pypi.invalid/s", login=Login(user="ci", password="p@ss/w:d"))
    pip = parse_index("global.index-url='https://ann:secret@pip.invalid/simple'\n").with_indexes([index], None)
    assert pip.uv_options() == []
    told = pip.uv_environment(Path("/x"), {})
    assert (told["UV_INDEX_MY_OWN_USERNAME"], told["UV_INDEX_MY_OWN_PASSWORD"]) == ("ci", "p@ss/w:d")
    assert told["UV_INDEX"] == "my-own=https://pypi.invalid/s"
    assert index.url_with_login() == "https://ci:p%40ss%2Fw%3Ad@pypi.invalid/s"
    assert "p@ss" not in repr(index)


def test_the_pattern_that_says_most_decides_where_a_project_comes_from() -> None:
    sources = {"mirror": ("*",), "own": ("acme-*",), "other": ("acme-core", "acme-x*")}
    found = {name: source_of(name, sources) for name in ("flask", "acme-a", "acme-core", "acme-xy", "acme")}
    assert found == {"flask": "mirror", "acme-a": "own", "acme-core": "other", "acme-xy": "other", "acme": "mirror"}
    assert all_from(sources) == "mirror"
    assert source_of("flask", {"own": ("acme-*",)}) is None


def test_nothing_configured_names_no_index() -> None:
    assert parse_index("").uv_options() == []


def unknown(name: str, because: str) -> ResolveError:
    """What is made of what uv says when no index has a project."""
    told = f"error: No solution found when resolving dependencies\n  cause: Because {name} was not found in the package"
    told += f" registry and {because}, we can conclude that your requirements are unsatisfiable.\n"
    lines = [("flsk[async]>=3", 4), ("ledgerly", 5)]
    asked = [Requirement(file="requirements.txt", line=line, text=text) for text, line in lines]
    error = solver_error(told, asked)
    assert isinstance(error, ResolveError)
    return error


def test_a_name_that_no_index_has_is_told_with_its_line_and_the_nearest_known_one() -> None:
    error = unknown("flsk", "you require flsk[async]>=3")
    expected = (
        "requirements.txt:4: cannot lock 'flsk[async]>=3': no index that this machine asks has a project of that name"
    )
    assert str(error) == expected
    assert error.hint == "did you mean 'flask'?"
    assert "is the name spelt right?" in str(unknown("ledgerly", "you require ledgerly").hint)


def test_a_name_that_a_requirement_needs_is_told_as_such() -> None:
    error = unknown("missing-part", "ledgerly depends on missing-part")
    assert str(error).startswith("cannot lock the wheels: what is required needs 'missing-part', and no index")
    assert "ledgerly depends on missing-part" in str(error)
    assert "pip config list" in str(error.hint)
