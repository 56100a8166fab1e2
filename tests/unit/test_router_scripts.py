"""The scripts beside a router's file: those of the Instar that wrote it are no drift."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.providers.local.inspection.routing import _changed_script
from instar.router import bodies, waiting

FILES = Path(__file__).parent / "router_files"
SCRIPTS = {waiting.SCRIPT: waiting.TEXT, bodies.SCRIPT: bodies.TEXT}


def beside(text: str) -> Any:
    """Return a router that has ``text`` as its script."""
    return SimpleNamespace(files=SimpleNamespace(script=lambda name: name, read=lambda path: text))


@pytest.mark.parametrize(("name", "wanted"), SCRIPTS.items())
def test_a_script_is_that_of_its_file(name: str, wanted: str) -> None:
    older = (FILES / f"form-4-{name}").read_text()
    assert older != wanted
    for text, form, differs in ((wanted, 4, 0), (wanted, 5, 0), (older, 4, 0), (older, 5, 1), (older + "--\n", 4, 1)):
        assert len(list(_changed_script(cast(Any, beside(text)), name, wanted, form))) == differs
