"""What push, pull and import are told wrongly, before anybody is asked; and what they answer."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from instar.cli.main import instar
from instar.model.digest import Digest
from instar.model.reference import Repository
from instar.model.transfer import Transfer
from instar.views.transfers import transfer_json, transfer_page

DIGEST = Digest("sha256:" + "a" * 64)
DEFINITION = "name: web\nimage: {base: debian:bookworm}\nservice: {command: [serve]}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pull", "registry.example/web:v1"], "it ends with a digest"),
        (["pull", "registry.example/web"], "it ends with a digest"),
        (["pull", f"registry.example/web:v1@{DIGEST}"], "both a tag and a digest"),
        (["pull", f"web@{DIGEST}"], "it begins with the registry's host"),
        (["pull", f"https://registry.example/web@{DIGEST}"], "without 'https://'"),
        (["push", "web", "team/web"], "it begins with the registry's host"),
        (["push", "web", "registry.example/web:-x"], "can be no tag"),
        (["push", "web", f"registry.example/web@{DIGEST}"], "after the host stand words"),
        (["push", "web"], "write which repository: IMAGE HOST/PATH, or"),
        (["import", "none.tar"], "does not exist"),
        (["gc", "--registry"], "write which repository: --registry HOST/PATH"),
        (["gc", "--registry", "team/web"], "it begins with the registry's host"),
        (["gc", "--registry", "registry.example/web", "--all"], "goes with nothing else"),
        (["gc", "--registry", "registry.example/web", "--dry-run", "--yes"], "goes with nothing else"),
        (["gc", "--yes"], "--yes is for --registry"),
        (["images", "join", "123456"], "write two images or more"),
    ],
)
def test_words_that_mean_nothing(words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for definition in (None, DEFINITION):
        if definition is not None:
            (tmp_path / "instar.yaml").write_text(definition)
        result = CliRunner().invoke(instar, words, standalone_mode=False)
        assert isinstance(result.exception, click.UsageError) and told in result.exception.format_message()


def test_what_is_answered() -> None:
    done = Transfer(
        repository=Repository(host="registry.example", path="web"),
        digest=DIGEST,
        blobs=3,
        size_bytes=1_000,
        moved=1,
        moved_bytes=10,
        seconds=0.12345,
        tags=("v1",),
    )
    assert transfer_json(done) == {
        "digest": DIGEST,
        "name": "registry.example/web",
        "tags": ("v1",),
        "blobs": 3,
        "size": 1_000,
        "moved": 1,
        "moved_bytes": 10,
        "attachments": 0,
        "seconds": 0.123,
    }
    assert list(transfer_page(done)) == [f"registry.example/web@{DIGEST}"]
