"""The forms of what says which file or revision is fetched. A definition is shown to many, and has no password."""

from __future__ import annotations

from typing import Final

from instar.definition import forms
from instar.definition.forms import Misfit, SecretMisfit, fits

GIT: Final = "git+"
ADDRESS: Final = rf"(git\+)?{forms.URL}"
COMMIT: Final = r"[0-9a-f]{40}([0-9a-f]{24})?"


def address(text: str) -> str:
    """The address of a file, or of a git repository."""
    if not fits(ADDRESS, text):
        raise Misfit("of a git repository: git+https://…" if fits(r"(git|ssh|git\+ssh|file):.*|git@.*", text) else "")
    if "@" in text.split("/")[2]:
        raise SecretMisfit("a definition has no password: the machine's own configuration has it (~/.netrc)")
    return text


def commit(text: str) -> str:
    if not fits(COMMIT, text):
        raise Misfit("a branch or a tag may move; its commit is printed by: git ls-remote URL NAME")
    return text
