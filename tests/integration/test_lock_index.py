"""What an index says of a project, and what is said of that: versions taken back, source alone, nothing at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import make_wheel, served

from instar.errors import FetchError, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.python import solve_wheels
from instar.fetch.requirements import Requirement
from instar.fetch.target import WheelTarget
from instar.fetch.wheels import fetch_wheels
from instar.model.digest import Digest
from instar.model.lock import Wheel

BOOKWORM = WheelTarget(python="3.11", architecture="amd64", glibc_minor=36)


class Index:
    """A package index on loopback. ``notes``: file name → attributes of its link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = Cache(folder / "cache")
        self.told: list[str] = []

    def page(self, project: str, notes: dict[str, str]) -> Path:
        folder = self.folder / "simple" / project
        folder.mkdir(parents=True, exist_ok=True)
        links = []
        for name, note in notes.items():
            if name.endswith(".whl"):
                make_wheel(folder, *name.split("-")[:2])
            else:
                (folder / name).write_bytes(b"source")
            digest = Digest.of((folder / name).read_bytes()).hex
            links.append(f'<a href="{name}#sha256={digest}" {note}>{name}</a>')
        (folder / "index.html").write_text(f"<!DOCTYPE html>{''.join(links)}")
        return folder

    def solve(self, *lines: str) -> tuple[Wheel, ...]:
        wanted = [Requirement(file="r.txt", line=number, text=text) for number, text in enumerate(lines, 1)]
        return solve_wheels(wanted, BOOKWORM, self.cache, warn=self.told.append)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index(tmp_path)
    (tmp_path / "simple").mkdir()
    with served(tmp_path) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        yield made


def test_a_version_that_was_taken_back_is_said_with_the_reason(index: Index) -> None:
    index.page(
        "web",
        {
            "web-1.0-py3-none-any.whl": "",
            "web-1.1-py3-none-any.whl": 'data-yanked="it deletes files"',
            "web-1.2-py3-none-any.whl": 'data-yanked=""',
        },
    )
    assert [wheel.version for wheel in index.solve("web")] == ["1.0"]
    assert index.told == []
    assert [wheel.version for wheel in index.solve("web==1.1")] == ["1.1"]
    assert [wheel.version for wheel in index.solve("web==1.2")] == ["1.2"]
    assert index.told == [
        "web 1.1 was yanked by who published it: it deletes files",
        "web 1.2 was yanked by who published it",
    ]


def test_a_project_of_which_there_is_only_source_is_told_without_the_words_of_another_tool(index: Index) -> None:
    index.page("oldie", {"oldie-1.0.tar.gz": ""})
    with pytest.raises(ResolveError) as caught:
        index.solve("oldie>=1")
    assert str(caught.value) == ("r.txt:1: cannot lock 'oldie': the index has no wheel of it that fits, only source")
    assert "--no-build" not in f"{caught.value} {caught.value.hint}"
    assert "from_source" in (caught.value.hint or "")


def test_a_wheel_of_an_index_that_is_not_asked_here_is_told_from_one_that_is_gone(index: Index) -> None:
    index.page("web", {"web-1.0-py3-none-any.whl": ""})
    (here,) = index.solve("web")
    private = dataclasses.replace(here, name="private", filename="private-1.0-py3-none-any.whl", sha256=Digest.of(b"x"))
    with pytest.raises(FetchError, match="the package index that this machine asks has no 'private' at all") as caught:
        fetch_wheels([private], "3.11", index.cache)
    assert "pip config list" in (caught.value.hint or "")
    gone = dataclasses.replace(here, version="0.9", filename="web-0.9-py3-none-any.whl", sha256=Digest.of(b"y"))
    with pytest.raises(FetchError, match=r"'web-0\.9-py3-none-any\.whl': it is no longer on the package index"):
        fetch_wheels([gone], "3.11", index.cache)
